"""A Katib Experiment in which every trial is a run of a pipeline."""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from kalec.emit.naming import unique
from kalec.emit.options import EmitOptions
from kalec.emit.pipeline import pipeline_yaml
from kalec.emit.specification import KFP_VERSION
from kalec.emit.yamltext import Value, to_yaml
from kalec.model import Pipeline, Tuning, TuningParameter

CONFIG_MAP_LIMIT: Final = 1_000_000
"""The bytes that a ConfigMap may hold, a little under Kubernetes' 1 MiB: names and framing count too."""

_TRIAL_IMAGE: Final = "python:3.11"
_JOB_STATE: Final = 'status.conditions.#(type=="{}")#|#(status=="True")#'  # how Katib asks a Job for its state


class TrialOptions(NamedTuple):
    """How the trials are run; "" is the cluster's own, or the default."""

    namespace: str = ""
    service_account: str = "default-editor"  # may run pipelines, and read the logs of pods
    image: str = ""  # has kfp; "" is one in which it is installed first
    host: str = ""  # of the KFP API


def experiment_yaml(pipeline: Pipeline, tuning: Tuning, options: EmitOptions, trial: TrialOptions) -> str:
    """Two documents: a ConfigMap with the pipeline and what starts a trial, and the Experiment.

    Steps that report metrics are never cached, so that every trial measures; all others may be. The tuning must have
    passed `kalec.emit.tuning.check_tuning`.
    """
    contents = trial_files(pipeline, tuning, options, trial)
    metadata: dict[str, Value] = {"name": pipeline.name}
    if trial.namespace:
        metadata["namespace"] = trial.namespace
    files: Mapping[str, Value] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata | {"name": f"{pipeline.name}-trial"},
        "data": contents,
    }
    experiment: Mapping[str, Value] = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": metadata,
        "spec": _spec(pipeline, tuning, trial),
    }
    header = f"Compiled by kalec from {pipeline.source}; change the source and compile again."
    return f"{to_yaml(files, header=header)}---\n{to_yaml(experiment)}"


def trial_files(pipeline: Pipeline, tuning: Tuning, options: EmitOptions, trial: TrialOptions) -> dict[str, str]:
    """The files of a trial's container, by name."""
    reporting = frozenset(step for step, _ in pipeline.metrics)
    settings = {
        "experiment": pipeline.experiment or pipeline.name,
        "host": trial.host,
        "metrics": [tuning.objective, *tuning.additional_metrics],
        "types": {parameter.name: parameter.type.value for parameter in pipeline.parameters},
    }
    return {
        "pipeline.yaml": pipeline_yaml(pipeline, options._replace(uncached=options.uncached | reporting)),
        "trial.json": json.dumps(settings, indent=2, sort_keys=True) + "\n",
        "trial.py": _trial_program(),
    }


def _spec(pipeline: Pipeline, tuning: Tuning, trial: TrialOptions) -> dict[str, Value]:
    objective: dict[str, Value] = {"type": tuning.objective_type, "objectiveMetricName": tuning.objective}
    if tuning.goal is not None:
        objective["goal"] = tuning.goal
    if tuning.additional_metrics:
        objective["additionalMetricNames"] = list(tuning.additional_metrics)
    algorithm: dict[str, Value] = {"algorithmName": tuning.algorithm}
    if tuning.algorithm_settings:
        algorithm["algorithmSettings"] = [
            {"name": name, "value": value} for name, value in sorted(tuning.algorithm_settings.items())
        ]
    return {
        "objective": objective,
        "algorithm": algorithm,
        "maxTrialCount": tuning.max_trials,
        "maxFailedTrialCount": tuning.max_failed_trials,
        "parallelTrialCount": tuning.parallel_trials,
        "parameters": [_parameter(parameter) for parameter in tuning.parameters],
        "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
        "trialTemplate": _template(pipeline, tuning, trial),
    }


def _parameter(parameter: TuningParameter) -> dict[str, Value]:
    space: dict[str, Value] = {
        key: text
        for key, text in (("min", parameter.minimum), ("max", parameter.maximum), ("step", parameter.step))
        if text
    }
    if parameter.choices:
        space["list"] = list(parameter.choices)
    return {"name": parameter.name, "parameterType": parameter.type, "feasibleSpace": space}


def _template(pipeline: Pipeline, tuning: Tuning, trial: TrialOptions) -> dict[str, Value]:
    names = [parameter.name for parameter in tuning.parameters]
    trial_name = unique("trialName", set(names))
    references: list[Value] = [
        {"name": trial_name, "description": "The name of the trial", "reference": "${trialSpec.Name}"}
    ]
    references += [{"name": name, "description": f"Parameter {name}", "reference": name} for name in names]
    return {
        "primaryContainerName": "trial",
        "successCondition": _JOB_STATE.format("Complete"),
        "failureCondition": _JOB_STATE.format("Failed"),
        "trialParameters": references,
        "trialSpec": _job(pipeline, trial, [trial_name, *names]),
    }


def _job(pipeline: Pipeline, trial: TrialOptions, names: list[str]) -> dict[str, Value]:
    """The Job of a trial. Katib puts the values in place of the references among its arguments."""
    install = f"python3 -m pip install --quiet kfp=={KFP_VERSION} && " if not trial.image else ""
    first, *tuned = [f"${{trialParameters.{name}}}" for name in names]
    container: dict[str, Value] = {
        "name": "trial",
        "image": trial.image or _TRIAL_IMAGE,
        "command": ["sh", "-c", f'{install}exec python3 /kalec/trial.py "$@"', "trial"],
        "args": [first, *(f"{name}={reference}" for name, reference in zip(names[1:], tuned, strict=True))],
        "volumeMounts": [{"name": "kalec", "mountPath": "/kalec", "readOnly": True}],
    }
    pod: dict[str, Value] = {
        "serviceAccountName": trial.service_account,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "kalec", "configMap": {"name": f"{pipeline.name}-trial"}}],
    }
    about: Mapping[str, Value] = {"annotations": {"sidecar.istio.io/inject": "false"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"backoffLimit": 0, "template": {"metadata": about, "spec": pod}},
    }


@cache
def _trial_program() -> str:
    text = Path(__file__).with_name("trial.py").read_text(encoding="utf-8")
    return re.sub(r"  # (noqa|type): .*", "", text)
