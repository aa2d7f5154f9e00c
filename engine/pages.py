"""Memory in whole pages, for buffers that are filled again and again."""

import ctypes
import mmap
from contextlib import suppress


def pages(size: int) -> mmap.mmap:
    """`size` zero bytes, aligned to a page. A page takes memory when it is first touched.

    Huge pages, where the kernel has them, spare most of the faults by which that happens. It gives them to private memory
    alone: shared memory, which is what Python maps unasked, belongs to a filesystem, and that has none by default.
    """
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class Scratch:
    """Memory of one thread that is filled again and again: each use of it ends the one before.

    It is there from the first use on, of at least `size` bytes, and takes the pages that were filled.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = memoryview(bytearray())

    def first(self, length: int) -> memoryview:
        """The first `length` bytes."""
        if length > len(self._memory):
            self._memory = memoryview(bytearray())  # let go before more is taken
            self._memory = memoryview(pages(max(length, self._size)))
        return self._memory[:length]


def begins_a_page(memory: memoryview) -> bool:
    """Does memory begin where a page does? The kernel may then write it to a disk as it lies.

    Memory that may not be written, as of `bytes`, is said not to: Python does not tell where it is.
    """
    return not memory.readonly and ctypes.addressof(ctypes.c_char.from_buffer(memory)) % mmap.PAGESIZE == 0
