"""A pool in memory that behaves as a thin pool does: what the tests of everything above pools run on.

Each volume and snapshot maps data blocks of 64 KiB, copied on write; so deltas are as exact as the kernel's. It runs out
of data and metadata space, its reads and writes fail where they are told to, and every call can be made to fail in turn.
"""

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Final

from engine.clock import Clock
from engine.device.base import (
    Change,
    ChangeKind,
    Filesystem,
    Made,
    Outcome,
    PoolStatus,
    Snapshot,
    Source,
    Target,
    Volume,
    check_size,
    join_changes,
)
from engine.device.naming import check_name
from engine.device.rules import (
    check_clone,
    check_empty,
    check_fit_for_snapshot,
    check_group,
    check_growth,
    check_own,
    check_removable,
    check_same_size,
    check_unused,
    described,
    not_found,
)
from engine.device.simblocks import DATA_BLOCK, BlockMap, Space
from engine.device.simio import Content, Faults, SimSource, SimTarget
from engine.errors import Busy, OutOfSpace, Refused
from engine.extent import Extent, clip, complement, intersect, join
from engine.units import GIB
from engine.values import dataclass

DATA_NEAR_FULL: Final = 0.95  # beyond these shares of its space, the pool refuses snapshots
METADATA_NEAR_FULL: Final = 0.70


@dataclass(slots=True)
class _Volume:
    record: Volume  # what never changes; `_shown` adds the rest
    content: Content
    origin: str | None = None  # the uuid of the snapshot that it was cloned from
    restoring: str | None = None
    mounted: bool = False


@dataclass(frozen=True, slots=True)
class _Snapshot:
    record: Snapshot
    content: Content


