"""The system calls that Python does not wrap: fallocate, statfs, syncfs, mlockall, mincore, and ioctls on files and devices.

Constants are those of the kernel's uapi headers (`linux/fs.h`, `linux/falloc.h`, `linux/magic.h`, `asm-generic/mman.h`). A
failing call raises OSError, as the functions of `os` do. Calls that may take long go through ctypes, which releases the
interpreter for their duration; `fcntl.ioctl` keeps it when its buffer is larger than 1024 bytes.
"""

import ctypes
import fcntl
import functools
import mmap
import os
import struct
from typing import Final

from engine.extent import Extent

_FICLONE: Final = 0x40049409
_BLKDISCARD: Final = 0x1277
_BLKSSZGET: Final = 0x1268
_PUNCH_HOLE_KEEP_SIZE: Final = 0x02 | 0x01
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2
_STATFS_SPACE: Final = 256  # struct statfs has 120 bytes on 64-bit Linux; f_type comes first

XFS: Final = 0x58465342
BTRFS: Final = 0x9123683E


def clone_file(target: int, origin: int) -> None:
    """Make the file `target` share every byte of the file `origin`, atomically: FICLONE."""
    fcntl.ioctl(target, _FICLONE, origin)


def punch_hole(file: int, extent: Extent) -> None:
    """Deallocate the extent of a file: it reads as zeros, and the file keeps its size."""
    offset, length = ctypes.c_int64(extent.start), ctypes.c_int64(extent.length)
    _check(_libc().fallocate(file, _PUNCH_HOLE_KEEP_SIZE, offset, length))


def discard_blocks(device: int, extent: Extent) -> None:
    """Tell a block device that the extent is no longer needed: BLKDISCARD."""
    fcntl.ioctl(device, _BLKDISCARD, struct.pack("=QQ", extent.start, extent.length))


def logical_block_size(device: int) -> int:
    """The smallest unit that the block device addresses, in bytes: BLKSSZGET."""
    answer: tuple[int] = struct.unpack("=i", fcntl.ioctl(device, _BLKSSZGET, bytes(4)))
    return answer[0]


def ioctl_into(file: int, request: int, argument: bytearray) -> None:
    """An ioctl that reads and fills `argument`, however large, without stopping other threads."""
    view = (ctypes.c_char * len(argument)).from_buffer(argument)
    _check(_libc().ioctl(file, ctypes.c_ulong(request), view))


def resident_pages(file: int, offset: int, length: int) -> bytes:
    """Which pages of a range of a file or block device, from a page's start on, are in the page cache: 1 for each, else 0.

    mincore(2) says 1 for every page of a file that is neither ours nor ours to write.
    """
    count = -(-length // mmap.PAGESIZE)
    answer = ctypes.create_string_buffer(count)
    with mmap.mmap(file, length, access=mmap.ACCESS_COPY, offset=offset) as mapped:
        first = ctypes.c_char.from_buffer(mapped)
        try:
            _check(_libc().mincore(ctypes.byref(first), ctypes.c_size_t(length), answer))
        finally:
            del first  # a map that something refers to cannot be closed
    return answer.raw


def lock_memory() -> None:
    """Keep all memory of this process, now and later, where it is: nothing of it has to be read from a disk. mlockall."""
    _check(_libc().mlockall(_MCL_CURRENT | _MCL_FUTURE))


def unlock_memory() -> None:
    """The end of that: munlockall."""
    _check(_libc().munlockall())


def sync_filesystem(file: int) -> None:
    """Write out all that the filesystem of an open file or folder holds in memory, and wait for it: syncfs."""
    _check(_libc().syncfs(file))


def filesystem_magic(path: str) -> int:
    """The number by which the kernel knows the type of the filesystem that holds `path`."""
    answer = ctypes.create_string_buffer(_STATFS_SPACE)
    _check(_libc().statfs(os.fsencode(path), answer))
    return int(ctypes.c_long.from_buffer(answer).value)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
