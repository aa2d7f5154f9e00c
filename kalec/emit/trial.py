"""A trial of Katib: run the pipeline once with the values that it was given, and print what it measured.

This text travels in a ConfigMap beside the pipeline, and runs in a container that has `kfp`. What a trial measures is taken
from the logs of its steps, each of which prints `kalec: metric NAME=VALUE`: the API of KFP does not give metrics back.
"""

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = "/kalec"
NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
LONGEST_SECONDS = 30 * 24 * 3600


def main() -> None:
    """Run the pipeline: the arguments are the trial's name, then NAME=VALUE of each tuned parameter."""
    kfp, kubernetes = import_module("kfp"), import_module("kubernetes")  # the container has them
    kubernetes.config.load_incluster_config()
    settings = json.loads(Path(HERE, "trial.json").read_text(encoding="utf-8"))
    namespace = Path(NAMESPACE).read_text(encoding="utf-8").strip()
    sys.exit(
        run_trial(
            sys.argv[1:], settings, namespace, kfp.Client(host=settings["host"] or None), kubernetes.client.CoreV1Api()
        )
    )


def run_trial(arguments: list[str], settings: dict[str, Any], namespace: str, pipelines: Any, pods: Any) -> int:
    """Run one trial to its end. `pipelines` is a kfp.Client, `pods` a kubernetes CoreV1Api. Returns the exit code."""
    trial, *texts = arguments
    values = {}
    for text in texts:
        name, _, value = text.partition("=")
        values[name] = typed(value, settings["types"][name])
    run = pipelines.create_run_from_pipeline_package(
        f"{HERE}/pipeline.yaml",
        arguments=values,
        run_name=trial,
        experiment_name=settings["experiment"],
        namespace=namespace,
    )
    done = pipelines.wait_for_run_completion(run.run_id, LONGEST_SECONDS)
    if str(done.state).upper() != "SUCCEEDED":
        print(f"kalec: run {run.run_id} of trial {trial} ended as {done.state}", file=sys.stderr)  # noqa: T201
        return 1
    measured = metrics_of(run.run_id, namespace, pods)
    for name in settings["metrics"]:
        if name in measured:
            print(f"{name}={measured[name]}", flush=True)  # noqa: T201 - this is where Katib looks
    if settings["metrics"][0] not in measured:
        print(f"kalec: no step of run {run.run_id} printed {settings['metrics'][0]}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def typed(text: str, kind: str) -> Any:
    """The value of a parameter from the text that Katib gives."""
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(float(text))
    return float(text) if kind == "float" else text


def metrics_of(run_id: str, namespace: str, pods: Any) -> dict[str, str]:
    """What the steps of a run have printed as metrics, by name."""
    found: dict[str, str] = {}
    for pod in pods.list_namespaced_pod(namespace, label_selector=f"pipeline/runid={run_id}").items:
        log = pods.read_namespaced_pod_log(pod.metadata.name, namespace, container="main")
        for name, value in re.findall(r"^.*?kalec: metric ([\w-]+)=(\S+)$", log, re.MULTILINE):
            found[name] = value
    return found


if __name__ == "__main__":
    main()
