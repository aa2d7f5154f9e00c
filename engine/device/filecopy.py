"""Copies of sparse files: shared by the filesystem where it can (reflink), byte by byte where it cannot."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from engine import native
from engine.device.blockio import FileSource, data_extents, file_target, opened, read_pieces, translated
from engine.errors import Failed

_NO_REFLINK: Final = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)
_EXACT: Final = (native.XFS, native.BTRFS)  # their FIEMAP tells true places, or says that it does not


def can_reflink(directory: Path) -> bool:
    """Whether files in the directory can share bytes: found by trying, with two files that never have a name."""
    try:
        flags = os.O_TMPFILE | os.O_RDWR
        with opened(str(directory), flags) as origin, opened(str(directory), flags) as target:
            native.clone_file(target, origin)
    except (OSError, Failed):  # Failed: the filesystem knows no files without a name; those that reflink do
        return False
    return True


def tells_places(directory: Path) -> bool:
    """Whether the filesystem of the directory says exactly where it keeps the bytes of a file."""
    return native.filesystem_magic(str(directory)) in _EXACT


def copy(origin: int, path: str, target: Path, mode: int) -> bool:
    """Make `target`, a new file, hold what the open file `origin` holds, durably. Whether it shares the bytes.

    A shared copy is of one instant; another is only when nobody writes meanwhile. `path` names the origin in errors.
    """
    with opened(str(target), os.O_RDWR | os.O_CREAT | os.O_EXCL) as file:
        is_shared = _clone(origin, file, target)
        if not is_shared:
            _copy_data(origin, path, file, target)
        try:
            os.fchmod(file, mode)
            os.fsync(file)
        except OSError as error:
            raise translated(error, str(target), "flushing") from error
        with contextlib.suppress(OSError):  # advice: nobody will read it soon
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    return is_shared


def _clone(origin: int, file: int, target: Path) -> bool:
    try:
        native.clone_file(file, origin)
    except OSError as error:
        if error.errno in _NO_REFLINK:
            return False
        raise translated(error, str(target), "cloning to") from error
    return True


def _copy_data(origin: int, path: str, file: int, target: Path) -> None:
    source = FileSource(origin, path)
    try:
        os.ftruncate(file, source.size)
    except OSError as error:
        raise translated(error, str(target), f"growing to {source.size} bytes") from error
    with file_target(file, str(target)) as copy_:
        for start, piece in read_pieces(source, data_extents(origin, path, source.size)):
            copy_.write(start, piece)
