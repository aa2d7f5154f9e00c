"""The KFP v2 specification of a pipeline as plain values: its components, their executors, and the graph of tasks."""

from collections.abc import Mapping, Sequence
from typing import Final

from kalec.emit.claims import create_component, create_task, delete_component, delete_task
from kalec.emit.installation import install_command
from kalec.emit.plan import Plan
from kalec.emit.program import program_of
from kalec.emit.quantity import parse_quantity
from kalec.emit.yamltext import Value
from kalec.model import Parameter, ParameterType, Retry, Step, StepSettings

KFP_VERSION: Final = "2.17.0"
"""The KFP SDK whose output this is like, and which each step installs to be started by it."""

DEFAULT_IMAGE: Final = "python:3.11"
"""What a step runs in when neither the notebook nor the command line names an image."""

RUN_ID: Final = "{{$.pipeline_job_uuid}}"
"""What KFP replaces by the id of the run."""

_TYPES: Final = {
    ParameterType.INTEGER: "NUMBER_INTEGER",
    ParameterType.FLOAT: "NUMBER_DOUBLE",
    ParameterType.TEXT: "STRING",
    ParameterType.BOOLEAN: "BOOLEAN",
    ParameterType.LIST: "LIST",
    ParameterType.DICT: "STRUCT",
}
# Starts the program as the KFP SDK starts a lightweight component; `kfp.local` knows such a component by this text.
_LAUNCH: Final = """\
program_path=$(mktemp -d)
printf "%s" "$0" > "$program_path/ephemeral_component.py"
_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path "$program_path/ephemeral_component.py" "$@"
"""


def specification(plan: Plan) -> dict[str, Value]:
    """The first document of a compiled pipeline."""
    pipeline = plan.pipeline
    about: dict[str, Value] = {"description": pipeline.description} if pipeline.description else {}
    root: dict[str, Value] = {"dag": {"tasks": _tasks(plan)}}
    if pipeline.parameters:
        parameters = {parameter.name: _input(parameter) for parameter in pipeline.parameters}
        root["inputDefinitions"] = {"parameters": parameters}
    return {
        "pipelineInfo": about | {"name": pipeline.name},
        "root": root,
        "components": _components(plan),
        "deploymentSpec": {"executors": _executors(plan)},
        "schemaVersion": "2.1.0",
        "sdkVersion": f"kfp-{KFP_VERSION}",
    }


def _input(parameter: Parameter) -> dict[str, Value]:
    """A parameter of the pipeline or of a step, which may be left out when it has a default; None is its absence."""
    declared: dict[str, Value] = {}
    if parameter.default is not None:
        declared["defaultValue"] = parameter.default
    if not parameter.required:
        declared["isOptional"] = True
    return declared | {"parameterType": _TYPES[parameter.type]}


def _tasks(plan: Plan) -> dict[str, Value]:
    tasks: dict[str, Value] = {}
    for claim in plan.made:
        tasks[claim.task] = _task(claim.task, inputs=create_task(claim))
    for step in plan.pipeline.steps:
        after = [plan.tasks[before] for before in step.after] + [claim.task for claim in plan.made]
        tasks[plan.tasks[step.name]] = _task(
            plan.tasks[step.name],
            inputs=_step_inputs(plan, step),
            after=after,
            cached=_is_cached(plan, step),
            retry=step.settings.retry,
        )
    for task, claim in plan.removed.items():
        tasks[task] = _task(task, inputs=delete_task(claim), after=[*plan.tasks.values(), claim.task])
    return tasks


def _task(
    name: str,
    *,
    inputs: Mapping[str, Value],
    after: Sequence[str] = (),
    cached: bool = False,
    retry: Retry | None = None,
) -> dict[str, Value]:
    task: dict[str, Value] = {
        "cachingOptions": {"enableCache": True} if cached else {},
        "componentRef": {"name": f"comp-{name}"},
    }
    if after:
        task["dependentTasks"] = sorted(after)
    if inputs:
        task["inputs"] = inputs
    if retry:
        task["retryPolicy"] = _retry(retry)
    return task | {"taskInfo": {"name": name}}


def _step_inputs(plan: Plan, step: Step) -> dict[str, Value]:
    signature = plan.signatures[step.name]
    artifacts: dict[str, Value] = {
        argument: {
            "taskOutputArtifact": {
                "outputArtifactKey": plan.signatures[source].values,
                "producerTask": plan.tasks[source],
            }
        }
        for source, argument in signature.inputs.items()
    }
    parameters: dict[str, Value] = {
        argument: {"componentInputParameter": parameter.name} for argument, parameter in signature.parameters.items()
    }
    if signature.run:
        parameters[signature.run] = {"runtimeValue": {"constant": RUN_ID}}
    return {key: part for key, part in (("artifacts", artifacts), ("parameters", parameters)) if part}


