"""SIGTERM and Ctrl-C become exceptions in the main thread, so that everything that is held is released on the way out."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

_AGAIN_SECONDS: Final = 0.02

# While these are at work they hold locks, and what is raised in them by a signal may leave one locked for ever: the lock of
# all imports, of a queue of connections, of a thread that is being started. Whatever they do for the main thread is soon done:
# where that waits for long, it waits in C (engine.crew).
_BUSY: Final = frozenset({"_frozen_importlib", "_frozen_importlib_external", "queue", "threading"})
_BUSY_IMPORTS: Final = "importlib._"
# A context manager that is made of a generator is left open, or is closed too late, when these are broken off.
_BUSY_INNERMOST: Final = "contextlib"


class Terminated(BaseException):
    """SIGTERM came: unwinds like KeyboardInterrupt, so that everything that is held is released on the way."""


_RAISED: Final[dict[int, type[BaseException]]] = {signal.SIGTERM: Terminated, signal.SIGINT: KeyboardInterrupt}


@contextmanager
def interruptions(stop: Callable[[], None]) -> Iterator[None]:
    """The first SIGTERM or SIGINT calls `stop`, and raises Terminated or KeyboardInterrupt in the main thread, once.

    It is raised as soon as the main thread holds no lock of the interpreter's own library, which takes no more than an import.
    No SIGTERM that follows breaks off the release of what is held. A Ctrl-C does, and ends the process at once: it is for a
    person to whom the release takes too long. What is ignored from the start, as under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _RAISED}
    hook_before = sys.unraisablehook
    interrupter = _Interrupter(stop, hook_before)
    sys.unraisablehook = interrupter.came_to_nothing
    try:
        for number in _RAISED:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, interrupter.come)
        yield
    except RuntimeError as error:  # Python 3.11 wraps what is raised while a class is made
        if isinstance(error.__cause__, Terminated | KeyboardInterrupt):
            raise error.__cause__ from None
        raise
    finally:
        interrupter.be_quiet()
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
        sys.unraisablehook = hook_before


def is_busy(frame: FrameType | None) -> bool:
    """Would an exception raised in this frame leave behind a lock that is never released?"""
    if frame is not None and frame.f_globals.get("__name__") == _BUSY_INNERMOST:
        return True
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name in _BUSY or name.startswith(_BUSY_IMPORTS):
            return True
        frame = frame.f_back
    return False


class _Interrupter:
    """Raises when it may, and once more when what it raised was not heard."""

    def __init__(self, stop: Callable[[], None], hook_before: "Callable[[sys.UnraisableHookArgs], object]") -> None:
        self._stop = stop
        self._hook_before = hook_before
        self._number: int | None = None  # of the signal that came first
        self._alarm_before: Any = None  # the handler of the timer, once the timer is needed

    def come(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        for other in _RAISED:
            if signal.getsignal(other) == self.come:
                signal.signal(other, signal.SIG_DFL if other == signal.SIGINT else signal.SIG_IGN)
        self._number = number
        self._stop()
        self._come_again(number, frame)

    def _come_again(self, _number: int, frame: FrameType | None) -> None:
        """The handler of the timer."""
        if self._number is None:
            return
        if not is_busy(frame):
            raise _RAISED[self._number]
        self._retry()

    def _retry(self) -> None:
        handler = signal.signal(signal.SIGALRM, self._come_again)
        self._alarm_before = self._alarm_before or handler
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)

    def came_to_nothing(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Python drops what is raised while it collects garbage, and an interruption with it: raise it again."""
        if issubclass(unraisable.exc_type, tuple(_RAISED.values())):
            self._retry()
        else:
            self._hook_before(unraisable)

    def be_quiet(self) -> None:
        """The work is over: raise nothing more."""
        self._number = None
        if self._alarm_before is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._alarm_before)
