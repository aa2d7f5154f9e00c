"""The page cache of the node: reading a file without changing what the node's applications have in it."""

import contextlib
import errno
import mmap
import os
import threading
from collections.abc import Iterator
from typing import Final

from engine import native
from engine.extent import Extent, between, intersect, subtract

_RWF_DONTCACHE: Final = 0x80  # linux/fs.h, since 6.14: what the read brings into the cache leaves it again
_MOST_BUFFERS: Final = 1024  # of one call: IOV_MAX
_UNKNOWN_FLAG: Final = (errno.EOPNOTSUPP, errno.EINVAL)  # the second: before Linux 4.13
_PAGE: Final = mmap.PAGESIZE
_NOWHERE: Final = bytearray(_PAGE)  # what is read into it is never looked at


class QuietReader:
    """Reads an open file or block device: what of it is in the page cache stays there, and nothing is added.

    Newer kernels do that themselves, for most filesystems; a page may stay that two threads read at one instant. Elsewhere
    each read looks first which pages are there, and gives the others back; where the kernel does not tell (a file of someone
    else), none. Any number of threads.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._kernel_does_it = True
        self._kernel_tells = True  # that a read would have to wait for the disk
        # Did a read have to, or would it have had to without what was expected? Until something expected is all there.
        self._is_cold = False
        self._lock = threading.Lock()
        self._brought: list[Extent] = []  # into the cache, because it was expected
        _advise(file, 0, 0, os.POSIX_FADV_RANDOM)  # what is read ahead, into holes and beyond a change, would stay

    def read_into(self, offset: int, target: memoryview) -> int:
        """How many bytes were read, as preadv(2) has it: fewer also where only the first are in the cache. Raises OSError."""
        if self._kernel_does_it:
            try:
                return self._read_at_once_or_wait(offset, target)
            except OSError as error:
                if error.errno not in _UNKNOWN_FLAG:
                    raise
            self._kernel_does_it = False
        absent = [*_absent(self._file, offset, len(target)), *self._take_brought(offset, offset + len(target))]
        self._is_cold = bool(absent)
        count = os.preadv(self._file, [target], offset)
        for extent in absent:
            _advise(self._file, extent.start, extent.length, os.POSIX_FADV_DONTNEED)
        return count

    def expect(self, extent: Extent) -> None:
        """Let the disk begin to read what will be read next, as far as that waits for the disk at all.

        What is expected, and never read, may stay in the page cache.
        """
        if not self._is_cold:
            return
        with contextlib.suppress(OSError):  # whoever reads it will be told
            if not self._kernel_does_it:
                self._bring(extent)
            elif self._kernel_tells:
                self._begin_to_read(extent)

    def _read_at_once_or_wait(self, offset: int, target: memoryview) -> int:
        if self._kernel_tells:
            try:
                return os.preadv(self._file, [target], offset, os.RWF_NOWAIT | _RWF_DONTCACHE)
            except BlockingIOError:
                self._is_cold = True
            except OSError as error:
                if error.errno not in _UNKNOWN_FLAG:
                    raise
                self._kernel_tells = False
        return os.preadv(self._file, [target], offset, _RWF_DONTCACHE)

    def _begin_to_read(self, extent: Extent) -> None:
        """A read that does not wait begins what it would wait for. Its bytes, if there are any, go all to one place."""
        pages, rest = divmod(min(extent.length, _MOST_BUFFERS * _PAGE), _PAGE)
        nowhere = [_NOWHERE] * pages + [memoryview(_NOWHERE)[:rest]] * (rest > 0)
        with contextlib.suppress(BlockingIOError):
            read = os.preadv(self._file, nowhere, extent.start, os.RWF_NOWAIT | _RWF_DONTCACHE)
            self._is_cold = read < extent.length

    def _bring(self, extent: Extent) -> None:
        absent = [*_absent(self._file, extent.start, extent.length)]
        with self._lock:
            self._brought += absent
        for pages in absent:
            _advise(self._file, pages.start, pages.length, os.POSIX_FADV_WILLNEED)

    def _take_brought(self, start: int, end: int) -> list[Extent]:
        """The pages of a range that are in the cache only because they were expected."""
        if not self._brought:
            return []
        inside = [between(start // _PAGE * _PAGE, -(-end // _PAGE) * _PAGE)]
        with self._lock:
            taken = [part for brought in self._brought for part in intersect([brought], inside)]
            self._brought = [part for brought in self._brought for part in subtract([brought], inside)]
        return taken


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
