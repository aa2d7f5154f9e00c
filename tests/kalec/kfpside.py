"""What only KFP itself can say of a compiled pipeline. A program for the interpreter that has it; see kfpenvironment.py.

kfpside.py check FILE…                  one JSON object: the errors of each file, by its path
kfpside.py run FILE ROOT ARGUMENTS      runs it with kfp.local under the folder ROOT; the last line is a JSON object
"""

import json
import sys
from pathlib import Path

import yaml

yaml.SafeLoader = yaml.CSafeLoader  # kfp too reads with it then: it is the same, and ten times as fast


def check(path):
    """All that is wrong with a file, as sentences: as kfp loads it, and in how its parts refer to each other."""
    from google.protobuf import json_format
    from kfp import components
    from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes
    from kfp.pipeline_spec import pipeline_spec_pb2

    first, *others = yaml.safe_load_all(Path(path).read_text(encoding="utf-8"))
    try:
        spec = json_format.ParseDict(first, pipeline_spec_pb2.PipelineSpec())
        components.load_component_from_file(str(path))
    except (json_format.ParseError, ValueError, TypeError, RuntimeError) as error:
        return [f"kfp: {type(error).__name__}: {error}"]
    errors = list(graph_errors(spec))
    executors = first["deploymentSpec"]["executors"]
    for document in others:
        platform = document["platforms"]["kubernetes"]
        try:
            json_format.ParseDict(document, pipeline_spec_pb2.PlatformSpec())
        except json_format.ParseError as error:
            errors.append(f"platform: {error}")
        for executor, configuration in platform.get("deploymentSpec", {}).get("executors", {}).items():
            try:
                json_format.ParseDict(configuration, kubernetes.KubernetesExecutorConfig())
            except json_format.ParseError as error:
                errors.append(f"platform of {executor}: {error}")
            if executor not in executors:
                errors.append(f"platform of {executor}: there is no such executor")
    return errors


def graph_errors(spec):
    """References to what is not there, in the graph of tasks."""
    for name, component in spec.components.items():
        if not component.HasField("dag") and component.executor_label not in spec.deployment_spec["executors"].fields:
            yield f"{name}: there is no executor {component.executor_label}"
    tasks = spec.root.dag.tasks
    for name, task in tasks.items():
        if task.component_ref.name not in spec.components:
            yield f"{name}: there is no component {task.component_ref.name}"
            continue
        component = spec.components[task.component_ref.name]
        yield from (
            f"{name}: waits for {other}, which is no task" for other in task.dependent_tasks if other not in tasks
        )
        declared = component.input_definitions
        for key, wanted in declared.parameters.items():
            if not wanted.is_optional and key not in task.inputs.parameters:
                yield f"{name}: nothing is given for {key}"
        yield from (
            f"{name}: nothing is given for {key}" for key in declared.artifacts if key not in task.inputs.artifacts
        )
        for key, source in task.inputs.artifacts.items():
            if key not in declared.artifacts:
                yield f"{name}: takes no artifact {key}"
            yield from producer_errors(spec, name, task, source.task_output_artifact, "artifacts")
        for key, source in task.inputs.parameters.items():
            if key not in declared.parameters:
                yield f"{name}: takes no parameter {key}"
            if (
                source.component_input_parameter
                and source.component_input_parameter not in spec.root.input_definitions.parameters
            ):
                yield f"{name}: the pipeline has no parameter {source.component_input_parameter}"
            yield from producer_errors(spec, name, task, source.task_output_parameter, "parameters")


def producer_errors(spec, name, task, source, kind):
    """What is wrong with where an input comes from."""
    if not source.producer_task:
        return
    if source.producer_task not in task.dependent_tasks:
        yield f"{name}: takes from {source.producer_task} and does not wait for it"
    if source.producer_task not in spec.root.dag.tasks:
        yield f"{name}: takes from {source.producer_task}, which is no task"
        return
    producer = spec.components[spec.root.dag.tasks[source.producer_task].component_ref.name]
    key = source.output_artifact_key if kind == "artifacts" else source.output_parameter_key
    if key not in getattr(producer.output_definitions, kind):
        yield f"{name}: {source.producer_task} does not put out {key}"


def run(path, root, arguments):
    """Run a pipeline here, and return the metrics of each task."""
    from kfp import components, local

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=root, raise_on_error=True)
    components.load_component_from_file(path)(**arguments)
    metrics = {}
    for output in Path(root).glob("*/*/executor_output.json"):
        artifacts = json.loads(output.read_text(encoding="utf-8")).get("artifacts", {})
        metrics[output.parent.name] = {name: found["artifacts"][0]["metadata"] for name, found in artifacts.items()}
    return metrics


def main():
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["check", *paths]:
            answer = {path: check(path) for path in paths}
        case ["run", path, root, arguments]:
            answer = run(path, root, json.loads(arguments))
        case _:
            raise SystemExit(__doc__)
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
