"""A pool without device-mapper: a folder of sparse files (see `folder` for its layout).

Where the filesystem can share bytes between files (XFS, btrfs), a snapshot takes an instant and no space, and deltas come
from its own map of blocks. Elsewhere a snapshot is a sparse copy.

Nothing can suspend the writers of a file. A snapshot that shares bytes is still of one instant; a copy, and a group of
either, is of one instant only if its volumes rest while it is taken. Our own writers are kept out; that others rested is
seen from the files' times of change, and when they did not, the call answers Busy and no snapshot is kept.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from engine.clock import Clock
from engine.device import fiemap, filecopy, inuse, records
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
from engine.device.blockio import (
    allocated,
    held,
    hold_exclusively,
    open_source,
    open_target,
    opened,
    sync_directory,
    translated,
)
from engine.device.folder import HEAD, MARKER, RECORD, PoolFolder
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
    described,
    not_found,
)
from engine.errors import Busy, OutOfSpace, Refused
from engine.extent import Extent

# What a directory may hold and still become a pool: what mkfs puts there, and what a crash while creating one leaves.
_HARMLESS: Final = frozenset({"lost+found", f"{MARKER}.new"})

_VOLUME_MODE: Final = 0o600  # a disk holds secrets: it is its owner's alone, and so are its snapshots
_SNAPSHOT_MODE: Final = 0o400
_SECTOR_UNIT: Final = 512  # of st_blocks, whatever the filesystem


def create_directory_pool(
    path: Path, name: str, clock: Clock, entropy: Callable[[int], bytes], *, registration: Path | None = None
) -> Made[Pool]:
    """A pool in a directory, known to no registry unless `registration` is its link there. Raises Refused when the directory
    holds another pool, or anything else."""
    check_name("pool", name)
    try:
        path.mkdir(parents=True, exist_ok=True)
        marker = path / MARKER
        existing = records.read_pool(marker)
        if existing is None:
            _check_empty(path)
            records.write(marker, records.PoolRecord(name, entropy(16).hex()))
            sync_directory(path.resolve().parent)
    except OSError as error:
        raise translated(error, str(path), "creating a pool") from error
    if existing is not None and existing.name != name:
        raise Refused(
            f"{path} is pool {existing.name} already", hint=f"call it {existing.name}, or choose another directory"
        )
    pool = DirectoryPool(path, clock, entropy, registration=registration)
    return Made(pool, Outcome.ALREADY_THERE if existing else Outcome.CREATED)


class DirectoryPool:
    """See `Pool`, and the module. Raises NotFound when `root` holds no pool."""

    def __init__(
        self, root: Path, clock: Clock, entropy: Callable[[int], bytes], *, registration: Path | None = None
    ) -> None:
        self._folder = PoolFolder(root, clock, entropy)
        self._clock = clock
        self._registration = registration

    @property
    def name(self) -> str:
        """See `Pool`."""
        return self._folder.record.name

    def status(self) -> PoolStatus:
        """See `Pool`. The sizes are those of the filesystem, which others may share."""
        self._folder.check_there()
        root = self._folder.root
        filesystem = os.statvfs(root)
        shares = filecopy.can_reflink(root)
        is_exact = shares and filecopy.tells_places(root)
        return PoolStatus(
            name=self.name,
            kind="directory",
            uuid=self._folder.record.uuid,
            location=str(root),
            data_size=filesystem.f_blocks * filesystem.f_frsize,
            data_used=(filesystem.f_blocks - filesystem.f_bavail) * filesystem.f_frsize,
            metadata_size=None,
            metadata_used=None,
            data_block_size=filesystem.f_frsize,
            provisioned=sum(volume.size for volume in self.volumes()),
            health="ok" if self._folder.free() else "out of space",
            snapshots_by="reflink" if shares else "copy",
            deltas_by="fiemap" if is_exact else "none: every push reads the whole volume",
        )

    def extend(self, *, size: int | None = None, devices: tuple[str, ...] = ()) -> Made[PoolStatus]:
        """See `Pool`. Always Refused."""
        asked = f"{size} bytes" if size is not None else f"{len(devices)} devices"
        message = f"pool {self.name} cannot grow to {asked} by itself: its size is that of its filesystem"
        raise Refused(message, hint=f"grow the filesystem that holds {self._folder.root}")

    def remove(self) -> Outcome:
        """See `Pool`. The directory itself stays, and what else is in it."""
        if not self._folder.exists():
            self._unregister()
            return Outcome.ALREADY_GONE
        with self._folder.change():
            check_empty(self.name, self.volumes(), self.snapshots())
            self._folder.dissolve()
        self._unregister()
        return Outcome.REMOVED

    def volumes(self) -> list[Volume]:
        """See `Pool`."""
        self._folder.check_there()
        attached = inuse.loop_devices()
        return [self._read_volume(name, attached) for name in self._folder.volume_names()]

    def volume(self, name: str) -> Volume:
        """See `Pool`."""
        self._folder.check_there()
        names = self._folder.volume_names()
        if name not in names:
            raise not_found("volume", name, names)
        return self._read_volume(name, inuse.loop_devices())

    def create_volume(self, name: str, size: int, *, restoring: str | None = None) -> Made[Volume]:
        """See `Pool`."""
        check_name("volume", name)
        check_size(size)
        with self._folder.change():
            if name in self._folder.volume_names():
                existing = self.volume(name)
                check_own(existing)
                check_same_size(existing, size)
                return Made(existing, Outcome.ALREADY_THERE)
            with self._folder.staged() as stage:
                with opened(str(stage / HEAD), os.O_RDWR | os.O_CREAT | os.O_EXCL) as file:
                    _set_size(file, stage / HEAD, size)
                self._publish_volume(stage, name, origin=None, restoring=restoring)
            return Made(self.volume(name), Outcome.CREATED)

    def resize_volume(self, name: str, size: int) -> Made[Volume]:
        """See `Pool`."""
        check_size(size)
        with self._folder.change():
            volume = self.volume(name)
            check_own(volume)
            check_growth(volume, size)
            if size == volume.size:
                return Made(volume, Outcome.UNCHANGED)
            with opened(volume.path, os.O_RDWR) as file:
                _set_size(file, Path(volume.path), size)
            return Made(self.volume(name), Outcome.CHANGED)

    def remove_volume(self, name: str) -> Outcome:
        """See `Pool`."""
        with self._folder.change():
            if name not in self._folder.volume_names():
                return Outcome.ALREADY_GONE
            volume = self.volume(name)
            check_removable(volume, self.snapshots(name))
            with opened(volume.path, os.O_RDWR) as file:
                hold_exclusively(file, volume.path)
                self._folder.retire(self._folder.volumes / name)
            return Outcome.REMOVED

    def clone_volume(self, volume: str, snapshot: str, name: str) -> Made[Volume]:
        """See `Pool`."""
        check_name("volume", name)
        with self._folder.change():
            origin = self.snapshot(volume, snapshot)
            if name in self._folder.volume_names():
                existing = self.volume(name)
                check_clone(existing, self._origin(name), origin)
                return Made(existing, Outcome.ALREADY_THERE)
            self._check_room([origin.path])
            with self._folder.staged() as stage, held(origin.path, snapshot=True) as file:
                filecopy.copy(file, origin.path, stage / HEAD, _VOLUME_MODE)
                self._publish_volume(stage, name, origin=origin.uuid, restoring=None)
            return Made(self.volume(name), Outcome.CREATED)

    def snapshots(self, volume: str | None = None) -> list[Snapshot]:
        """See `Pool`."""
        if volume is None:
            self._folder.check_there()
        else:
            self.volume(volume)
        return [found for found in self._all_snapshots() if volume in (None, found.volume)]

    def snapshot(self, volume: str, name: str) -> Snapshot:
        """See `Pool`."""
        existing = self.snapshots(volume)
        for snapshot in existing:
            if snapshot.name == name:
                return snapshot
        raise not_found(f"snapshot of volume {volume} called", name, [snapshot.name for snapshot in existing])

    def create_snapshots(self, names: Mapping[str, str]) -> list[Made[Snapshot]]:
        """See `Pool`, and the module for what a group is worth on files."""
        for name in names.values():
            check_name("snapshot", name)
        with self._folder.change():
            volumes = [self.volume(volume) for volume in names]
            existing = self._existing(names)
            if check_group(names, existing):
                return [Made(snapshot, Outcome.ALREADY_THERE) for snapshot in existing]
            for volume in volumes:
                check_fit_for_snapshot(volume)
            self._check_room([volume.path for volume in volumes])
            with self._folder.staged() as stage:
                _copy_all(volumes, stage)
                self._publish_group(stage, volumes, names)
            return [Made(snapshot, Outcome.CREATED) for snapshot in self._existing(names)]

    def remove_snapshot(self, volume: str, name: str) -> Outcome:
        """See `Pool`. Busy also while it stands behind a loop device."""
        with self._folder.change():
            found = self._existing({volume: name})
            if not found:
                return Outcome.ALREADY_GONE
            self._check_unread(found[0])
            path = Path(found[0].path)
            is_last = len(list(path.parent.glob("*.raw"))) == 1
            self._folder.retire(path.parent if is_last else path)
            return Outcome.REMOVED

    def allocated(self, volume: str, snapshot: str | None = None) -> Iterator[Extent]:
        """See `Pool`."""
        return allocated(self._path(volume, snapshot), snapshot=snapshot is not None)

    def delta(self, volume: str, old: str, new: str | None) -> Generator[Change, None, None] | None:
        """See `Pool`. None unless the filesystem tells exactly where it keeps the bytes of a file."""
        before, after = self._path(volume, old), self._path(volume, new)
        if not filecopy.tells_places(self._folder.root):
            return None
        return _changes(before, after, after_is_snapshot=new is not None)

    def open_source(self, volume: str, snapshot: str | None = None) -> AbstractContextManager[Source]:
        """See `Pool`."""
        return open_source(self._path(volume, snapshot), snapshot=snapshot is not None)

    def open_target(self, volume: str) -> AbstractContextManager[Target]:
        """See `Pool`. What others do with a file shows only if they lock it, as QEMU does, or attach it to a loop device."""
        found = self.volume(volume)
        check_own(found)
        return open_target(found.path)

    def mark_restoring(self, volume: str, version: str | None) -> None:
        """See `Pool`."""
        with self._folder.change():
            check_own(self.volume(volume))
            path = self._folder.volumes / volume / RECORD
            record = records.read_volume(path)
            assert record is not None, f"volume {volume} has no record, and is not foreign"
            if record.restoring != version:
                records.write(path, replace(record, restoring=version))

    def filesystem(self, volume: str, snapshot: str | None = None) -> Filesystem | None:
        """See `Pool`."""
        from engine.device.probe import probe  # it imports subprocess, which few commands need

        return probe(self._path(volume, snapshot))

    def _unregister(self) -> None:
        if self._registration is not None:
            self._registration.unlink(missing_ok=True)

    def _publish_volume(self, stage: Path, name: str, *, origin: str | None, restoring: str | None) -> None:
        created = self._clock.now().isoformat()
        record = records.VolumeRecord(self._folder.new_uuid(), created, origin, restoring)
        records.write(stage / RECORD, record)
        self._folder.publish(stage, self._folder.volumes / name)

    def _publish_group(self, stage: Path, volumes: Iterable[Volume], names: Mapping[str, str]) -> None:
        members = tuple(
            records.Member(volume.name, volume.uuid, names[volume.name], self._folder.new_uuid()) for volume in volumes
        )
        sequence = 1 + max((group.sequence for _, group in self._folder.groups()), default=0)
        record = records.GroupRecord(self._folder.new_uuid(), sequence, self._clock.now().isoformat(), members)
        records.write(stage / RECORD, record)
        self._folder.publish(stage, self._folder.snapshots / f"{sequence:08d}-{record.uuid}")

    def _read_volume(self, name: str, attached: Mapping[str, str]) -> Volume:
        """A volume that is there. One without a record is someone else's."""
        path = str(self._folder.volumes / name / HEAD)
        record = records.read_volume(self._folder.volumes / name / RECORD)
        with opened(path, os.O_RDONLY) as file:
            status = os.fstat(file)
            in_use = path in attached or inuse.is_locked(file)
        return Volume(
            pool=self.name,
            name=name,
            uuid=record.uuid if record else "",
            size=status.st_size,
            used=status.st_blocks * _SECTOR_UNIT,
            path=path,
            created=datetime.fromisoformat(record.created) if record else None,
            in_use=in_use,
            restoring=record.restoring if record else None,
            foreign=record is None,
        )

    def _origin(self, name: str) -> str | None:
        record = records.read_volume(self._folder.volumes / name / RECORD)
        return record.origin if record else None

    def _all_snapshots(self) -> Iterator[Snapshot]:
        """Oldest first."""
        for folder, group in self._folder.groups():
            for member in group.members:
                path = folder / f"{member.volume}.raw"
                if not path.exists():
                    continue  # removed
                yield Snapshot(
                    pool=self.name,
                    volume=member.volume,
                    name=member.name,
                    uuid=member.uuid,
                    volume_uuid=member.volume_uuid,
                    group=group.uuid,
                    size=path.stat().st_size,
                    path=str(path),
                    created=datetime.fromisoformat(group.created),
                    frozen=False,
                    foreign=False,
                )

    def _existing(self, names: Mapping[str, str]) -> list[Snapshot]:
        """Those of the snapshots `{volume: name}` that exist, in the order of `names`."""
        found = {
            snapshot.volume: snapshot
            for snapshot in self._all_snapshots()
            if names.get(snapshot.volume) == snapshot.name
        }
        return [found[volume] for volume in names if volume in found]

    def _path(self, volume: str, snapshot: str | None) -> str:
        return (self.volume(volume) if snapshot is None else self.snapshot(volume, snapshot)).path

    def _check_room(self, paths: Iterable[str]) -> None:
        """Raises OutOfSpace when copies of these files would not fit, or the filesystem is near its end."""
        need = 0
        if not filecopy.can_reflink(self._folder.root):
            need = sum(Path(path).stat().st_blocks * _SECTOR_UNIT for path in paths)
        free = self._folder.free_beyond(need)
        if need >= free:
            message = f"pool {self.name} is near the end of its space: {need} bytes are needed, {free} are free"
            raise OutOfSpace(message, hint=f"remove snapshots, or grow the filesystem that holds {self._folder.root}")

    def _check_unread(self, snapshot: Snapshot) -> None:
        loop_device = inuse.loop_devices().get(snapshot.path)
        if loop_device is not None:
            hint = f"run `losetup -d {loop_device}` when it is free"
            raise Busy(f"{described(snapshot)} stands behind {loop_device}", hint=hint)
        with opened(snapshot.path, os.O_RDONLY) as file:
            if inuse.is_locked(file):
                raise Busy(f"{described(snapshot)} is being read", hint="wait for its reader to end")


