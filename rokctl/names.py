"""The names of things on this node as people write them: `POOL`, `POOL/VOL`, `POOL/VOL@SNAP`."""

from datetime import datetime

from engine.device.naming import check_name
from engine.errors import Refused
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class VolumeName:
    """`POOL/VOL`."""

    pool: str
    volume: str

    def __str__(self) -> str:
        return f"{self.pool}/{self.volume}"


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """`POOL/VOL@SNAP`."""

    pool: str
    volume: str
    snapshot: str

    def __str__(self) -> str:
        return f"{self.pool}/{self.volume}@{self.snapshot}"


def parse_pool(text: str) -> str:
    """A pool's name. Raises Refused."""
    return check_name("pool", text)


def parse_volume(text: str) -> VolumeName:
    """`POOL/VOL`. Raises Refused."""
    pool, slash, volume = text.partition("/")
    if not slash:
        raise Refused(f"{text!r} names no volume", hint="write it as POOL/VOL")
    return VolumeName(check_name("pool", pool), check_name("volume", volume))


def parse_snapshot(text: str) -> SnapshotName:
    """`POOL/VOL@SNAP`. Raises Refused."""
    front, at, snapshot = text.partition("@")
    if not at:
        raise Refused(f"{text!r} names no snapshot", hint="write it as POOL/VOL@SNAP")
    volume = parse_volume(front)
    return SnapshotName(volume.pool, volume.volume, check_name("snapshot", snapshot))


def parse_pool_or_volume(text: str) -> str | VolumeName:
    """`POOL` or `POOL/VOL`. Raises Refused."""
    return parse_volume(text) if "/" in text else parse_pool(text)


def parse_new_snapshot(text: str) -> VolumeName | SnapshotName:
    """`POOL/VOL`, or `POOL/VOL@SNAP`: the name of a snapshot to be made may be left to the clock. Raises Refused."""
    return parse_snapshot(text) if "@" in text else parse_volume(text)


def name_by_time(moment: datetime) -> str:
    """The snapshot name that stands for a moment in UTC: `20261124T081500Z`."""
    return f"{moment:%Y%m%dT%H%M%SZ}"
