"""What Kubeflow Pipelines cannot hold of a pipeline: found out here, and not on the cluster."""

import json
import math
from typing import Final

from kalec.emit.options import EmitOptions
from kalec.emit.plan import Plan, plan_of
from kalec.emit.program import PLACEHOLDER
from kalec.emit.quantity import parse_quantity
from kalec.emit.specification import accelerators, container_of
from kalec.findings import Findings
from kalec.model import JsonValue, Parameter, Pipeline, Place, Step, VolumeKind

ARGUMENT_LIMIT: Final = 131_071
"""The bytes that Linux takes for one argument of a command. KFP hands the JSON of a step's container to a program as one."""

REQUEST_LIMIT: Final = 1_572_864
"""The bytes that etcd takes for one object, and KFP makes one object of all steps of a pipeline."""

_EXACT: Final = 2**53  # the whole numbers that a double holds: KFP has no other numbers


def check(pipeline: Pipeline, options: EmitOptions, findings: Findings) -> None:
    """Collect what keeps the pipeline from being written, and what is lost when it is."""
    for parameter in pipeline.parameters:
        _check_parameter(parameter, findings)
    for step in pipeline.steps:
        _check_resources(step, findings)
    _check_volumes(pipeline, findings)
    _note_what_is_lost(pipeline, options, findings)
    _check_lengths(plan_of(pipeline, options), findings)


def _check_parameter(parameter: Parameter, findings: Findings) -> None:
    problem = _problem(parameter.default)
    if problem:
        message = f"the default of parameter {parameter.name!r} {problem}"
        findings.add("KLC301", parameter.place, message, hint="make it in a step, or pass it as text")


def _problem(value: JsonValue) -> str:
    """What a value loses on the way through a protobuf Struct, or ""."""
    if isinstance(value, dict):
        return next(filter(None, map(_problem, [*value.keys(), *value.values()])), "")
    if isinstance(value, list):
        return next(filter(None, map(_problem, value)), "")
    if isinstance(value, str) and any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        return "holds half of a surrogate pair, which is no text"
    if isinstance(value, str) and PLACEHOLDER in value:
        return f"holds {PLACEHOLDER}, with which KFP's own placeholders begin"
    if isinstance(value, float) and not math.isfinite(value):
        return f"holds {value}, which JSON does not have"
    if isinstance(value, int) and abs(value) > _EXACT:
        return f"holds {value}, and KFP keeps whole numbers up to 2**53 only"
    return ""


def _check_resources(step: Step, findings: Findings) -> None:
    for kind, amounts in (("limit", step.settings.limits), ("request", step.settings.requests)):
        for resource, quantity in sorted(amounts.items()):
            if parse_quantity(quantity) is None:
                message = f"the {kind} of {resource} of step {step.name!r} is {quantity!r}, which is no quantity"
                findings.add("KLC302", step.place, message, hint="write it as 500m, 2, 4Gi")
    others = [name for name, _ in accelerators(step.settings)]
    if len(others) > 1:
        message = f"step {step.name!r} limits {' and '.join(others)}, and KFP takes one resource beside cpu and memory"
        findings.add("KLC302", step.place, message)
    for resource in sorted(step.settings.requests.keys() - {"cpu", "memory"}):
        if step.settings.requests[resource] != step.settings.limits.get(resource):
            message = f"step {step.name!r} requests {resource}, and KFP takes requests of cpu and memory only"
            findings.add("KLC302", step.place, message, hint=f"write a limit of {resource}: it is requested too")


def _check_volumes(pipeline: Pipeline, findings: Findings) -> None:
    for volume in pipeline.settings.volumes:
        made = volume.kind is not VolumeKind.EXISTING
        if made and parse_quantity(volume.size) is None:
            message = f"the claim for volume {volume.name!r} needs a size, as 5Gi" + (
                "; a clone is at least as large as what it is made from" if volume.kind is VolumeKind.CLONE else ""
            )
            findings.add("KLC303", Place(pipeline.source), message)


def _note_what_is_lost(pipeline: Pipeline, options: EmitOptions, findings: Findings) -> None:
    settings = pipeline.settings
    snapshots = (
        settings.snapshot_volumes or settings.autosnapshot or any(volume.snapshot for volume in settings.volumes)
    )
    if snapshots:
        message = "the notebook asks for snapshots; on a cluster none are taken by this version"
        findings.add("KLC305", Place(pipeline.source), message)
    if options.shared:
        for step in pipeline.steps:
            if step.settings.enable_caching:
                message = f"step {step.name!r} is not cached: its values lie on a volume of each run"
                findings.add("KLC305", step.place, message)


def _check_lengths(plan: Plan, findings: Findings) -> None:
    whole = 0
    for step in plan.pipeline.steps:
        length = _length(plan, step)
        whole += length
        if length > ARGUMENT_LIMIT:
            message = (
                f"step {step.name!r} is {length:,} bytes with what executes it, and KFP can start {ARGUMENT_LIMIT:,}"
            )
            hint = "move code into a module that the image has, or data into a file"
            findings.add("KLC304", step.place, message, hint=hint)
    if whole > REQUEST_LIMIT:
        count = len(plan.pipeline.steps)
        message = f"its {count} steps are {whole:,} bytes, and Kubernetes holds {REQUEST_LIMIT:,} of one object"
        hint = "join short steps, or make two pipelines of it"
        findings.add("KLC306", Place(plan.pipeline.source), message, hint=hint)


def _length(plan: Plan, step: Step) -> int:
    container = json.dumps(container_of(plan, step), ensure_ascii=False, separators=(",", ":"))
    return len(container.encode("utf-8", "replace"))
