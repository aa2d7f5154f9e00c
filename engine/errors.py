"""What can go wrong, by what the caller can do about it.

Every error names the object and the reason in one sentence (`message`), and the next step (`hint`). The command line
maps each class to one exit code; nothing below it exits or prints.
"""

from enum import Enum


class Remedy(Enum):
    """What the caller can do: the five kinds of error."""

    FIX_REQUEST = "fix the request"
    WAIT = "wait"
    RETRY = "retry"
    REPAIR = "repair"
    GIVE_UP = "give up"


class RokError(Exception):
    """Something failed for a reason the user can be told in one sentence."""

    remedy = Remedy.GIVE_UP

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Failed(RokError):
    """The operation failed, and trying the same again is not known to help."""


class DoneInPart(RokError):
    """Some of what was asked for was done; what was not has been said."""

    remedy = Remedy.REPAIR


class Refused(RokError):
    """The request is wrong, and nothing was touched."""

    remedy = Remedy.FIX_REQUEST


class NotFound(RokError):
    """A named thing does not exist."""

    remedy = Remedy.FIX_REQUEST


class Busy(RokError):
    """Someone else is using the object; later it may be free."""

    remedy = Remedy.WAIT


class Unreachable(RokError):
    """A store did not answer, or answered that it cannot now."""

    remedy = Remedy.RETRY


class Damaged(RokError):
    """Bytes are missing, or are not what was written."""

    remedy = Remedy.REPAIR


class WrongKey(RokError):
    """The passphrase, key file or paper copy does not open the repository."""

    remedy = Remedy.FIX_REQUEST


class OutOfSpace(RokError):
    """A pool, a filesystem or a store is full."""

    remedy = Remedy.WAIT
