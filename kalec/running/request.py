"""What is asked of a run, checked before anything starts: parameters, steps, volumes, secrets."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kalec.errors import NotFound, Refused
from kalec.model import JsonValue, Parameter, ParameterType, Pipeline


@dataclass(frozen=True, slots=True)
class Request:
    """A run that can be started."""

    parameters: Mapping[str, JsonValue]
    chosen: frozenset[str]  # the steps that run; results of the others are taken from earlier runs
    fresh: frozenset[str]  # those of them that run even when their result is known
    paths: Mapping[str, str]  # from a volume's mount point to the folder that stands for it
    environment: Mapping[str, str]  # variables that hold those folders


def read_parameters(pipeline: Pipeline, words: Sequence[str]) -> dict[str, JsonValue]:
    """The value of every parameter: `name=value` words over the defaults. Raises Refused."""
    declared = {parameter.name: parameter for parameter in pipeline.parameters}
    values = {parameter.name: parameter.default for parameter in pipeline.parameters if not parameter.required}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise Refused(f"--param {word!r} is not NAME=VALUE")
        if name not in declared:
            raise Refused(f"{pipeline.source} has no parameter {name!r}", hint=near(name, declared))
        values[name] = _value(declared[name], text)
    missing = [name for name in declared if name not in values]
    if missing:
        raise Refused(
            f"{pipeline.source} needs a value for {', '.join(missing)}", hint=f"give it as --param {missing[0]}=VALUE"
        )
    return values


def choose_steps(pipeline: Pipeline, first: str, last: str) -> frozenset[str]:
    """The steps from `first` on, up to `last`; "" is no bound. Raises NotFound, Refused."""
    names = [step.name for step in pipeline.steps]
    for option, name in (("--from", first), ("--to", last)):
        if name and name not in names:
            raise NotFound(f"{option} {name}: {pipeline.source} has no such step", hint=near(name, names))
    chosen = set(names)
    if first:
        chosen &= {name for name in names if name == first or first in pipeline.ancestors(name)}
    if last:
        chosen &= pipeline.ancestors(last) | {last}
    if not chosen and names:
        raise Refused(f"no step lies between {first} and {last}: {last} does not come after {first}")
    return frozenset(chosen)


def map_volumes(pipeline: Pipeline, words: Sequence[str], folder: Path) -> dict[str, Path]:
    """The folder that stands for each volume, by its mount point; those that are mounted here are left out.

    `words` are `name=folder`; a volume without one is `folder`/NAME, which is made when the run starts. Raises Refused.
    """
    volumes = {volume.name: volume for volume in pipeline.settings.volumes}
    given: dict[str, Path] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not text:
            raise Refused(f"--volume {word!r} is not NAME=FOLDER")
        if name not in volumes:
            raise Refused(f"{pipeline.source} has no volume {name!r}", hint=near(name, volumes))
        if not Path(text).is_dir():
            raise Refused(f"--volume {word}: {text} is not a folder")
        given[name] = Path(text).resolve()
    return {
        volume.mount_point: given.get(name, folder / name)
        for name, volume in volumes.items()
        if name in given or not Path(volume.mount_point).is_dir()
    }


def volume_variables(pipeline: Pipeline, paths: Mapping[str, Path]) -> dict[str, str]:
    """The environment variables that hold the volumes' folders, where the notebook asks for them."""
    return {
        volume.environment_variable: str(paths.get(volume.mount_point, volume.mount_point))
        for volume in pipeline.settings.volumes
        if volume.environment_variable
    }


def check_secrets(pipeline: Pipeline, chosen: frozenset[str], environment: Mapping[str, str]) -> None:
    """Secrets live in a cluster; here their variables must be set by the user. Raises Refused."""
    for step in pipeline.steps:
        for secret in step.settings.secrets:
            if step.name in chosen and secret.variable not in environment:
                raise Refused(
                    f"step {step.name} needs the key {secret.key} of the secret {secret.name}, which is not here",
                    hint=f"put its value into the environment variable {secret.variable}",
                )


def near(name: str, names: Iterable[str]) -> str:
    """A hint with the name that was meant, or with all there are."""
    known = list(names)
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"did you mean {close[0]}?"
    return f"it has {', '.join(known)}" if known else "it has none"


def _value(parameter: Parameter, text: str) -> JsonValue:
    kind = parameter.type
    if kind is ParameterType.TEXT:
        return text
    if parameter.default is None and not parameter.required and text in ("null", "None"):
        return None
    try:
        if kind is ParameterType.INTEGER:
            return int(text)
        if kind is ParameterType.FLOAT:
            return float(text)
        if kind is ParameterType.BOOLEAN:
            return {"true": True, "false": False}[text.lower()]
        value: JsonValue = json.loads(text)
    except (ValueError, KeyError):
        raise _wrong(parameter, text) from None
    if not isinstance(value, list if kind is ParameterType.LIST else dict):
        raise _wrong(parameter, text)
    return value


def _wrong(parameter: Parameter, text: str) -> Refused:
    wanted = {
        ParameterType.INTEGER: ("an integer", "-5"),
        ParameterType.FLOAT: ("a number", "0.5"),
        ParameterType.BOOLEAN: ("true or false", "true"),
        ParameterType.LIST: ("a JSON list", "'[1, 2]'"),
        ParameterType.DICT: ("a JSON object", "'{\"a\": 1}'"),
    }
    words, example = wanted[parameter.type]
    return Refused(
        f"parameter {parameter.name} is {words}, and {text!r} is not", hint=f"as --param {parameter.name}={example}"
    )
