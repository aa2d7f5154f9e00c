"""What a command leaves of the page cache that the applications of a node had: page by page, before and after it."""

import ctypes
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmark.measure import MIB, data_extents


def changed_by(work: Callable[[], object], files: Sequence[Path]) -> int:
    """How many bytes of the files came into the cache, or left it, while the work was done; a half of each was in it before."""
    for path in files:
        cache_half(path)
    before = [cached(path) for path in files]
    work()
    after = [cached(path) for path in files]
    return sum(map(different, before, after)) * mmap.PAGESIZE


def cached_bytes(path: Path) -> int:
    """How much of a file is in the cache."""
    return sum(cached(path)) * mmap.PAGESIZE


def drop(path: Path) -> None:
    """Have nothing of a file in the cache."""
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cache_half(path: Path) -> None:
    """Have every second MiB of a file's data in the cache, and the rest not."""
    buffer = bytearray(MIB)
    drop(path)
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read ahead
        for start, end in data_extents(file.fileno()):
            for position in range(-(-start // (2 * MIB)) * 2 * MIB, end, 2 * MIB):
                os.preadv(file.fileno(), [memoryview(buffer)[: end - position]], position)


def cached(path: Path) -> bytes:
    """Which pages of a file are in the cache, by mincore(2)."""
    size = path.stat().st_size
    if size == 0:
        return b""
    libc = ctypes.CDLL(None, use_errno=True)
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY) as mapped:
        first = ctypes.c_char.from_buffer(mapped)
        failed = libc.mincore(ctypes.byref(first), ctypes.c_size_t(size), pages)
        del first  # a map that something refers to cannot be closed
        if failed:
            raise OSError(ctypes.get_errno(), f"mincore failed on {path}")
    return bytes(page & 1 for page in pages.raw)


def different(one: bytes, other: bytes) -> int:
    """In how many places."""
    return sum(map(int.__ne__, one, other))