class SimPool:
    """See `Pool`. What follows the methods of the contract are the hands of the test."""

    def __init__(self, name: str, data_size: int, clock: Clock, *, metadata_size: int = GIB) -> None:
        self._name = check_name("pool", name)
        self._clock = clock
        self._space = Space(data_size, metadata_size)
        self._volumes: dict[str, _Volume] = {}
        self._snapshots: dict[tuple[str, str], _Snapshot] = {}  # by volume and name; oldest first
        self._uuids = 0
        self._removed = False
        self._lock = threading.RLock()
        self._faults = Faults(name)

    @property
    def name(self) -> str:
        """See `Pool`."""
        return self._name

    def status(self) -> PoolStatus:
        """See `Pool`."""
        self._faults.count("status")
        return PoolStatus(
            name=self._name,
            kind="sim",
            uuid=f"sim-{self._name}",
            location="memory",
            data_size=self._space.data_size,
            data_used=self._space.data_used,
            metadata_size=self._space.metadata_size,
            metadata_used=self._space.metadata_used,
            data_block_size=DATA_BLOCK,
            provisioned=sum(volume.content.size for volume in self._volumes.values()),
            health="ok" if self._space.data_used < self._space.data_size else "out of data space",
            snapshots_by="thin",
            deltas_by="thin metadata",
        )

    def extend(self, *, size: int | None = None, devices: tuple[str, ...] = ()) -> Made[PoolStatus]:
        """See `Pool`. It has no devices to grow by."""
        self._faults.count("extend")
        before = self._space.data_size
        if size is None or devices:
            raise Refused(f"pool {self._name} stands in memory, and grows to a size only", hint="give a size")
        if size < before:
            raise Refused(f"pool {self._name} cannot shrink from {before} to {size} bytes", hint="give a larger size")
        self._space.data_size = size
        return Made(self.status(), Outcome.UNCHANGED if size == before else Outcome.CHANGED)

    def remove(self) -> Outcome:
        """See `Pool`."""
        self._faults.count("remove")
        check_empty(self._name, self._listed(), (kept.record for kept in self._snapshots.values()))
        outcome = Outcome.ALREADY_GONE if self._removed else Outcome.REMOVED
        self._removed = True
        return outcome

    def volumes(self) -> list[Volume]:
        """See `Pool`."""
        self._faults.count("volumes")
        return self._listed()

    def volume(self, name: str) -> Volume:
        """See `Pool`."""
        self._faults.count("volume")
        return _shown(self._volume(name))

    def create_volume(self, name: str, size: int, *, restoring: str | None = None) -> Made[Volume]:
        """See `Pool`."""
        self._faults.count("create_volume")
        check_name("volume", name)
        check_size(size)
        if name not in self._volumes:
            volume = self._add_volume(name, size, BlockMap(self._space))
            volume.restoring = restoring
            return Made(_shown(volume), Outcome.CREATED)
        existing = _shown(self._volumes[name])
        check_own(existing)
        check_same_size(existing, size)
        return Made(existing, Outcome.ALREADY_THERE)

    def resize_volume(self, name: str, size: int) -> Made[Volume]:
        """See `Pool`."""
        self._faults.count("resize_volume")
        check_size(size)
        volume = self._own_volume(name)
        check_growth(_shown(volume), size)
        outcome = Outcome.UNCHANGED if size == volume.content.size else Outcome.CHANGED
        volume.content.size = size
        return Made(_shown(volume), outcome)

    def remove_volume(self, name: str) -> Outcome:
        """See `Pool`."""
        self._faults.count("remove_volume")
        if name not in self._volumes:
            return Outcome.ALREADY_GONE
        volume = self._volumes[name]
        check_removable(_shown(volume), self._snapshots_of(name))
        volume.content.blocks.release()
        del self._volumes[name]
        return Outcome.REMOVED

    def clone_volume(self, volume: str, snapshot: str, name: str) -> Made[Volume]:
        """See `Pool`."""
        self._faults.count("clone_volume")
        check_name("volume", name)
        origin = self._snapshot(volume, snapshot)
        if name in self._volumes:
            existing = self._volumes[name]
            check_clone(_shown(existing), existing.origin, origin.record)
            return Made(_shown(existing), Outcome.ALREADY_THERE)
        clone = self._add_volume(name, origin.content.size, origin.content.blocks.copy())
        clone.origin = origin.record.uuid
        clone.content.filesystem = origin.content.filesystem
        return Made(_shown(clone), Outcome.CREATED)

    def snapshots(self, volume: str | None = None) -> list[Snapshot]:
        """See `Pool`."""
        self._faults.count("snapshots")
        if volume is None:
            return [snapshot.record for snapshot in self._snapshots.values()]
        self._volume(volume)
        return self._snapshots_of(volume)

    def snapshot(self, volume: str, name: str) -> Snapshot:
        """See `Pool`."""
        self._faults.count("snapshot")
        return self._snapshot(volume, name).record

    def create_snapshots(self, names: Mapping[str, str]) -> list[Made[Snapshot]]:
        """See `Pool`."""
        self._faults.count("create_snapshots")
        for name in names.values():
            check_name("snapshot", name)
        origins = [self._volume(volume) for volume in names]
        existing = [self._snapshots[key].record for key in names.items() if key in self._snapshots]
        if check_group(names, existing):
            return [Made(snapshot, Outcome.ALREADY_THERE) for snapshot in existing]
        for origin in origins:
            check_fit_for_snapshot(_shown(origin))
            _refuse_writer(origin)
        self._refuse_when_nearly_full()
        group, created = self._new_uuid(), self._clock.now()
        copies = self._copies(names)
        return [
            Made(self._add_snapshot(volume, name, copy, group, created), Outcome.CREATED)
            for (volume, name), copy in zip(names.items(), copies, strict=True)
        ]

    def remove_snapshot(self, volume: str, name: str) -> Outcome:
        """See `Pool`."""
        self._faults.count("remove_snapshot")
        if (volume, name) not in self._snapshots:
            return Outcome.ALREADY_GONE
        snapshot = self._snapshots[volume, name]
        check_own(snapshot.record)
        if snapshot.content.readers:
            raise Busy(f"{described(snapshot.record)} is being read", hint="wait for its reader to end")
        snapshot.content.blocks.release()
        del self._snapshots[volume, name]
        return Outcome.REMOVED

    def allocated(self, volume: str, snapshot: str | None = None) -> Iterator[Extent]:
        """See `Pool`."""
        self._faults.count("allocated")
        return _allocated(self._content(volume, snapshot))

    def delta(self, volume: str, old: str, new: str | None) -> Generator[Change, None, None] | None:
        """See `Pool`."""
        self._faults.count("delta")
        return join_changes(_changes(self._snapshot(volume, old).content, self._content(volume, new)))

    def open_source(self, volume: str, snapshot: str | None = None) -> AbstractContextManager[Source]:
        """See `Pool`."""
        self._faults.count("open_source")
        return self._reading(self._content(volume, snapshot))

    def open_target(self, volume: str) -> AbstractContextManager[Target]:
        """See `Pool`."""
        self._faults.count("open_target")
        return self._writing(self._own_volume(volume))

    def mark_restoring(self, volume: str, version: str | None) -> None:
        """See `Pool`."""
        self._faults.count("mark_restoring")
        self._own_volume(volume).restoring = version

    def filesystem(self, volume: str, snapshot: str | None = None) -> Filesystem | None:
        """See `Pool`. It finds what the test said with `set_filesystem`."""
        self._faults.count("filesystem")
        return self._content(volume, snapshot).filesystem

    @property
    def calls(self) -> int:
        """How many calls there were: of the pool, and of its sources and targets."""
        return self._faults.calls

    def fail_at(self, call: int) -> None:
        """Let the `call`-th call from now on (1: the next), and only that, raise Failed before it does anything."""
        self._faults.plan(call, for_ever=False)

    def die_at(self, call: int) -> None:
        """Let the `call`-th call from now on and all after it raise Failed, until `revive`."""
        self._faults.plan(call, for_ever=True)

    def revive(self) -> None:
        """Let no call fail any more."""
        self._faults.clear()

    def set_mounted(self, volume: str, mounted: bool) -> None:
        """Mount or unmount a volume. It is in use while mounted, and a snapshot freezes it."""
        self._volumes[volume].mounted = mounted

    def set_filesystem(self, volume: str, filesystem: Filesystem | None) -> None:
        """Say what `filesystem` finds on a volume, and on the snapshots taken of it from now on."""
        self._volumes[volume].content.filesystem = filesystem

    def add_foreign_volume(self, name: str, size: int) -> None:
        """Add a volume that someone else made."""
        volume = self._add_volume(name, size, BlockMap(self._space))
        volume.record = replace(volume.record, foreign=True)

    def add_foreign_snapshot(self, volume: str, name: str) -> None:
        """Add a snapshot that someone else took."""
        copies = self._copies([volume])
        self._add_snapshot(volume, name, copies[0], self._new_uuid(), self._clock.now(), foreign=True)

    def break_reads(self, volume: str, offset: int, *, snapshot: str | None = None) -> None:
        """Let reads that cover the byte at `offset` fail with EIO."""
        self._content(volume, snapshot).unreadable.add(offset)

    def break_writes(self, volume: str, offset: int) -> None:
        """Let writes that cover the byte at `offset` fail with EIO."""
        self._volume(volume).content.unwritable.add(offset)

    def cut(self, volume: str, size: int, *, snapshot: str | None = None) -> None:
        """Let a source end at `size` from now on, also for those who have it open already."""
        self._content(volume, snapshot).cut_to = size

    @contextmanager
    def _reading(self, content: Content) -> Iterator[Source]:
        with self._lock:
            content.readers += 1
        try:
            yield SimSource(content, self._faults)
        finally:
            with self._lock:
                content.readers -= 1

    @contextmanager
    def _writing(self, volume: _Volume) -> Iterator[Target]:
        with self._lock:
            check_unused(_shown(volume))
            volume.content.has_writer = True
        try:
            yield SimTarget(volume.content, self._faults, self._lock)
        finally:
            volume.content.has_writer = False

    def _refuse_when_nearly_full(self) -> None:
        space = self._space
        hint = f"run `rokctl pool extend {self._name}`, or remove snapshots"
        if space.data_used > DATA_NEAR_FULL * space.data_size:
            raise OutOfSpace(f"pool {self._name} is near the end of its data space", hint=hint)
        if space.metadata_used > METADATA_NEAR_FULL * space.metadata_size:
            raise OutOfSpace(f"pool {self._name} is near the end of its metadata space", hint=hint)

    def _copies(self, volumes: Iterable[str]) -> list[BlockMap]:
        """A copy of each volume's map; of none when there is no space for all."""
        copies: list[BlockMap] = []
        try:
            for volume in volumes:
                copies.append(self._volumes[volume].content.blocks.copy())
        except OutOfSpace:
            for copy in copies:
                copy.release()
            raise
        return copies

    def _add_volume(self, name: str, size: int, blocks: BlockMap) -> _Volume:
        content = Content(f"sim:{self._name}/{name}", size, blocks)
        record = Volume(
            pool=self._name,
            name=name,
            uuid=self._new_uuid(),
            size=size,
            used=None,
            path=content.path,
            created=self._clock.now(),
            in_use=False,
            restoring=None,
            foreign=False,
        )
        self._volumes[name] = _Volume(record, content)
        return self._volumes[name]

    def _add_snapshot(
        self, volume: str, name: str, blocks: BlockMap, group: str, created: datetime, *, foreign: bool = False
    ) -> Snapshot:
        origin = self._volumes[volume]
        content = Content(f"{origin.content.path}@{name}", origin.content.size, blocks, origin.content.filesystem)
        record = Snapshot(
            pool=self._name,
            volume=volume,
            name=name,
            uuid=self._new_uuid(),
            volume_uuid=origin.record.uuid,
            group=group,
            size=content.size,
            path=content.path,
            created=created,
            frozen=origin.mounted,
            foreign=foreign,
        )
        self._snapshots[volume, name] = _Snapshot(record, content)
        return record

    def _new_uuid(self) -> str:
        self._uuids += 1
        return f"sim-{self._name}-{self._uuids:06d}"

    def _listed(self) -> list[Volume]:
        return [_shown(self._volumes[name]) for name in sorted(self._volumes)]

    def _volume(self, name: str) -> _Volume:
        if name not in self._volumes:
            raise not_found("volume", name, self._volumes)
        return self._volumes[name]

    def _own_volume(self, name: str) -> _Volume:
        volume = self._volume(name)
        check_own(volume.record)
        return volume

    def _snapshots_of(self, volume: str) -> list[Snapshot]:
        return [snapshot.record for (owner, _), snapshot in self._snapshots.items() if owner == volume]

    def _snapshot(self, volume: str, name: str) -> _Snapshot:
        self._volume(volume)
        if (volume, name) not in self._snapshots:
            names = [snapshot.name for snapshot in self._snapshots_of(volume)]
            raise not_found(f"snapshot of volume {volume} called", name, names)
        return self._snapshots[volume, name]

    def _content(self, volume: str, snapshot: str | None) -> Content:
        return self._volume(volume).content if snapshot is None else self._snapshot(volume, snapshot).content


