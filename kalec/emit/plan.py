"""A pipeline with the names that its parts have in KFP: tasks, claims, and the arguments of each step's function."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from kalec.emit.claims import VALUES_MOUNT, Claim, claims_of
from kalec.emit.naming import task_names, unique
from kalec.emit.options import EmitOptions
from kalec.model import Parameter, Pipeline, Step

_GLOBALS: Final = frozenset(["STEP", "kalec_runtime"])  # what the function uses; see kalec.emit.program


class Signature(NamedTuple):
    """The function of a step: its name, and those of its arguments. "" is an argument that it does not have."""

    function: str
    parameters: Mapping[str, Parameter]  # by argument, which has the parameter's name wherever it can
    inputs: Mapping[str, str]  # by step that a value comes from, when values travel as artifacts
    run: str  # the id of the run, when values travel on a volume
    values: str
    metrics: str
    report: str


class Plan(NamedTuple):
    """A pipeline with the names of its parts in KFP."""

    pipeline: Pipeline
    options: EmitOptions
    tasks: Mapping[str, str]  # by step
    claims: Sequence[Claim]
    signatures: Mapping[str, Signature]  # by step

    @property
    def executors(self) -> dict[str, str]:
        """The executor of each step."""
        return {step: f"exec-{task}" for step, task in self.tasks.items()}

    @property
    def made(self) -> list[Claim]:
        """The claims that tasks make."""
        return [claim for claim in self.claims if claim.task]

    @property
    def removed(self) -> dict[str, Claim]:
        """The claims that are removed after the last step, by the task that does it."""
        return {claim.task.replace("create", "delete"): claim for claim in self.made if claim.for_values}

    @property
    def values_folder(self) -> str:
        """The folder on the shared volume under which each run has one for its values."""
        named = self.options.shared.name if self.options.shared else ""
        mounts = [volume.mount_point for volume in self.pipeline.settings.volumes if named and volume.name == named]
        return (mounts[0].rstrip("/") + "/.kalec") if mounts else VALUES_MOUNT


def plan_of(pipeline: Pipeline, options: EmitOptions) -> Plan:
    """Name all parts of a pipeline."""
    claims = claims_of(pipeline, options.shared)
    reserved = {claim.task for claim in claims} | {claim.task.replace("create", "delete") for claim in claims}
    return Plan(
        pipeline=pipeline,
        options=options,
        tasks=task_names([step.name for step in pipeline.steps], reserved),
        claims=claims,
        signatures={
            step.name: _signature(pipeline, step, shared=options.shared is not None) for step in pipeline.steps
        },
    )


def _signature(pipeline: Pipeline, step: Step, *, shared: bool) -> Signature:
    taken = set(_GLOBALS)
    wanted = [parameter for parameter in pipeline.parameters if parameter.name in step.parameters]
    return Signature(
        function=f"run_{step.name}",
        parameters={unique(parameter.name, taken): parameter for parameter in wanted},
        inputs={} if shared else {source: unique(f"values_of_{source}", taken) for source in step.data_from},
        run=unique("run_id", taken) if shared else "",
        values=unique("values", taken) if step.writes and not shared else "",
        metrics=unique("metrics", taken) if step.metrics else "",
        report=unique("report", taken) if step.settings.report else "",
    )
