"""SIGTERM and Ctrl-C become exceptions in the main thread, so that everything that is held is released on the way out."""

import io
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
# where that waits for long, it waits in C (engine.hand).
_BUSY: Final = frozenset({"_frozen_importlib", "_frozen_importlib_external", "logging", "queue", "threading"})
_BUSY_IMPORTS: Final = "importlib._"
# These, while nothing that they call is at work. A context manager that is made of a generator is left open, or is closed too
# late, when its entry is broken off; the others take locks, and may wait for the network with them.
_BUSY_INNERMOST: Final = frozenset({"contextlib", "tempfile", "botocore.credentials", "botocore.tokens"})
# What is raised in these is dropped when Python calls them to free an object, and not always told.
_FINALIZERS: Final = frozenset({"__del__", "close", "closed"})


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
        interrupter.is_over = True  # no call, before which a signal might be raised: the work is done
        interrupter.give_back_the_timer()
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
        sys.unraisablehook = hook_before


def is_busy(frame: FrameType | None) -> bool:
    """May an exception that is raised in this frame leave behind a lock that is never released, or be lost?"""
    if frame is not None and frame.f_globals.get("__name__") in _BUSY_INNERMOST:
        return True
    while frame is not None:
        name = frame.f_globals.get("__name__") or ""
        if name in _BUSY or name.startswith(_BUSY_IMPORTS) or _is_finalizer(frame):
            return True
        frame = frame.f_back
    return False


def _is_finalizer(frame: FrameType) -> bool:
    name = frame.f_code.co_name
    return name in _FINALIZERS and (name == "__del__" or isinstance(frame.f_locals.get("self"), io.IOBase))


class _Interrupter:
    """Raises when it may, and once more when what it raised was not heard."""

    def __init__(self, stop: Callable[[], None], hook_before: "Callable[[sys.UnraisableHookArgs], object]") -> None:
        self.is_over = False
        self._stop = stop
        self._hook_before = hook_before
        self._kind: type[BaseException] | None = None  # of the interruption that is to be raised
        self._timer_before: tuple[Any, tuple[float, float]] | None = None  # its handler and its time, once it is needed

    def come(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        if self.is_over:
            return
        for other in _RAISED:
            if signal.getsignal(other) == self.come:
                signal.signal(other, signal.SIG_DFL if other == signal.SIGINT else signal.SIG_IGN)
        self._kind = _RAISED[number]
        self._stop()
        self._raise_if_possible(number, frame)

    def _raise_if_possible(self, _number: int, frame: FrameType | None) -> None:
        """The handler of the timer, too."""
        if self.is_over or self._kind is None:
            return
        if not is_busy(frame):
            raise self._kind
        self._retry()

    def _retry(self) -> None:
        handler = signal.signal(signal.SIGALRM, self._raise_if_possible)
        timer = signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        if self._timer_before is None:
            self._timer_before = handler, timer

    def came_to_nothing(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Python drops what is raised while it collects garbage, and an interruption with it: raise it again."""
        if issubclass(unraisable.exc_type, tuple(_RAISED.values())):
            self._kind = unraisable.exc_type
            self._retry()
        elif self._kind is None or not _is_late(unraisable.exc_value):
            self._hook_before(unraisable)

    def give_back_the_timer(self) -> None:
        """To whoever had it before."""
        if self._timer_before is not None:
            handler, timer = self._timer_before
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, *timer)


def _is_late(error: BaseException | None) -> bool:
    """Is this what Python tells of a signal that came just before its handler was taken away? Another one is at work then."""
    return isinstance(error, OSError) and "race condition" in str(error)
