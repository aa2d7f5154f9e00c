"""Memory in whole pages, for buffers that are filled again and again."""

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
