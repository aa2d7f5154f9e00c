"""What every kind of pool promises.

A *pool* holds *volumes*; a volume has *snapshots*. Their names: `engine.device.naming`.
The contract suite `tests/contract/test_pool.py` holds every implementation to what is said here, the kernel's own included.

- *Idempotent*: asked twice for the same thing, a call answers `already there`, and changes nothing.
- *Foreign*: a volume or snapshot that rokctl did not make is listed with `foreign=True` and refused by every call that would
  change it. It may be read.
- *State* stands in the pool itself (LVM tags, or a record beside the file). Nothing else on the node is needed.
- *Interrupted* calls leave the pool usable. What a crash left half made is invisible, and removed by the next change.

Errors: NotFound for names that do not exist; Refused for what must not be done; Busy for what is in use; OutOfSpace;
Failed when the kernel or a tool refuses, with what it said.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from enum import Enum
from typing import Generic, Protocol, TypeVar

from engine.errors import Refused
from engine.extent import Extent, between
from engine.units import SECTOR
from engine.values import dataclass

Item = TypeVar("Item")


class Outcome(Enum):
    """What an idempotent call found to do."""

    CREATED = "created"
    ALREADY_THERE = "already there"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"
    ALREADY_GONE = "already gone"


@dataclass(frozen=True, slots=True)
class Made(Generic[Item]):
    """A thing that exists now, and whether this call brought it about."""

    item: Item
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool at a glance. Sizes in bytes; None where the kind of pool has no such thing."""

    name: str
    kind: str  # "lvm", "directory", "sim"
    uuid: str
    location: str  # "vg0/pool0", or the directory
    data_size: int
    data_used: int
    metadata_size: int | None
    metadata_used: int | None
    data_block_size: int
    provisioned: int  # the sum of the volumes' sizes
    health: str  # "ok", or what is wrong in a few words
    snapshots_by: str  # "thin", "reflink", "copy"
    deltas_by: str  # "thin metadata", "fiemap", "none: every push reads the whole volume"

    @property
    def overcommitted(self) -> int:
        """How far the volumes' sizes go beyond the pool; 0 when they fit."""
        return max(0, self.provisioned - self.data_size)


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as its pool knows it."""

    pool: str
    name: str
    uuid: str
    size: int
    used: int | None  # bytes allocated in the pool, where cheaply known
    path: str  # the block device or file
    created: datetime | None
    in_use: bool
    restoring: str | None  # the version that an unfinished restore is writing here
    foreign: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A read-only point-in-time copy of a volume."""

    pool: str
    volume: str
    name: str
    uuid: str
    volume_uuid: str
    group: str  # equal for snapshots taken in one consistent call; unique to each such call
    size: int
    path: str
    created: datetime  # equal for snapshots taken in one call
    frozen: bool  # a mounted filesystem was frozen while it was taken
    foreign: bool


class ChangeKind(Enum):
    """What happened to the bytes of a volume between two snapshots."""

    CHANGED = "changed"  # may differ, must be read
    HOLE = "hole"  # discarded: reads as zeros now


@dataclass(frozen=True, slots=True)
class Change:
    """One extent of a delta."""

    extent: Extent
    kind: ChangeKind


@dataclass(frozen=True, slots=True)
class Filesystem:
    """What blkid finds at the start of a volume: `ext4`, its label and UUID (empty where there is none)."""

    type: str
    label: str
    uuid: str


