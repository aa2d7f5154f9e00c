"""The pool that is an LVM thin pool.

LVM's own metadata holds all state, in tags. lvm commands change it; device-mapper is asked directly where that is enough.
Every change holds a lock, and first clears away what a crash left half made.

What reads and writes volumes, their deltas, and groups of snapshots, is imported by what needs it: the start of a command is
a large part of what one snapshot takes.
"""

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Final

from engine.device import lvmspace, rules
from engine.device.base import (
    Change,
    Filesystem,
    Made,
    Outcome,
    Pool,
    PoolStatus,
    Snapshot,
    Source,
    Target,
    Volume,
    check_size,
)
from engine.device.dm import Control, control, is_available
from engine.device.lvmactive import awake, is_mounted, pool_state, running
from engine.device.lvmlook import Lookout, Sighting, row_by_kernel
from engine.device.lvmreport import LogicalVolume, change, logical_volumes
from engine.device.lvmtags import Tag, choose_name, name_room, parse_tags, tag
from engine.device.lvmview import PoolView, VolumeRow, view, with_snapshots
from engine.device.mounts import write_back
from engine.device.naming import check_name
from engine.device.node import THIS_NODE, Node, Work
from engine.device.thin import parse_thin_status
from engine.device.tool import is_installed
from engine.errors import Busy, NotFound, OutOfSpace
from engine.extent import Extent

_GROUP_ID_BYTES: Final = 16


def find_pools(node: Node = THIS_NODE) -> list[Pool]:
    """The LVM pools of this node: the thin pools that carry our tag. None without LVM, root or device-mapper.

    Volumes that a killed process left suspended run again afterwards.
    """
    if os.geteuid() != 0 or not is_available() or not is_installed("lvs"):
        return []
    changes = node.counted(Work.CHANGE)  # before the look: what is counted later may not be in it
    seconds, rows = node.clock.monotonic(), logical_volumes()
    pools: list[Pool] = []
    for row in rows:
        name = parse_tags(row.tags).get(Tag.POOL)
        seen = view(row.uuid, rows) if name is not None and row.is_thin_pool else None
        if name is None or seen is None:
            continue
        if seen.suspended:
            with node.idle(Work.CHANGE, row.uuid) as nobody_is_at_work:
                if nobody_is_at_work:
                    from engine.device import lvmgroup

                    lvmgroup.resume(seen.suspended)
        first = Sighting(seen, seconds, changes.get(row.uuid, 0))
        pools.append(LvmPool(node, name, row.group, row.uuid, first))
    return pools


