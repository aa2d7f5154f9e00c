"""The volumes of a pipeline on Kubernetes: claims that exist, and claims that tasks make for each run.

KFP makes and removes claims with tasks of its own, `createpvc` and `deletepvc`. They are never cached: a run would be
handed the claim of an earlier one.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from kalec.emit.options import SharedVolume
from kalec.emit.yamltext import Value
from kalec.model import AccessMode, Pipeline, Volume, VolumeKind

VALUES_MOUNT: Final = "/kalec"
"""Where the volume that values travel on is mounted, when it is made for the run."""

_INPUTS: Final[Mapping[str, tuple[str, bool]]] = {  # of createpvc: the type, and whether it may be left out
    "access_modes": ("LIST", False),
    "annotations": ("STRUCT", True),
    "data_source": ("STRUCT", True),
    "pvc_name": ("STRING", True),
    "pvc_name_suffix": ("STRING", True),
    "size": ("STRING", False),
    "storage_class_name": ("STRING", True),
    "volume_name": ("STRING", True),
}


class Claim(NamedTuple):
    """A claim that every step mounts. `task` is the one that makes it, "" where it exists."""

    volume: Volume
    task: str
    for_values: bool = False  # made for the values of one run, and removed after it

    def mount(self) -> Mapping[str, Value]:
        """The mount, as the platform document has it."""
        if self.task:
            source: Mapping[str, Value] = {
                "taskOutputParameter": {"outputParameterKey": "name", "producerTask": self.task}
            }
            return {"mountPath": self.volume.mount_point, "pvcNameParameter": source, **source}
        name = self.volume.name
        constant: Mapping[str, Value] = {"runtimeValue": {"constant": name}}
        return {"constant": name, "mountPath": self.volume.mount_point, "pvcNameParameter": constant}


def claims_of(pipeline: Pipeline, shared: SharedVolume | None) -> tuple[Claim, ...]:
    """The claims of a pipeline, in the order of its volumes; last the one for the values, when a run has its own."""
    volumes = [(volume, False) for volume in pipeline.settings.volumes]
    if shared and not shared.name:
        values = Volume(
            name="kalec-values",
            kind=VolumeKind.NEW,
            mount_point=VALUES_MOUNT,
            size=shared.size,
            access_mode=AccessMode.READ_WRITE_MANY,
            storage_class=shared.storage_class,
        )
        volumes.append((values, True))
    claims: list[Claim] = []
    for volume, for_values in volumes:
        number = sum(bool(claim.task) for claim in claims) + 1
        made = volume.kind is not VolumeKind.EXISTING
        task = ("createpvc" if number == 1 else f"createpvc-{number}") if made else ""
        claims.append(Claim(volume, task, for_values))
    return tuple(claims)


def create_component(executor: str) -> Mapping[str, Value]:
    """The component of a task that makes a claim."""
    parameters: dict[str, Value] = {
        name: {"isOptional": True, "parameterType": kind} if optional else {"parameterType": kind}
        for name, (kind, optional) in _INPUTS.items()
    }
    return {
        "executorLabel": executor,
        "inputDefinitions": {"parameters": parameters},
        "outputDefinitions": {"parameters": {"name": {"parameterType": "STRING"}}},
    }


def create_task(claim: Claim) -> Mapping[str, Value]:
    """The task that makes a claim, without the keys that every task has."""
    constants = _creation(claim.volume)
    return {"parameters": {name: {"runtimeValue": {"constant": constants[name]}} for name in sorted(constants)}}


def delete_component(executor: str) -> Mapping[str, Value]:
    """The component of a task that removes a claim."""
    parameters: Mapping[str, Value] = {"pvc_name": {"parameterType": "STRING"}}
    return {"executorLabel": executor, "inputDefinitions": {"parameters": parameters}}


def delete_task(claim: Claim) -> Mapping[str, Value]:
    """The task that removes a claim, without the keys that every task has."""
    made: Mapping[str, Value] = {"outputParameterKey": "name", "producerTask": claim.task}
    return {"parameters": {"pvc_name": {"taskOutputParameter": made}}}


def _creation(volume: Volume) -> dict[str, Value]:
    constants: dict[str, Value] = {
        "access_modes": [volume.access_mode.value],
        "pvc_name_suffix": "-" + (re.sub(r"[^a-z0-9]+", "-", volume.name.lower()).strip("-") or "volume"),
        "size": volume.size,
    }
    if volume.storage_class:
        constants["storage_class_name"] = volume.storage_class
    if volume.annotations:
        constants["annotations"] = dict(sorted(volume.annotations.items()))
    if volume.kind is VolumeKind.PERSISTENT:
        constants |= {"volume_name": volume.name, "storage_class_name": volume.storage_class}
    if volume.kind is VolumeKind.CLONE:
        constants["data_source"] = _data_source(volume)
    return constants


def _data_source(volume: Volume) -> Mapping[str, Value]:
    if volume.snapshot_name:
        return {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": volume.snapshot_name}
    return {"apiGroup": "", "kind": "PersistentVolumeClaim", "name": volume.name}
