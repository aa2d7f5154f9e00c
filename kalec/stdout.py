"""Standard output that takes what it is given, or says that it does not."""

import errno
import io
import sys
from typing import Final

ROOM_HINT: Final = "let it go where there is room, and run it again"


def buffer_stdout() -> None:
    """Put a buffer before standard output where Python was told to leave it out (PYTHONUNBUFFERED, `python -u`).

    Without one a write takes what there is room for, and tells how much that was to callers who do not listen: text and bytes
    would be cut short by a full disk, or by a signal, and nobody would know.
    """
    if sys.stdout is not None and isinstance(sys.stdout.buffer, io.RawIOBase):
        sys.stdout = open(  # noqa: SIM115 - it stays open, and is a descriptor
            sys.stdout.fileno(), "w", buffering=1, encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False
        )


def flush_stdout() -> None:
    """Write out what is left. Raises OSError, where it would otherwise come to light when nobody can tell of it any more."""
    if sys.stdout is not None:
        sys.stdout.flush()


def has_no_room(error: Exception) -> bool:
    """Is this what a write raises where a filesystem, a quota or a limit leaves no room?"""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
