"""Reading and writing the bytes of a volume or snapshot: a file, or a block device.

The page cache of the node's applications is left alone: what is read does not stay there unless it was there before, and
what is written goes to the disk and leaves.
"""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from mmap import PAGESIZE
from pathlib import Path
from typing import Final

from engine import native
from engine.device import inuse
from engine.device.base import Source, Target
from engine.errors import Busy, Failed, NotFound, OutOfSpace, Refused, RokError
from engine.extent import Extent, between, subtract
from engine.pagecache import QuietReader
from engine.pages import begins_a_page, pages
from engine.units import KIB, MIB, SECTOR

PIECE: Final = 4 * MIB
_DROP_WINDOW: Final = 16 * MIB
_LONG: Final = 64 * KIB  # what is shorter is gathered better by the page cache
_ZEROS: Final = bytes(MIB)
_CANNOT_DIRECTLY: Final = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_CANNOT_DISCARD: Final = (errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def open_source(path: str, *, snapshot: bool) -> Iterator[Source]:
    """Open a file or block device to read. The file of a snapshot is locked, so that removing it is Busy.

    Raises NotFound, Refused where permission is missing, and Busy when someone holds the snapshot exclusively.
    """
    with held(path, snapshot=snapshot) as file:
        yield FileSource(file, path)


@contextmanager
def open_target(path: str) -> Iterator[Target]:
    """Open a file or a thin volume's block device to write, exclusively.

    A block device is opened with O_EXCL, which fails while it is mounted or under another device. A file is locked, and
    must not stand behind a loop device. Raises Busy otherwise, NotFound, and Refused where permission is missing.
    """
    if Path(path).is_block_device():
        with opened(path, os.O_RDWR | os.O_EXCL) as file, _around_the_cache(file) as direct:
            yield _DeviceTarget(file, direct, path)
        return
    with opened(path, os.O_RDWR) as file:
        hold_exclusively(file, path)
        with file_target(file, path) as target:
            yield target


@contextmanager
def file_target(file: int, path: str) -> Iterator["FileTarget"]:
    """An open file to write to, that nobody else writes to; `path` names it in errors."""
    with _around_the_cache(file) as direct:
        yield FileTarget(file, direct, path)


def read_pieces(source: Source, extents: Iterable[Extent]) -> Iterator[tuple[int, memoryview]]:
    """What a source holds in these extents, in whole pages where they begin with one: offsets, and up to PIECE bytes each.

    Each piece stands in the memory of the one before. While it is looked at, the disk reads what comes next in its extent.
    """
    memory = memoryview(pages(PIECE))
    for extent in extents:
        for start in range(extent.start, extent.end, PIECE):
            end = min(start + PIECE, extent.end)
            source.read_into(start, memory[: end - start])
            if end < extent.end:
                source.expect(between(end, min(end + PIECE, extent.end)))
            yield start, memory[: end - start]


def allocated(path: str, *, snapshot: bool) -> Iterator[Extent]:
    """Where a file or block device may hold anything but zeros; see `data_extents`. It stays open until the end."""
    with held(path, snapshot=snapshot) as file:
        yield from data_extents(file, path, os.lseek(file, 0, os.SEEK_END))


@contextmanager
def held(path: str, *, snapshot: bool) -> Iterator[int]:
    """A file descriptor to read from. The file of a snapshot is locked; a volume's is not: it may be in use."""
    with opened(path, os.O_RDONLY) as file:
        if snapshot and _is_regular(file) and not inuse.lock_shared(file):
            raise Busy(f"{path} is held by another program")
        yield file


def hold_exclusively(file: int, path: str) -> None:
    """Lock a volume's file, open for writing, until it is closed. Raises Busy, and NotFound when it was just removed."""
    loop_device = inuse.loop_devices().get(str(Path(path).resolve()))
    if loop_device is not None:
        raise Busy(f"{path} stands behind {loop_device}", hint=f"run `losetup -d {loop_device}` when it is free")
    if not inuse.lock_exclusive(file):
        raise Busy(f"{path} is held by another program", hint="wait for it to end")
    try:
        standing = Path(path).stat().st_ino
    except OSError as error:
        raise translated(error, path, "looking") from error
    if standing != os.fstat(file).st_ino:
        raise NotFound(f"{path} was removed while it was opened")


@contextmanager
def new_file(path: str, size: int) -> Iterator[Target]:
    """A sparse file of `size` bytes, open to write, that appears under its name when the `with` ends without an error.

    Until then it stands beside it under a hidden name; what a process that died left there is taken over. Raises Refused
    when something has the name, before and after, and Busy when another process is making the same file.
    """
    final = Path(path)
    partial = final.with_name(f".{final.name}.partial")
    _refuse_taken(final)
    with opened(str(partial), os.O_RDWR | os.O_CREAT) as file:
        is_ours = False
        try:
            hold_exclusively(file, str(partial))
            is_ours = True
            os.ftruncate(file, 0)
            os.ftruncate(file, size)
            with file_target(file, str(partial)) as target:
                yield target
            os.fsync(file)
            _drop(file, 0, 0)
            _refuse_taken(final)
            partial.rename(final)
        except BaseException as error:  # an interruption too leaves nothing of ours
            if is_ours or (not isinstance(error, RokError) and _is_nobodys(file, partial)):
                partial.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise translated(error, path, f"making a file of {size} bytes") from error
            raise
    sync_directory(final.parent)


@contextmanager
def nameless_file(directory: Path) -> Iterator[tuple[Path, Target]]:
    """A new file without a name, open to write, which grows as it is written and is gone after the `with`; and a path to it."""
    import tempfile  # which takes longer to load than all else here

    with (
        tempfile.TemporaryFile(dir=directory, buffering=0) as file,
        file_target(file.fileno(), str(directory)) as target,
    ):
        target.size = sys.maxsize
        yield Path(f"/proc/self/fd/{file.fileno()}"), target


def _is_nobodys(file: int, path: Path) -> bool:
    """Is an open file the one of that name, and held by nobody? Asked after an interruption, when that is not known yet."""
    try:
        return inuse.lock_exclusive(file) and path.stat().st_ino == os.fstat(file).st_ino
    except OSError:
        return False


def _refuse_taken(path: Path) -> None:
    if path.exists():
        raise Refused(f"{path} exists", hint="name a new file, or remove it first")


def sync_directory(path: Path) -> None:
    """Return once the entries of the directory are on stable storage."""
    with opened(str(path), os.O_RDONLY | os.O_DIRECTORY) as directory:
        try:
            os.fsync(directory)
        except OSError as error:
            raise translated(error, str(path), "flushing") from error


def data_extents(file: int, path: str, size: int) -> Iterator[Extent]:
    """Where an open file may hold anything but zeros, by SEEK_DATA and SEEK_HOLE: a normal sequence, inside `size`.

    A filesystem that keeps no account of holes answers with the whole file, and so does a block device.
    """
    position = 0
    while position < size:
        try:
            start = os.lseek(file, position, os.SEEK_DATA)
            end = os.lseek(file, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # only a hole is left
            if error.errno != errno.EINVAL:
                raise translated(error, path, f"looking for a hole after byte {position}") from error
            start, end = position, size  # a block device
        if start >= size:
            return
        yield between(start, min(end, size))
        position = end


@contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    """A file descriptor for the time of a `with`; a new file is its owner's alone. Raises what `translated` makes."""
    try:
        file = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise translated(error, path, "opening") from error
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _around_the_cache(file: int) -> Iterator[int | None]:
    """The same open file once more, for writes around the page cache; None where its filesystem has no such writes."""
    try:
        direct = os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield direct
    finally:
        os.close(direct)


def translated(error: OSError, path: str, action: str) -> RokError:
    """What an OSError means to the caller, when `action` (a present participle and its details) failed on `path`."""
    message = f"{action} failed on {path}: {error.strerror}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return OutOfSpace(message, hint="make space in the pool, or grow it")
        case errno.ENOENT | errno.ENOTDIR:
            return NotFound(message)
        case errno.EEXIST | errno.ENOTEMPTY:
            return Refused(message, hint="move away what is there")
        case errno.EBUSY | errno.ETXTBSY:
            return Busy(message, hint="unmount it, or stop what uses it")
        case errno.EACCES | errno.EPERM:
            return Refused(message, hint="run it as the owner, or as root")
        case errno.EFBIG:
            return Refused(message, hint="its filesystem takes no file of that size; choose a smaller one")
    return Failed(message)


def _is_regular(file: int) -> bool:
    return stat.S_ISREG(os.fstat(file).st_mode)


def _drop_windows(file: int, offset: int, end: int) -> None:
    """Drop the windows whose end this write reached. It alone decides, so threads share no state."""
    first, last = offset // _DROP_WINDOW, end // _DROP_WINDOW
    if last > first:
        _drop(file, first * _DROP_WINDOW, (last - first) * _DROP_WINDOW)


def _drop(file: int, offset: int, length: int) -> None:
    """Give the pages of a range back; a length of 0 means to the end."""
    with contextlib.suppress(OSError):  # advice
        os.posix_fadvise(file, offset, length, os.POSIX_FADV_DONTNEED)


class FileSource:
    """An open file or block device to read from; `path` names it in errors."""

    def __init__(self, file: int, path: str) -> None:
        self._reader = QuietReader(file)
        self._path = path
        self.size = os.lseek(file, 0, os.SEEK_END)
        self.logical_block_size = SECTOR if _is_regular(file) else native.logical_block_size(file)

    def read_into(self, offset: int, target: memoryview) -> None:
        """See `Source`."""
        end = offset + len(target)
        assert 0 <= offset <= end <= self.size, f"read of {len(target)} bytes at {offset}, outside the source"
        position = offset
        while position < end:
            try:
                count = self._reader.read_into(position, target[position - offset :])
            except OSError as error:
                raise translated(error, self._path, f"reading {end - position} bytes at byte {position}") from error
            if count == 0:
                raise Failed(f"{self._path} became shorter while it was read: nothing is left at byte {position}")
            position += count

    def expect(self, extent: Extent) -> None:
        """See `Source`."""
        self._reader.expect(extent)


class FileTarget:
    """A file that is held exclusively; `direct` is the same file, where writes may go around the page cache."""

    def __init__(self, file: int, direct: int | None, path: str) -> None:
        self._file = file
        self._direct = direct
        self._path = path
        self.size = os.lseek(file, 0, os.SEEK_END)

    def write(self, offset: int, body: bytes | bytearray | memoryview) -> None:
        """See `Target`."""
        view = memoryview(body)
        assert 0 <= offset <= offset + len(view) <= self.size, f"write of {len(view)} bytes at {offset}, outside"
        done = self._write_directly(offset, view)
        while done < len(view):
            try:
                done += os.pwrite(self._file, view[done:], offset + done)
            except OSError as error:
                raise translated(error, self._path, f"writing at byte {offset + done}") from error
        # What is dropped while it is dirty begins to be written: else the flush at the end would find all of it waiting.
        _drop_windows(self._file, offset, offset + done)

    def _write_directly(self, offset: int, view: memoryview) -> int:
        """Write whole pages around the page cache: that copies nothing, and leaves the cache alone. How many bytes it wrote.

        What cannot be written so is left to an ordinary write. An error of the disk is told at once: an ordinary write to a
        block device ends in the cache, and the error would come to light with the last flush.
        """
        whole = view[: len(view) // PAGESIZE * PAGESIZE]
        if self._direct is None or len(whole) < _LONG or offset % PAGESIZE or not begins_a_page(view):
            return 0
        try:
            return os.pwrite(self._direct, whole, offset)
        except OSError as error:
            if error.errno not in _CANNOT_DIRECTLY:
                raise translated(error, self._path, f"writing at byte {offset}") from error
            return 0

    def discard(self, extent: Extent) -> None:
        """See `Target`. What cannot be discarded is overwritten with zeros."""
        assert extent.end <= self.size, f"discard of {extent.length} bytes at {extent.start}, outside"
        try:
            released = self._release(extent)
        except OSError as error:
            if error.errno not in _CANNOT_DISCARD:
                action = f"discarding {extent.length} bytes at byte {extent.start}"
                raise translated(error, self._path, action) from error
            released = []
        for rest in subtract([extent], released):
            for position in range(rest.start, rest.end, len(_ZEROS)):
                self.write(position, _ZEROS[: rest.end - position])

    def flush(self) -> None:
        """See `Target`."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise translated(error, self._path, "flushing") from error
        _drop(self._file, 0, 0)  # what was still dirty when its window was dropped

    def _release(self, extent: Extent) -> list[Extent]:
        """Give space back, and return the part of the extent that reads as zeros now. Raises OSError."""
        native.punch_hole(self._file, extent)
        return [extent]


class _DeviceTarget(FileTarget):
    """The block device of a thin volume, open exclusively.

    dm-thin ignores the part of a discard that does not cover a whole data block: those bytes would stay what they were.
    So only whole multiples of the discard granularity are discarded; an unmapped data block reads as zeros.
    """

    def __init__(self, file: int, direct: int | None, path: str) -> None:
        super().__init__(file, direct, path)
        number = os.fstat(file).st_rdev
        self._queue = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/queue")

    def _release(self, extent: Extent) -> list[Extent]:
        granularity = int((self._queue / "discard_granularity").read_text(encoding="ascii"))
        if granularity == 0:
            return []
        start = -(-extent.start // granularity) * granularity
        end = extent.end // granularity * granularity
        if end <= start:
            return []
        native.discard_blocks(self._file, between(start, end))
        return [between(start, end)]