def _is_cached(plan: Plan, step: Step) -> bool:
    """Whether KFP may hand over the result of an earlier run. It cannot when the values lie on a volume of that run."""
    said = step.settings.enable_caching
    wanted = plan.pipeline.settings.enable_caching if said is None else said
    return wanted is not False and step.name not in plan.options.uncached and not plan.options.shared


def _retry(retry: Retry) -> dict[str, Value]:
    policy: dict[str, Value] = {
        "backoffDuration": _seconds(retry.interval_seconds),
        "backoffFactor": float(retry.factor),
        "maxRetryCount": retry.times,
    }
    if retry.max_interval_seconds is not None:
        policy["backoffMaxDuration"] = _seconds(retry.max_interval_seconds)
    return dict(sorted(policy.items()))


def _seconds(seconds: float) -> str:
    """A duration as protobuf writes it in JSON."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def _components(plan: Plan) -> dict[str, Value]:
    components: dict[str, Value] = {f"comp-{claim.task}": create_component(f"exec-{claim.task}") for claim in plan.made}
    for step in plan.pipeline.steps:
        components[f"comp-{plan.tasks[step.name]}"] = _component(plan, step)
    return components | {f"comp-{task}": delete_component(f"exec-{task}") for task in plan.removed}


def _component(plan: Plan, step: Step) -> dict[str, Value]:
    signature = plan.signatures[step.name]
    inputs: dict[str, Value] = {}
    outputs: dict[str, Value] = {}
    if signature.inputs:
        inputs["artifacts"] = {argument: _artifact("system.Artifact") for argument in signature.inputs.values()}
    parameters: dict[str, Value] = {argument: _input(parameter) for argument, parameter in signature.parameters.items()}
    if signature.run:
        parameters[signature.run] = {"parameterType": "STRING"}
    if parameters:
        inputs["parameters"] = parameters
    kinds = {signature.values: "system.Artifact", signature.metrics: "system.Metrics", signature.report: "system.HTML"}
    artifacts: dict[str, Value] = {argument: _artifact(kind) for argument, kind in kinds.items() if argument}
    if artifacts:
        outputs["artifacts"] = artifacts
    component: dict[str, Value] = {"executorLabel": plan.executors[step.name]}
    if inputs:
        component["inputDefinitions"] = inputs
    if outputs:
        component["outputDefinitions"] = outputs
    return component


def _artifact(schema: str) -> dict[str, Value]:
    return {"artifactType": {"schemaTitle": schema, "schemaVersion": "0.0.1"}}


def _executors(plan: Plan) -> dict[str, Value]:
    executors: dict[str, Value] = {
        f"exec-{claim.task}": {"container": {"image": "argostub/createpvc"}} for claim in plan.made
    }
    for step in plan.pipeline.steps:
        executors[plan.executors[step.name]] = {"container": container_of(plan, step)}
    return executors | {f"exec-{task}": {"container": {"image": "argostub/deletepvc"}} for task in plan.removed}


def container_of(plan: Plan, step: Step) -> dict[str, Value]:
    """The container of a step, as its executor has it."""
    signature = plan.signatures[step.name]
    install: list[Value] = []
    if plan.options.install:
        install = list(install_command(plan.options.requirements.get(step.name, ()), KFP_VERSION))
    program = program_of(plan, step)
    image = step.settings.base_image or plan.pipeline.settings.base_image or DEFAULT_IMAGE
    container: dict[str, Value] = {
        "image": image,
        "command": [*install, "sh", "-ec", _LAUNCH, program],
        "args": ["--executor_input", "{{$}}", "--function_to_execute", signature.function],
    }
    environment = _environment(plan, step)
    if environment:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(environment.items())]
    resources = _resources(step.settings)
    if resources:
        container["resources"] = resources
    return container


def _environment(plan: Plan, step: Step) -> dict[str, str]:
    volumes = plan.pipeline.settings.volumes
    exposed = {volume.environment_variable: volume.mount_point for volume in volumes if volume.environment_variable}
    return exposed | dict(step.settings.environment)


def _resources(settings: StepSettings) -> dict[str, Value]:
    """Limits and requests: as quantities, and as the numbers that backends before 2.4 read."""
    resources: dict[str, Value] = {}
    for kind, amounts in (("Limit", settings.limits), ("Request", settings.requests)):
        for resource, unit in (("cpu", 1), ("memory", 10**9)):
            quantity = amounts.get(resource)
            number = parse_quantity(quantity) if quantity else None
            if quantity and number is not None:
                resources[f"{resource}{kind}"] = float(number / unit)
                resources[f"resource{resource.capitalize()}{kind}"] = quantity
    for resource, quantity in accelerators(settings):
        both = {"count": quantity, "resourceCount": quantity, "resourceType": resource, "type": resource}
        resources["accelerator"] = both
    return dict(sorted(resources.items()))


def accelerators(settings: StepSettings) -> list[tuple[str, str]]:
    """The limits of other resources than cpu and memory. KFP has room for one of them."""
    return [(name, quantity) for name, quantity in sorted(settings.limits.items()) if name not in ("cpu", "memory")]