class LvmPool:
    """An LVM thin pool. See `engine.device.base.Pool` for what its methods promise.

    LVM counts in extents: a size that is no multiple of them is rounded up.
    """

    def __init__(self, node: Node, name: str, group: str, uuid: str, first: Sighting | None = None) -> None:
        self._node = node
        self._name = name
        self._group = group
        self._uuid = uuid
        self._lookout = Lookout(node, name, group, uuid, first)

    @property
    def name(self) -> str:
        """The name that the user gave it."""
        return self._name

    def status(self) -> PoolStatus:
        """Read the state of the pool."""
        seen = self._look()
        with running(seen.row), control() as devices:
            state = pool_state(devices, seen.row)
        return PoolStatus(
            name=seen.name,
            kind="lvm",
            uuid=seen.row.uuid,
            location=seen.row.full_name,
            data_size=state.data_size or seen.row.size,
            data_used=state.data_used,
            metadata_size=state.metadata_size or seen.row.metadata_size,
            metadata_used=state.metadata_used,
            data_block_size=seen.row.data_block_size,
            provisioned=sum(volume.item.size for volume in seen.volumes),
            health=lvmspace.health(state, seen.row.health),
            snapshots_by="thin",
            deltas_by="thin metadata",
        )

    def extend(self, *, size: int | None = None, devices: tuple[str, ...] = ()) -> Made[PoolStatus]:
        """Grow to `size` bytes, or by whole `devices`; the metadata grows with it."""
        with self._changing() as seen, running(seen.row):
            outcome = lvmspace.extend(seen, size, devices)
        return Made(self.status(), outcome)

    def remove(self) -> Outcome:
        """Remove the pool; with its volume group, where rokctl made that for it. An adopted one is only let go of."""
        if view(self._uuid, logical_volumes()) is None:
            return Outcome.ALREADY_GONE
        # What goes with a pool, LVM does not ask about: so it is looked at anew, not as it was when it was found.
        with Lookout(self._node, self._name, self._group, self._uuid).changing() as seen:
            lvmspace.remove(seen)
        return Outcome.REMOVED

    def volumes(self) -> list[Volume]:
        """All volumes, foreign ones too, sorted by name."""
        with control() as devices:
            return [_with_use(volume, devices) for volume in self._look().volumes]

    def volume(self, name: str) -> Volume:
        """One volume. Raises NotFound, naming near names."""
        with control() as devices:
            return _with_use(self._look().volume(name), devices)

    def create_volume(self, name: str, size: int, *, restoring: str | None = None) -> Made[Volume]:
        """A volume of `size` bytes that reads as zeros. An existing one of another size is Refused."""
        check_name("volume", name)
        check_size(size)
        with self._changing() as seen:
            existing = seen.find_volume(name)
            if existing is not None:
                rules.check_own(existing.item)
                rules.check_same_size(existing.item, _rounded(size, seen.row))
                return Made(self.volume(name), Outcome.ALREADY_THERE)
            change(
                *("lvcreate", "--type", "thin", "--thinpool", seen.row.full_name, "--virtualsize", f"{size}b"),
                *("--name", self._free_name(seen, name), "--setactivationskip", "n", "--wipesignatures", "n"),
                *("--addtag", tag(Tag.VOLUME, name)),
                *(("--addtag", tag(Tag.RESTORING, restoring)) if restoring is not None else ()),
            )
        return Made(self.volume(name), Outcome.CREATED)

    def resize_volume(self, name: str, size: int) -> Made[Volume]:
        """Grow a volume; the new bytes read as zeros. Shrinking is Refused."""
        check_size(size)
        with self._changing() as seen:
            volume = seen.own_volume(name)
            wanted = _rounded(size, seen.row)
            rules.check_growth(volume.item, wanted)
            if wanted > volume.item.size:
                change("lvextend", "--size", f"{size}b", volume.row.full_name)
        return Made(self.volume(name), Outcome.UNCHANGED if wanted == volume.item.size else Outcome.CHANGED)

    def remove_volume(self, name: str) -> Outcome:
        """Remove a volume. Refused while it has snapshots; Busy while it is in use."""
        with self._changing() as seen:
            volume = seen.find_volume(name)
            if volume is None:
                return Outcome.ALREADY_GONE
            rules.check_removable(volume.item, (snapshot.item for snapshot in seen.snapshots_of(name)))
            change("lvremove", "--force", volume.row.full_name)
        return Outcome.REMOVED

    def clone_volume(self, volume: str, snapshot: str, name: str) -> Made[Volume]:
        """A new writable volume that starts with what the snapshot holds."""
        check_name("volume", name)
        with self._changing() as seen:
            source = seen.snapshot(volume, snapshot)
            existing = seen.find_volume(name)
            if existing is not None:
                rules.check_clone(existing.item, existing.clone_of, source.item)
                return Made(self.volume(name), Outcome.ALREADY_THERE)
            self._check_space(seen)
            change(
                *("lvcreate", "--snapshot", "--name", self._free_name(seen, name), "--setactivationskip", "n"),
                *("--permission", "rw", "--addtag", tag(Tag.VOLUME, name), "--addtag", tag(Tag.CLONE, source.row.uuid)),
                source.row.full_name,
            )
        return Made(self.volume(name), Outcome.CREATED)

    def snapshots(self, volume: str | None = None) -> list[Snapshot]:
        """The snapshots of one volume or of all, oldest first."""
        seen = self._look()
        if volume is not None:
            seen.volume(volume)
        return [snapshot.item for snapshot in seen.snapshots if volume in (None, snapshot.item.volume)]

    def snapshot(self, volume: str, name: str) -> Snapshot:
        """One snapshot. Raises NotFound, naming near names."""
        return self._look().snapshot(volume, name).item

    def create_snapshots(self, names: Mapping[str, str]) -> list[Made[Snapshot]]:
        """One snapshot of each volume, all of the same instant. See `Pool`."""
        for name in names.values():
            check_name("snapshot", name)
        with self._changing() as seen:
            volumes = {name: seen.volume(name) for name in names}
            found = [seen.find_snapshot(volume, name) for volume, name in names.items()]
            existing = [snapshot.item for snapshot in found if snapshot is not None]
            if rules.check_group(names, existing):
                return [Made(snapshot, Outcome.ALREADY_THERE) for snapshot in existing]
            for volume in volumes.values():
                rules.check_fit_for_snapshot(volume.item)
            self._check_space(seen)
            taken = self._take(seen, [(volumes[name], names[name]) for name in names])
        return [Made(taken.snapshot(volume, name).item, Outcome.CREATED) for volume, name in names.items()]

    def remove_snapshot(self, volume: str, name: str) -> Outcome:
        """Remove a snapshot. Busy while someone reads it."""
        with self._changing() as seen:
            snapshot = seen.find_snapshot(volume, name)
            if snapshot is None:
                return Outcome.ALREADY_GONE
            rules.check_own(snapshot.item)
            if snapshot.row.open:
                raise Busy(f"{rules.described(snapshot.item)} is in use", hint=f"stop what reads {snapshot.row.path}")
            change("lvremove", "--force", snapshot.row.full_name)
        return Outcome.REMOVED

    def allocated(self, volume: str, snapshot: str | None = None) -> Generator[Extent, None, None]:
        """Where a snapshot (or the volume itself) may hold anything but zeros."""
        return self._mappings(self._lookout.readable(volume, snapshot))

    def delta(self, volume: str, old: str, new: str | None) -> Generator[Change, None, None] | None:
        """What changed from snapshot `old` to snapshot `new`, or to the volume as it is."""
        return self._changes(self._lookout.readable(volume, old), self._lookout.readable(volume, new))

    def open_source(self, volume: str, snapshot: str | None = None) -> AbstractContextManager[Source]:
        """Open to read."""
        return _source(self._lookout.readable(volume, snapshot), snapshot is not None)

    def open_target(self, volume: str) -> AbstractContextManager[Target]:
        """Open to write, exclusively."""
        seen = self._look()
        return _target(seen.row, seen.own_volume(volume).row)

    def mark_restoring(self, volume: str, version: str | None) -> None:
        """Record that a restore of `version` is writing to the volume; None: it is done."""
        with self._changing() as seen:
            row = seen.own_volume(volume).row
            wanted = [tag(Tag.RESTORING, version)] if version is not None else []
            present = [text for text in row.tags if Tag.RESTORING in parse_tags([text])]
            if wanted == present:
                return
            arguments = [part for text in present for part in ("--deltag", text)]
            arguments += [part for text in wanted for part in ("--addtag", text)]
            change("lvchange", *arguments, row.full_name)

    def filesystem(self, volume: str, snapshot: str | None = None) -> Filesystem | None:
        """What filesystem it holds; None when none is recognised."""
        from engine.device.probe import probe

        row = self._lookout.readable(volume, snapshot)
        with awake(row):
            return probe(row.path)

    def _look(self) -> PoolView:
        return self._lookout.look()

    def _changing(self) -> AbstractContextManager[PoolView]:
        return self._lookout.changing()

    def _take(self, seen: PoolView, wanted: Sequence[tuple[VolumeRow, str]]) -> PoolView:
        """Take the snapshots, and clear away what was made of them when that fails. Gives the pool with them in it."""
        group = self._node.entropy(_GROUP_ID_BYTES).hex()
        shared = [tag(Tag.GROUP, group), tag(Tag.CREATED, str(int(self._node.clock.now().timestamp())))]
        if not wanted:
            return seen
        if len(wanted) == 1:
            return self._take_one(seen, *wanted[0], shared)
        try:
            return self._take_together(seen, wanted, group, shared)
        except BaseException:
            seen = self._look()
            if seen.preparing:
                from engine.device import lvmgroup

                lvmgroup.clear_leftovers(seen)
            raise

    def _take_one(self, seen: PoolView, volume: VolumeRow, name: str, shared: Sequence[str]) -> PoolView:
        tags = _snapshot_tags(volume, name, shared)
        if volume.row.open:
            write_back([volume.row.path])
        chosen = self._create_snapshot(seen, volume, name, tags)
        row = row_by_kernel(volume.row, chosen, tags)
        return self._look() if row is None else self._lookout.saw(with_snapshots(seen, [row]))

    def _take_together(
        self, seen: PoolView, wanted: Sequence[tuple[VolumeRow, str]], group: str, shared: Sequence[str]
    ) -> PoolView:
        from engine.device import lvmgroup

        lvmgroup.announce(seen, group)
        names = [
            self._create_snapshot(seen, volume, name, _snapshot_tags(volume, name, shared), "--activate", "n")
            for volume, name in wanted
        ]
        rows = {row.name: row for row in self._look().leftovers}
        with running(seen.row):
            lvmgroup.take(
                seen,
                [lvmgroup.Prepared(volume.row, rows[name]) for (volume, _), name in zip(wanted, names, strict=True)],
            )
        lvmgroup.commit(seen, group)
        change("lvchange", "--activate", "y", *(rows[name].full_name for name in names))
        return self._lookout.saw(with_snapshots(seen, [replace(rows[name], active=True) for name in names]))

    def _create_snapshot(self, seen: PoolView, volume: VolumeRow, name: str, tags: Sequence[str], *options: str) -> str:
        """Let LVM make one snapshot, and return the name of its logical volume."""
        chosen = self._free_name(seen, f"{volume.item.name}+{name}")
        change(
            *("lvcreate", "--snapshot", "--name", chosen, "--setactivationskip", "n", "--permission", "r", *options),
            *(part for text in tags for part in ("--addtag", text)),
            volume.row.full_name,
        )
        return chosen

    def _free_name(self, seen: PoolView, wanted: str) -> str:
        return choose_name(wanted, seen.taken, name_room(self._group))

    def _check_space(self, seen: PoolView) -> None:
        with running(seen.row), control() as devices:
            shortage = lvmspace.shortage(pool_state(devices, seen.row))
        if shortage:
            raise OutOfSpace(
                f"pool {self._name} takes no new snapshot: {shortage}",
                hint=f"grow it: rokctl pool extend {self._name} --size SIZE; or remove snapshots",
            )

    def _changes(self, old: LogicalVolume, new: LogicalVolume) -> Generator[Change, None, None]:
        from engine.device import lvmdelta

        if old.uuid == new.uuid:
            return
        pool = self._lookout.pool()
        with running(pool):
            yield from lvmdelta.changes(self._node, pool, old, new, self._lookout.check_present)

    def _mappings(self, row: LogicalVolume) -> Generator[Extent, None, None]:
        from engine.device import lvmdelta

        pool = self._lookout.pool()
        with running(pool):
            yield from lvmdelta.mappings(self._node, pool, row, self._lookout.check_present)


