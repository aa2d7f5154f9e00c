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


def begins_a_page(memory: memoryview) -> bool:
    """Does memory begin where a page does? The kernel may then write it to a disk as it lies.

    Memory that may not be written, as of `bytes`, is said not to: Python does not tell where it is.
    """
    return not memory.readonly and ctypes.addressof(ctypes.c_char.from_buffer(memory)) % mmap.PAGESIZE == 0