class Source(Protocol):
    """An open snapshot or volume to read from; any number of threads may."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def logical_block_size(self) -> int:
        """The device's logical block size in bytes; 512 for files."""
        ...

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` with the bytes at `offset`, all of which must lie inside. Raises Failed on a read error (EIO)
        and when the source turns out to be shorter than it was.
        """
        ...

    def expect(self, extent: Extent) -> None:
        """The calling thread will read this next, and all of it: the disk may begin. Never fails, nor waits for the bytes."""
        ...


class Target(Protocol):
    """A volume held exclusively, to be written; any number of threads may."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def write(self, offset: int, body: bytes | bytearray | memoryview) -> None:
        """Write all of it. Raises OutOfSpace when the pool is full, Failed on a write error."""
        ...

    def discard(self, extent: Extent) -> None:
        """Make the extent read as zeros, giving the space back where the pool can."""
        ...

    def flush(self) -> None:
        """Return once everything written is on stable storage."""
        ...


class Pool(Protocol):
    """One pool. See the module for the promises."""

    @property
    def name(self) -> str:
        """The name that the user gave it."""
        ...

    def status(self) -> PoolStatus:
        """Read the state of the pool."""
        ...

    def extend(self, *, size: int | None = None, devices: tuple[str, ...] = ()) -> Made[PoolStatus]:
        """Grow to `size` bytes, or by whole `devices`. Refused where the kind of pool takes its size from elsewhere."""
        ...

    def remove(self) -> Outcome:
        """Remove the pool. Refused while it holds a volume or a snapshot. An adopted pool is only let go of."""
        ...

    def volumes(self) -> list[Volume]:
        """All volumes, foreign ones too, sorted by name."""
        ...

    def volume(self, name: str) -> Volume:
        """One volume. Raises NotFound, naming near names."""
        ...

    def create_volume(self, name: str, size: int, *, restoring: str | None = None) -> Made[Volume]:
        """A volume of `size` bytes that reads as zeros. An existing one of another size is Refused.

        With `restoring` it is from its first moment what `mark_restoring` makes of a volume; an existing one is not marked.
        """
        ...

    def resize_volume(self, name: str, size: int) -> Made[Volume]:
        """Grow a volume; the new bytes read as zeros. Shrinking is Refused."""
        ...

    def remove_volume(self, name: str) -> Outcome:
        """Remove a volume. Refused while it has snapshots; Busy while it is in use."""
        ...

    def clone_volume(self, volume: str, snapshot: str, name: str) -> Made[Volume]:
        """A new writable volume that starts with what the snapshot holds.

        Asked again, it answers `already there` when `name` is the clone of that snapshot, and Refused otherwise.
        """
        ...

    def snapshots(self, volume: str | None = None) -> list[Snapshot]:
        """The snapshots of one volume or of all, oldest first."""
        ...

    def snapshot(self, volume: str, name: str) -> Snapshot:
        """One snapshot. Raises NotFound, naming near names."""
        ...

    def create_snapshots(self, names: Mapping[str, str]) -> list[Made[Snapshot]]:
        """One snapshot of each volume, `{volume: snapshot name}`, all of the same instant, in the order of `names`.

        All or none. Asked again, all are `already there`; when only some exist, or they are of different groups, Refused.
        Refused also for a volume whose restore did not finish, and for a foreign volume. OutOfSpace, with the command
        that helps, when the pool's data or metadata space is near its end: a full metadata device fails the whole pool.
        """
        ...

    def remove_snapshot(self, volume: str, name: str) -> Outcome:
        """Remove a snapshot. Busy while someone reads it."""
        ...

    def allocated(self, volume: str, snapshot: str | None = None) -> Iterator[Extent]:
        """Where a snapshot (or the volume itself) may hold anything but zeros: a normal sequence, inside its size."""
        ...

    def delta(self, volume: str, old: str, new: str | None) -> Generator[Change, None, None] | None:
        """What changed from snapshot `old` to snapshot `new` (None: to the volume as it is, which must be at rest).

        Sorted, not overlapping, inside the size of `new`; touching extents of one kind are merged. Bytes in no extent are
        equal. Bytes beyond the end of a smaller `old` count as changed or are holes. None when this pool cannot tell:
        then everything allocated must be read.
        The generator holds resources until it ends or is closed: use `contextlib.closing`.
        """
        ...

    def open_source(self, volume: str, snapshot: str | None = None) -> AbstractContextManager[Source]:
        """Open to read."""
        ...

    def open_target(self, volume: str) -> AbstractContextManager[Target]:
        """Open to write, exclusively. Raises Busy when it is mounted or otherwise in use, Refused when it is foreign."""
        ...

    def mark_restoring(self, volume: str, version: str | None) -> None:
        """Record that a restore of `version` is writing to the volume, durably, before the first write; None: it is done."""
        ...

    def filesystem(self, volume: str, snapshot: str | None = None) -> Filesystem | None:
        """What filesystem it holds; None when none is recognised."""
        ...


def check_size(size: int) -> int:
    """Return `size` if a volume may have it: positive, and whole sectors of 512 bytes. Raises Refused."""
    if size <= 0:
        raise Refused(f"a volume cannot have a size of {size} bytes", hint="give a positive size such as 10G")
    if size % SECTOR:
        near = -(-size // SECTOR) * SECTOR
        raise Refused(f"a size of {size} bytes is not a multiple of {SECTOR}", hint=f"the next larger one is {near}")
    return size


def join_changes(changes: Iterable[Change]) -> Generator[Change, None, None]:
    """Merge touching extents of one kind; the input must be sorted, and must not overlap."""
    pending: Change | None = None
    for change in changes:
        if pending is None:
            pending = change
        elif pending.kind is change.kind and pending.extent.end == change.extent.start:
            pending = Change(between(pending.extent.start, change.extent.end), pending.kind)
        else:
            assert pending.extent.end <= change.extent.start, "changes are not sorted"
            yield pending
            pending = change
    if pending is not None:
        yield pending
