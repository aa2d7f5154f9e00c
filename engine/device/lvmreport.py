"""The lvm commands: what they report, as dataclasses, and what they complain of, as errors.

Formats: `--reportformat json` of lvmreport(7), sizes in bytes without a suffix, times in seconds since 1970.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from engine.device.dm import Address
from engine.device.tool import attempt, complaint
from engine.errors import Busy, Failed, OutOfSpace, RokError
from engine.values import dataclass

_SETTINGS: Final = 'report/time_format="%s"'
_VOLUME_FIELDS: Final = (
    *("vg_name", "vg_uuid", "vg_tags", "vg_extent_size", "vg_free"),
    *("lv_name", "lv_uuid", "lv_path", "lv_size", "lv_tags", "lv_layout", "lv_time", "lv_permissions"),
    *("lv_active_locally", "lv_suspended", "lv_device_open", "lv_health_status"),
    *("pool_lv_uuid", "origin_uuid", "thin_id", "chunk_size", "lv_metadata_size", "metadata_lv_uuid"),
)
_DEVICE_UUID_PREFIX: Final = "LVM-"
_UUID_PARTS: Final = (6, 4, 4, 4, 4, 4, 6)
_DEVICE_FIELDS: Final = ("pv_name", "vg_name", "pv_size", "pv_free", "pv_uuid")


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A row of `lvs`. Sizes in bytes; what LVM leaves empty is None, or an empty string."""

    group: str
    group_uuid: str
    group_tags: tuple[str, ...]
    extent_size: int
    group_free: int
    name: str
    uuid: str
    path: str
    size: int
    tags: tuple[str, ...]
    layout: frozenset[str]  # {"thin", "pool"}, {"thin", "sparse"}, ...
    created: datetime
    writable: bool
    active: bool
    suspended: bool
    open: bool
    health: str
    pool_uuid: str
    origin_uuid: str
    thin_id: int | None
    data_block_size: int  # 0 unless it is a pool; LVM's chunk_size
    metadata_size: int
    metadata_uuid: str

    @property
    def full_name(self) -> str:
        """As lvm commands take it: `vg0/pool0`."""
        return f"{self.group}/{self.name}"

    @property
    def device(self) -> Address:
        """The device that LVM makes for it: its UUID is `LVM-`, those of group and volume without dashes, and a layer."""
        return self._layer(self.uuid, "", self.full_name)

    @property
    def pool_device(self) -> Address:
        """The thin pool itself, below the device of the same name, which only holds it open."""
        return self._layer(self.uuid, "-tpool", f"pool {self.full_name}")

    @property
    def metadata_device(self) -> Address:
        """Where a thin pool keeps its metadata."""
        return self._layer(self.metadata_uuid, "-tmeta", f"the metadata of pool {self.full_name}")

    @property
    def is_thin_pool(self) -> bool:
        """Whether it is a thin pool."""
        return self.layout >= {"thin", "pool"}

    def _layer(self, uuid: str, suffix: str, called: str) -> Address:
        return Address(_DEVICE_UUID_PREFIX + (self.group_uuid + uuid).replace("-", "") + suffix, called)


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """A row of `pvs`."""

    device: str
    uuid: str
    group: str  # empty while it belongs to none
    size: int
    free: int


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """A row of `vgs`."""

    name: str
    tags: tuple[str, ...]
    extent_size: int
    free: int


def uuid_of_device(device_uuid: str, group_uuid: str) -> str | None:
    """The UUID of the logical volume whose device has that UUID; None when it is no volume of the group."""
    bare = device_uuid.removeprefix(_DEVICE_UUID_PREFIX + group_uuid.replace("-", ""))
    if len(bare) != sum(_UUID_PARTS) or bare == device_uuid:
        return None
    ends = list(itertools.accumulate(_UUID_PARTS))
    return "-".join(bare[end - length : end] for end, length in zip(ends, _UUID_PARTS, strict=True))


def logical_volumes(group: str | None = None) -> list[LogicalVolume]:
    """The visible logical volumes of one group, or of all, by one call of `lvs`."""
    return parse_volumes(_report("lvs", "lv", _VOLUME_FIELDS, [group] if group else []))


