"""Who uses a file: locks that readers and writers hold on it, and loop devices that stand on it.

The locks are open file description locks (`F_OFD_SETLK`, see fcntl(2)) on the whole file. They go away with the
descriptor, so a killed process leaves none; they can be looked at without being taken; and QEMU, which locks a few bytes
of its disk images in the same way, then sees us, and we see it.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

SYS_BLOCK: Final = Path("/sys/block")
_LOCK: Final = "hhqqi4x"  # struct flock on 64-bit Linux: type, whence, start, length (0: to the end), pid (0 for these)


def lock_shared(file: int) -> bool:
    """Lock a file against writers. False when one holds it."""
    return _lock(file, fcntl.F_RDLCK)


def lock_exclusive(file: int) -> bool:
    """Lock a file, which must be open for writing, against all others. False when anyone holds it."""
    return _lock(file, fcntl.F_WRLCK)


def is_locked(file: int, *, by_writer: bool = False) -> bool:
    """Whether anyone else holds a lock on the file (with `by_writer`: an exclusive one)."""
    wanted = fcntl.F_RDLCK if by_writer else fcntl.F_WRLCK
    answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, struct.pack(_LOCK, wanted, os.SEEK_SET, 0, 0, 0))
    found: int = struct.unpack(_LOCK, answer)[0]
    return found != fcntl.F_UNLCK


def loop_devices(sys_block: Path = SYS_BLOCK) -> dict[str, str]:
    """The files that stand behind loop devices: `{absolute path: loop device}`."""
    found = {}
    for backing in sys_block.glob("loop*/loop/backing_file"):
        try:
            text = backing.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
                continue  # detached since the listing
            raise
        found[text.rstrip("\n")] = f"/dev/{backing.parent.parent.name}"
    return found


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack(_LOCK, kind, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
