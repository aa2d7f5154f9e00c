"""Memory in whole pages, for buffers that are filled again and again."""

import mmap
from contextlib import suppress


def pages(size: int) -> mmap.mmap:
    """`size` zero bytes, aligned to a page. A page takes memory when it is first touched.

    Huge pages, where the kernel has them, spare most of the faults by which that happens.
    """
    memory = mmap.mmap(-1, size)
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
