"""What can go wrong in kalec, by what the caller can do about it.

Every error names the object and the reason in one sentence (`message`), and the next step (`hint`). What is wrong *in* a
notebook is not raised but collected as `Diagnostic`s (`kalec.model`), all of them in one go; these errors are for
everything else. The border of the command line (`kalec.cli`) maps each class to one exit code; nothing below it exits.
"""

from collections.abc import Mapping
from typing import Final


class KalecError(Exception):
    """Something failed for a reason the user can be told in one sentence."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Failed(KalecError):
    """The operation failed: the notebook has mistakes, a step ended with an error, a committed file is stale."""


class Refused(KalecError):
    """The request is wrong (a bad option, a file of a kind that kalec does not read), and nothing was touched."""


class DoneInPart(KalecError):
    """Some of what was asked for was done; what was not has been said."""


class NotFound(KalecError):
    """A named thing (a file, a step, a variable, a run) does not exist."""


class Busy(KalecError):
    """Someone else is using the object; later it may be free."""


class Unreachable(KalecError):
    """A service did not answer, or answered that it cannot now."""


class Damaged(KalecError):
    """Bytes are not what they should be: a notebook that is not JSON, a stored value whose hash differs."""


class OutOfSpace(KalecError):
    """A filesystem is full."""


# An error ends the program with the code of the first of its classes that stands here. 0 is done, 130 interrupted.
EXIT_CODES: Final[Mapping[type[KalecError], int]] = {
    Failed: 1,
    Refused: 2,
    DoneInPart: 3,
    NotFound: 10,
    Busy: 11,
    Unreachable: 12,
    Damaged: 13,
    OutOfSpace: 15,
    KalecError: 1,
}


def exit_code(error: KalecError) -> int:
    """The code that an error ends the program with."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