def physical_volumes() -> list[PhysicalVolume]:
    """All physical volumes of the node."""
    rows = _report("pvs", "pv", _DEVICE_FIELDS, [])
    with _complete():
        return [
            PhysicalVolume(row["pv_name"], row["pv_uuid"], row["vg_name"], int(row["pv_size"]), int(row["pv_free"]))
            for row in rows
        ]


def volume_groups() -> dict[str, VolumeGroup]:
    """The volume groups of the node by name."""
    rows = _report("vgs", "vg", ("vg_name", "vg_tags", "vg_extent_size", "vg_free"), [])
    with _complete():
        groups = [
            VolumeGroup(row["vg_name"], _split(row["vg_tags"]), int(row["vg_extent_size"]), int(row["vg_free"]))
            for row in rows
        ]
    return {group.name: group for group in groups}


def change(command: str, *arguments: str, yes: bool = True) -> None:
    """Run an lvm command that changes something. It answers all its questions with yes, or else with no.

    Raises OutOfSpace, Busy or Failed, with what it said.
    """
    argv = (command, "--yes", *arguments) if yes else (command, *arguments)
    output = attempt(*argv)
    if output.status != 0:
        raise _explained(complaint(argv, output.status, output.stderr))


def parse_report(text: str, table: str) -> list[dict[str, str]]:
    """The rows of a JSON report. Raises Failed when it is none."""
    try:
        rows = [dict(row) for report in json.loads(text)["report"] for row in report.get(table, [])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Failed(f"lvm wrote a report that cannot be read: {error}") from error
    if not all(isinstance(value, str) for row in rows for value in row.values()):
        raise Failed("lvm wrote a report with a value that is no text")
    return rows


def parse_volumes(rows: Iterable[Mapping[str, str]]) -> list[LogicalVolume]:
    """The logical volumes of the rows of a report, each once. Raises Failed."""
    with _complete():
        return list({row["lv_uuid"]: _logical_volume(row) for row in rows}.values())


@contextmanager
def _complete() -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, OverflowError) as error:
        raise Failed(f"lvm wrote a report with a field missing, or of another form: {error}") from error


def _report(command: str, table: str, fields: Iterable[str], objects: Iterable[str]) -> list[dict[str, str]]:
    argv = (
        *(command, "--reportformat", "json", "--units", "b", "--nosuffix", "--config", _SETTINGS),
        *("--options", ",".join(fields), *objects),
    )
    output = attempt(*argv)
    if output.status != 0:
        raise _explained(complaint((command, *objects), output.status, output.stderr))
    return parse_report(output.stdout, table)


def _explained(message: str) -> RokError:
    lowered = message.lower()
    if "insufficient" in lowered and "space" in lowered:
        return OutOfSpace(message, hint="give the volume group more space: vgextend")
    if any(words in lowered for words in (" in use", "is used by another device", "can't get lock", "device busy")):
        return Busy(message, hint="stop what uses it, then try again")
    return Failed(message)


def _logical_volume(row: Mapping[str, str]) -> LogicalVolume:
    return LogicalVolume(
        group=row["vg_name"],
        group_uuid=row["vg_uuid"],
        group_tags=_split(row["vg_tags"]),
        extent_size=int(row["vg_extent_size"]),
        group_free=int(row["vg_free"]),
        name=row["lv_name"],
        uuid=row["lv_uuid"],
        path=row["lv_path"],
        size=int(row["lv_size"]),
        tags=_split(row["lv_tags"]),
        layout=frozenset(_split(row["lv_layout"])),
        created=datetime.fromtimestamp(int(row["lv_time"] or 0), UTC),
        writable=row["lv_permissions"] != "read-only",
        active=bool(row["lv_active_locally"]),
        suspended=row["lv_suspended"] == "suspended",
        open=row["lv_device_open"] == "open",
        health=row["lv_health_status"],
        pool_uuid=row["pool_lv_uuid"],
        origin_uuid=row["origin_uuid"],
        thin_id=int(row["thin_id"]) if row["thin_id"] else None,
        data_block_size=int(row["chunk_size"] or 0),
        metadata_size=int(row["lv_metadata_size"] or 0),
        metadata_uuid=row["metadata_lv_uuid"],
    )


def _split(field: str) -> tuple[str, ...]:
    return tuple(part for part in field.split(",") if part)
