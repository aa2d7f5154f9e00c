"""The page cache of the node: reading a file without changing what the node's applications have in it."""

import contextlib
import errno
import mmap
import os
from collections.abc import Iterator
from typing import Final

from engine import native
from engine.extent import Extent, between

_RWF_DONTCACHE: Final = 0x80  # linux/fs.h, since 6.14: what the read brings into the cache leaves it again
_UNKNOWN_FLAG: Final = (errno.EOPNOTSUPP, errno.EINVAL)  # the second: before Linux 4.13
_PAGE: Final = mmap.PAGESIZE


class QuietReader:
    """Reads an open file or block device: what of it is in the page cache stays there, and nothing is added.

    Newer kernels do that themselves, for most filesystems; a page may stay that two threads read at one instant. Elsewhere
    each read looks first which pages are there, and gives the others back; where the kernel does not tell (a file of someone
    else), none. Any number of threads.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._kernel_does_it = True
        _advise(file, 0, 0, os.POSIX_FADV_RANDOM)  # what is read ahead, into holes and beyond a change, would stay

    def read_into(self, offset: int, target: memoryview) -> int:
        """How many bytes were read, as preadv(2) has it. Raises OSError."""
        if self._kernel_does_it:
            try:
                return os.preadv(self._file, [target], offset, _RWF_DONTCACHE)
            except OSError as error:
                if error.errno not in _UNKNOWN_FLAG:
                    raise
            self._kernel_does_it = False
        absent = list(_absent(self._file, offset, len(target)))
        count = os.preadv(self._file, [target], offset)
        for extent in absent:
            _advise(self._file, extent.start, extent.length, os.POSIX_FADV_DONTNEED)
        return count


def _absent(file: int, offset: int, length: int) -> Iterator[Extent]:
    """The pages of a range that are not in the cache."""
    start = offset // _PAGE * _PAGE
    try:
        pages = native.resident_pages(file, start, offset + length - start)
    except (OSError, ValueError):  # the second: a file that has become shorter, as the read will tell
        return
    end = 0
    while (first := pages.find(0, end)) >= 0:
        end = pages.find(1, first)
        end = end if end >= 0 else len(pages)
        yield between(start + first * _PAGE, start + end * _PAGE)


def _advise(file: int, offset: int, length: int, advice: int) -> None:
    with contextlib.suppress(OSError):  # some filesystems take none
        os.posix_fadvise(file, offset, length, advice)