@contextmanager
def _source(row: LogicalVolume, snapshot: bool) -> Iterator[Source]:
    from engine.device import blockio

    with awake(row), blockio.open_source(row.path, snapshot=snapshot) as source:
        yield source


@contextmanager
def _target(pool: LogicalVolume, row: LogicalVolume) -> Iterator[Target]:
    from engine.device import blockio
    from engine.device.thintarget import ThinTarget

    with awake(row), blockio.open_target(row.path) as target:
        yield ThinTarget(target, pool)


def _with_use(volume: VolumeRow, devices: Control) -> Volume:
    """The volume, with the bytes that it has allocated, where the kernel can say it at once."""
    if not volume.row.active:
        return volume.item
    try:
        status = devices.status(volume.row.device)
    except NotFound:
        return volume.item  # deactivated since the listing
    return replace(volume.item, used=parse_thin_status(status[0].text) if status else None)


def _snapshot_tags(volume: VolumeRow, name: str, shared: Sequence[str]) -> list[str]:
    """What a snapshot carries; `shared` is the same for all of its group."""
    item = volume.item
    tags = [tag(Tag.SNAPSHOT, name), tag(Tag.OF, item.name), tag(Tag.OF_UUID, item.uuid), *shared]
    return [*tags, tag(Tag.FROZEN)] if is_mounted(volume.row) else tags


def _rounded(size: int, row: LogicalVolume) -> int:
    return -(-size // row.extent_size) * row.extent_size