def _shown(volume: _Volume) -> Volume:
    return replace(
        volume.record,
        size=volume.content.size,
        used=volume.content.blocks.used(),
        in_use=volume.mounted or volume.content.has_writer,
        restoring=volume.restoring,
    )


def _refuse_writer(volume: _Volume) -> None:
    if volume.content.has_writer:
        raise Busy(f"volume {volume.record.name} is being written", hint="wait for its writer to end")


def _allocated(content: Content) -> Iterator[Extent]:
    return clip(join(content.blocks.mapped()), content.size)


def _changes(old: Content, new: Content) -> Iterator[Change]:
    """What changed up to the size of `old`; then what lies beyond it. Touching changes are not merged."""
    common = min(old.size, new.size)
    for extent, is_mapped in old.blocks.differs(new.blocks):
        kind = ChangeKind.CHANGED if is_mapped else ChangeKind.HOLE
        for part in clip([extent], common):
            yield Change(part, kind)
    if new.size > common:
        grown = [Extent(common, new.size - common)]
        mapped = list(_allocated(new))
        parts = [Change(part, ChangeKind.CHANGED) for part in intersect(grown, mapped)]
        parts += [Change(part, ChangeKind.HOLE) for part in intersect(grown, complement(mapped, new.size))]
        yield from sorted(parts, key=lambda change: change.extent)
