"""Where things stand in the folder of a directory pool, and how they come and go without being half there.

    rokctl-pool.json               the directory is a pool
    volumes/VOLUME/                head.raw, and the volume's record
    snapshots/SEQUENCE-GROUP/      VOLUME.raw for each snapshot of one call, and the group's record
    transient/                     what is being made or removed

A new volume or group is built in `transient/` and moved to its place by one rename, which the kernel does whole or not at
all; what is removed is moved back the same way, and then deleted. So a crash leaves nothing half made outside
`transient/`, and the next change empties that. Nothing else is ever deleted: a folder that someone else put here is safe.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine.clock import Clock
from engine.device import records
from engine.device.blockio import opened, sync_directory, translated
from engine.errors import Busy, NotFound
from engine.units import MIB

MARKER: Final = "rokctl-pool.json"
HEAD: Final = "head.raw"
RECORD: Final = "record.json"
_LOCK_PATIENCE_SECONDS: Final = 30.0
_LOCK_INTERVAL_SECONDS: Final = 0.05
_RECLAIM_PATIENCE_SECONDS: Final = 5.0
_RECLAIM_INTERVAL_SECONDS: Final = 0.05


class PoolFolder:
    """The folder of one pool. Raises NotFound when it is none, or no longer the one that it was."""

    def __init__(self, root: Path, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        self.root = root.resolve()
        self.volumes = self.root / "volumes"
        self.snapshots = self.root / "snapshots"
        self._transient = self.root / "transient"
        self._clock = clock
        self._entropy = entropy
        self.record = self._read_marker()

    def exists(self) -> bool:
        """Whether the pool is still there."""
        return records.read_pool(self.root / MARKER) == self.record

    def volume_names(self) -> list[str]:
        """The folders that hold a volume, whoever made it; sorted."""
        return sorted(head.parent.name for head in self.volumes.glob(f"*/{HEAD}"))

    def groups(self) -> list[tuple[Path, records.GroupRecord]]:
        """The folders that hold snapshots, and their records; oldest first."""
        found = []
        for path in self.snapshots.glob(f"*/{RECORD}"):
            record = records.read_group(path)
            if record is not None:
                found.append((path.parent, record))
        return sorted(found, key=lambda group: group[1].sequence)

    def check_there(self) -> None:
        """Raises NotFound when the pool is gone: removed, or its filesystem not mounted any more."""
        found = self._read_marker()
        if found != self.record:
            raise NotFound(f"{self.root} is no longer the pool {self.record.name} that it was, but {found.name}")

    def new_uuid(self) -> str:
        """32 hexadecimal digits."""
        return self._entropy(16).hex()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Hold the pool against other changes; what an interrupted one left is removed first.

        Raises Busy when another change does not end within half a minute.
        """
        with opened(str(self.root), os.O_RDONLY | os.O_DIRECTORY) as directory:
            self._lock(directory)
            self.check_there()
            self._sweep()
            yield

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """An empty folder to build something in. What `publish` has not moved away is deleted in the end."""
        stage = self._transient / self.new_uuid()
        try:
            stage.mkdir(parents=True)
        except OSError as error:
            raise translated(error, str(stage), "creating") from error
        try:
            yield stage
        finally:
            self._delete(stage)

    def publish(self, stage: Path, place: Path) -> None:
        """Move a staged folder, whose files are flushed already, to its place, durably."""
        sync_directory(stage)
        try:
            if not place.parent.exists():
                place.parent.mkdir()
                sync_directory(self.root)
            stage.rename(place)
        except OSError as error:
            raise translated(error, str(place), "creating") from error
        sync_directory(place.parent)

    def retire(self, place: Path) -> None:
        """Remove a file or folder: it is gone at once and for good, and its space is given back before the return."""
        grave = self._transient / self.new_uuid()
        try:
            self._transient.mkdir(exist_ok=True)
            place.rename(grave)
        except OSError as error:
            raise translated(error, str(place), "removing") from error
        sync_directory(place.parent)
        self._delete(grave)

    def dissolve(self) -> None:
        """Remove the pool's own folders, which are empty, and the marker last: until then it is a pool."""
        try:
            for folder in (self.volumes, self.snapshots, self._transient):
                if folder.exists():
                    folder.rmdir()
            (self.root / MARKER).unlink()
        except OSError as error:
            raise translated(error, str(self.root), "removing the pool") from error
        sync_directory(self.root)

    def free(self) -> int:
        """The bytes that may still be written, less a little that is kept: one hundredth, and no more than 256 MiB."""
        filesystem = os.statvfs(self.root)
        size, available = (count * filesystem.f_frsize for count in (filesystem.f_blocks, filesystem.f_bavail))
        return max(0, available - min(size // 100, 256 * MIB))

    def free_beyond(self, need: int) -> int:
        """The same, after a wait of some seconds when it is not more than `need`.

        XFS gives back the space of removed files from a worker of its own, some time after the removal.
        """
        end = self._clock.monotonic() + _RECLAIM_PATIENCE_SECONDS
        while (free := self.free()) <= need and self._clock.monotonic() < end:
            self._clock.sleep(_RECLAIM_INTERVAL_SECONDS)
        return free

    def _read_marker(self) -> records.PoolRecord:
        record = records.read_pool(self.root / MARKER)
        if record is None:
            raise NotFound(
                f"there is no pool in {self.root}", hint="mount the filesystem that holds it, or create a pool"
            )
        return record

    def _lock(self, directory: int) -> None:
        end = self._clock.monotonic() + _LOCK_PATIENCE_SECONDS
        while True:
            try:
                return fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if self._clock.monotonic() >= end:
                    message = f"pool {self.record.name} is being changed by another rokctl"
                    raise Busy(message, hint="wait for it to end, and try again") from error
            self._clock.sleep(_LOCK_INTERVAL_SECONDS)

    def _sweep(self) -> None:
        if self._transient.exists():
            for leftover in self._transient.iterdir():
                self._delete(leftover)

    def _delete(self, leftover: Path) -> None:
        try:
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise translated(error, str(leftover), "deleting") from error