def _copy_all(volumes: Iterable[Volume], stage: Path) -> None:
    """Snapshot the files of the volumes into `stage`. Raises Busy when they are written meanwhile, and that matters."""
    with ExitStack() as open_files:
        files = {volume: open_files.enter_context(opened(volume.path, os.O_RDONLY)) for volume in volumes}
        for volume, file in files.items():
            if not inuse.lock_shared(file):
                raise Busy(f"volume {volume.name} is being written", hint="wait for its writer to end")
        before = {volume: _time_of_change(file) for volume, file in files.items()}
        shared = [
            filecopy.copy(file, volume.path, stage / f"{volume.name}.raw", _SNAPSHOT_MODE)
            for volume, file in files.items()
        ]
        if len(files) == 1 and all(shared):
            return  # the kernel made it of one instant
        for volume, file in files.items():
            if _time_of_change(file) != before[volume]:
                hint = "stop its writers while a snapshot is taken; on XFS or btrfs one volume alone needs no rest"
                raise Busy(f"volume {volume.name} was written while its snapshot was taken", hint=hint)


def _time_of_change(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_mtime_ns, status.st_size


def _set_size(file: int, path: Path, size: int) -> None:
    try:
        os.ftruncate(file, size)
        os.fsync(file)
    except OSError as error:
        raise translated(error, str(path), f"growing to {size} bytes") from error


def _changes(old: str, new: str, *, after_is_snapshot: bool) -> Generator[Change, None, None]:
    with held(old, snapshot=True) as before, held(new, snapshot=after_is_snapshot) as after:
        sizes = os.fstat(before).st_size, os.fstat(after).st_size
        yield from fiemap.changes(before, after, *sizes, path=new)


def _check_empty(path: Path) -> None:
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in _HARMLESS)
    if others:
        hint = f"give an empty directory, such as {path / 'pool'}"
        raise Refused(f"{path} is not empty, and is not a pool: it holds {others[0]}", hint=hint)
