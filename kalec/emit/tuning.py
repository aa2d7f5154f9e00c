"""Whether a notebook's tuning fits its pipeline, and whether Katib would take it: the rules of its webhook and algorithms.

The rules were read from Katib's experiment validator and its suggestion services, as of 0.19.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from kalec.findings import Findings, did_you_mean
from kalec.model import Parameter, ParameterType, Pipeline, Place, Tuning, TuningParameter

ALGORITHMS: Final = (
    "random", "grid", "bayesianoptimization", "tpe", "multivariate-tpe", "cmaes", "sobol", "hyperband", "pbt",
)  # fmt: skip
"""What Katib is installed with, but for the algorithms that search for the shape of a neural network."""

_RANGES: Final = ("int", "double")
_LISTS: Final = ("discrete", "categorical")
# The types of Katib that a parameter of the pipeline can be given by.
_FITTING: Final = {
    ParameterType.INTEGER: ("int", "discrete"),
    ParameterType.FLOAT: ("double", "int", "discrete"),
    ParameterType.TEXT: ("categorical", "discrete"),
    ParameterType.BOOLEAN: ("categorical",),
}


def check_tuning(pipeline: Pipeline, tuning: Tuning, findings: Findings) -> None:
    """Collect what is wrong: KLC311 where it does not fit the pipeline, KLC312 where Katib would refuse it."""
    place = Place(pipeline.source)
    for message in _against_pipeline(pipeline, tuning):
        findings.add("KLC311", place, message)
    for message in (*_against_katib(tuning), *_against_algorithm(tuning)):
        findings.add("KLC312", place, message)


def _against_pipeline(pipeline: Pipeline, tuning: Tuning) -> Iterator[str]:
    known = {parameter.name: parameter for parameter in pipeline.parameters}
    for tuned in tuning.parameters:
        if tuned.name not in known:
            yield f"the pipeline has no parameter {tuned.name!r}{did_you_mean(tuned.name, known)}"
        else:
            yield from _against_parameter(tuned, known[tuned.name])
    given = {tuned.name for tuned in tuning.parameters}
    for parameter in pipeline.parameters:
        if parameter.required and parameter.name not in given:
            yield f"parameter {parameter.name!r} has no default, and is not tuned"
    metrics = {metric.name for _, metric in pipeline.metrics}
    for name in (tuning.objective, *tuning.additional_metrics):
        if name and name not in metrics:
            has = f"it has {', '.join(sorted(metrics))}" if metrics else "tag a cell pipeline-metrics that prints it"
            yield f"the pipeline has no metric {name!r}: {has}"


def _against_parameter(tuned: TuningParameter, parameter: Parameter) -> Iterator[str]:
    fitting = _FITTING.get(parameter.type, ())
    if not fitting:
        yield f"parameter {tuned.name!r} is a {parameter.type.value}, which Katib cannot vary"
    elif tuned.type in (*_RANGES, *_LISTS) and tuned.type not in fitting:
        yield f"parameter {tuned.name!r} is {parameter.type.value} in the pipeline, and {tuned.type} in the tuning"
    readers = {ParameterType.INTEGER: _is_whole, ParameterType.FLOAT: _is_number, ParameterType.BOOLEAN: _is_truth}
    is_readable = readers.get(parameter.type)
    for choice in tuned.choices:
        if is_readable and not is_readable(choice):
            yield f"parameter {tuned.name!r} is {parameter.type.value}, and cannot be {choice!r}"


def _against_katib(tuning: Tuning) -> Iterator[str]:
    yield from _counts(tuning)
    if not tuning.objective:
        yield "there is no objective: name a metric in katib_metadata.objective.objectiveMetricName"
    if tuning.objective_type not in ("maximize", "minimize"):
        yield f"the objective's type is {tuning.objective_type!r}, and must be maximize or minimize"
    if tuning.objective in tuning.additional_metrics:
        yield f"{tuning.objective!r} is the objective, and an additional metric too"
    for name in (tuning.objective, *tuning.additional_metrics):
        if not re.fullmatch(r"[\w-]*", name, re.ASCII):
            yield f"metric {name!r} is not of letters, digits, _ and -, so Katib cannot find it in what a trial prints"
    if not tuning.parameters:
        yield "there are no parameters to tune"
    names = [parameter.name for parameter in tuning.parameters]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"parameter {name!r} is there twice"
    for parameter in tuning.parameters:
        yield from _space(parameter)


def _counts(tuning: Tuning) -> Iterator[str]:
    if tuning.max_trials <= 0 or tuning.parallel_trials <= 0:
        yield "maxTrialCount and parallelTrialCount must be more than 0"
    if tuning.max_failed_trials < 0:
        yield "maxFailedTrialCount must not be less than 0"
    for key, count in (
        ("maxFailedTrialCount", tuning.max_failed_trials),
        ("parallelTrialCount", tuning.parallel_trials),
    ):
        if count > tuning.max_trials:
            yield f"{key} is {count}, and maxTrialCount {tuning.max_trials}"


def _space(parameter: TuningParameter) -> Iterator[str]:
    """What is wrong with the values that a parameter may have."""
    about = f"parameter {parameter.name!r}"
    if parameter.type in _LISTS:
        if not parameter.choices:
            yield f"{about} is {parameter.type}, and needs a list"
        if parameter.minimum or parameter.maximum or parameter.step:
            yield f"{about} is {parameter.type}, and has no min, max and step"
    elif parameter.type in _RANGES:
        if parameter.choices:
            yield f"{about} is {parameter.type}, and has no list"
        if not (parameter.minimum and parameter.maximum):
            yield f"{about} is {parameter.type}, and needs min and max"
        else:
            yield from _range(parameter)
    else:
        yield f"{about} has the type {parameter.type!r}{did_you_mean(parameter.type, (*_RANGES, *_LISTS))}"


def _range(parameter: TuningParameter) -> Iterator[str]:
    is_readable = _is_whole if parameter.type == "int" else _is_number
    said = [text for text in (parameter.minimum, parameter.maximum, parameter.step) if text]
    wrong = [text for text in said if not is_readable(text)]
    if wrong:
        yield f"parameter {parameter.name!r} is {parameter.type}, and {wrong[0]!r} is none"
    elif float(parameter.minimum) > float(parameter.maximum):
        yield f"parameter {parameter.name!r} has a min of {parameter.minimum} and a max of {parameter.maximum}"
    elif parameter.step and float(parameter.step) <= 0:
        yield f"parameter {parameter.name!r} has the step {parameter.step}, and it must be more than 0"


class _Setting(NamedTuple):
    """A setting of an algorithm: the values that it takes, in words and as a test."""

    wanted: str
    is_right: Callable[[str], bool]


def _one_of(*words: str) -> _Setting:
    return _Setting(f"one of {', '.join(words)}", lambda text: text in words)


_SEED: Final = _Setting("a whole number of 0 or more", lambda text: _is_whole(text) and int(text) >= 0)
_POSITIVE: Final = _Setting("a number of more than 0", lambda text: _is_number(text) and float(text) > 0)
_SHARE: Final = _Setting("a number from 0 to 1", lambda text: _is_number(text) and 0 <= float(text) <= 1)
_ANY: Final = _Setting("any text", lambda text: True)
_SETTINGS: Final[Mapping[str, Mapping[str, _Setting]]] = {
    "random": {"random_state": _SEED},
    "grid": {"random_state": _SEED},
    "bayesianoptimization": {
        "base_estimator": _one_of("GP", "RF", "ET", "GBRT"),
        "n_initial_points": _SEED,
        "acq_func": _one_of("gp_hedge", "LCB", "EI", "PI", "EIps", "PIps"),
        "acq_optimizer": _one_of("auto", "sampling", "lbfgs"),
        "random_state": _SEED,
    },
    "tpe": {"gamma": _SHARE, "prior_weight": _POSITIVE, "n_EI_candidates": _POSITIVE, "random_state": _SEED},
    "hyperband": {"r_l": _POSITIVE, "eta": _POSITIVE, "resource_name": _ANY},
    "pbt": {
        "suggestion_trial_dir": _ANY,
        "n_population": _Setting("a whole number of 5 or more", lambda text: _is_whole(text) and int(text) >= 5),
        "truncation_threshold": _SHARE,
        "resample_probability": _SHARE,
    },
}
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "hyperband": ("r_l", "resource_name"),
    "pbt": ("suggestion_trial_dir", "n_population", "truncation_threshold"),
}


def _against_algorithm(tuning: Tuning) -> Iterator[str]:
    name, settings = tuning.algorithm, tuning.algorithm_settings
    if name not in ALGORITHMS:
        told = f"there is no algorithm {name!r}{did_you_mean(name, ALGORITHMS)}" if name else "there is no algorithm"
        yield f"{told} (Katib has {', '.join(ALGORITHMS)})"
        return
    known = _SETTINGS.get(name)
    for key, text in sorted(settings.items()):
        if known is not None and key not in known:
            yield f"algorithm {name} has no setting {key!r}{did_you_mean(key, known)}"
        elif known is not None and not known[key].is_right(text):
            yield f"the setting {key} of {name} is {text!r}, and must be {known[key].wanted}"
    missing = [key for key in _REQUIRED.get(name, ()) if key not in settings]
    if missing:
        yield f"algorithm {name} needs the settings {' and '.join(missing)}"
    elif name == "hyperband":
        yield from _hyperband(tuning)
    if name == "grid":
        yield from _grid(tuning)
    if name == "cmaes" and sum(parameter.type in _RANGES for parameter in tuning.parameters) < 2:
        yield "algorithm cmaes needs two or more parameters that are int or double"


def _hyperband(tuning: Tuning) -> Iterator[str]:
    settings = tuning.algorithm_settings
    resource = settings["resource_name"]
    if resource not in {parameter.name for parameter in tuning.parameters}:
        yield f"the setting resource_name of hyperband is {resource!r}, which is no tuned parameter"
    length, eta = settings["r_l"], settings.get("eta", "3")
    if _POSITIVE.is_right(length) and _POSITIVE.is_right(eta) and float(length) > 0 and int(float(eta)) > 1:
        whole_eta = int(float(eta))
        needed = math.ceil(whole_eta ** int(math.log(float(length)) / math.log(whole_eta)))
        if tuning.parallel_trials < needed:
            yield f"hyperband with r_l {length} and eta {eta} needs a parallelTrialCount of {needed} or more"


def _grid(tuning: Tuning) -> Iterator[str]:
    combinations = 1
    for parameter in tuning.parameters:
        if parameter.type == "double" and not parameter.step:
            yield f"parameter {parameter.name!r} is double, and needs a step for the algorithm grid"
            return
        if next(_space(parameter), None):
            return
        combinations *= _values(parameter)
    if combinations < tuning.max_trials:
        yield f"maxTrialCount is {tuning.max_trials}, and the grid has {combinations} combinations"


def _values(parameter: TuningParameter) -> int:
    """How many values a parameter may have on a grid."""
    if parameter.choices:
        return len(parameter.choices)
    steps = (float(parameter.maximum) - float(parameter.minimum)) / float(parameter.step or "1")
    return math.floor(steps + 1e-9) + 1


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text, re.ASCII) is not None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_truth(text: str) -> bool:
    return text in ("True", "False", "true", "false")
