"""The records of a directory pool: small JSON files, each of which is there whole or not at all.

    rokctl-pool.json                 PoolRecord: this directory is a pool
    volumes/VOLUME/record.json       VolumeRecord
    snapshots/GROUP/record.json      GroupRecord: the snapshots taken in one call; written once, never changed

Every record carries `format`, the number of this layout. A reader refuses numbers that it does not know.
"""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar

from engine.clock import parse_moment
from engine.device.blockio import opened, sync_directory, translated
from engine.errors import Damaged, Refused
from engine.values import dataclass

_FORMAT: Final = 1

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """What makes a directory a pool."""

    name: str
    uuid: str


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """What a volume's file does not say itself."""

    uuid: str
    created: str  # ISO 8601, as all times here
    origin: str | None  # the uuid of the snapshot that it was cloned from
    restoring: str | None


@dataclass(frozen=True, slots=True)
class Member:
    """One snapshot of a group."""

    volume: str
    volume_uuid: str
    name: str
    uuid: str


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """The snapshots taken in one call. One exists as long as its file stands beside this record."""

    uuid: str
    sequence: int  # groups are taken in this order, whatever the clock said
    created: str
    members: tuple[Member, ...]


def read_pool(path: Path) -> PoolRecord | None:
    """None when there is no such file. Raises Damaged, and Refused for a format from the future; as do all readers."""
    return _read(path, lambda fields: PoolRecord(_text(fields["name"]), _text(fields["uuid"])))


def read_volume(path: Path) -> VolumeRecord | None:
    """None when there is no such file."""

    def parse(fields: dict[str, Any]) -> VolumeRecord:
        origin, restoring = (None if fields[name] is None else _text(fields[name]) for name in ("origin", "restoring"))
        return VolumeRecord(_text(fields["uuid"]), _time(fields["created"]), origin, restoring)

    return _read(path, parse)


def read_group(path: Path) -> GroupRecord | None:
    """None when there is no such file."""

    def parse(fields: dict[str, Any]) -> GroupRecord:
        members = tuple(
            Member(**{name: _text(value) for name, value in member.items()}) for member in fields["members"]
        )
        return GroupRecord(_text(fields["uuid"]), _number(fields["sequence"]), _time(fields["created"]), members)

    return _read(path, parse)


def write(path: Path, record: PoolRecord | VolumeRecord | GroupRecord) -> None:
    """Put the record there, durably, in place of an older one. After a crash there is the one or the other."""
    body = json.dumps({"format": _FORMAT, **asdict(record)}, indent=2).encode() + b"\n"
    unfinished = path.with_name(path.name + ".new")
    try:
        with opened(str(unfinished), os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
            if os.write(file, body) < len(body):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # a full filesystem takes what still fits
            os.fsync(file)
        unfinished.rename(path)
    except OSError as error:
        raise translated(error, str(path), "writing") from error
    sync_directory(path.parent)


def _read(path: Path, parse: Callable[[dict[str, Any]], Record]) -> Record | None:
    try:
        body = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise translated(error, str(path), "reading") from error
    try:
        fields = json.loads(body)
        if fields["format"] != _FORMAT:
            message = f"the record {path} has format {fields['format']}, and this rokctl knows format {_FORMAT}"
            raise Refused(message, hint="use a newer rokctl")
        return parse(fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        hint = "put the file back as it was, from a backup"
        raise Damaged(f"the record {path} is not what rokctl wrote: {error}", hint=hint) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    value.encode()  # a half of a surrogate pair is none either, and no file can be named by it
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.40} is no whole number")
    return value


def _time(value: object) -> str:
    parse_moment(_text(value))
    return _text(value)
