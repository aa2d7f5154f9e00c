"""SIGTERM and Ctrl-C become exceptions in the main thread, so that everything that is held is released on the way out."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

_AGAIN_SECONDS: Final = 0.05


class Terminated(BaseException):
    """SIGTERM came: unwinds like KeyboardInterrupt, so that everything that is held is released on the way."""


_RAISED: Final[Mapping[int, type[BaseException]]] = {signal.SIGTERM: Terminated, signal.SIGINT: KeyboardInterrupt}


@contextmanager
def interruptions(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop`, and raise Terminated and KeyboardInterrupt in the main thread.

    A second SIGTERM cannot break off the release of what is held. A second Ctrl-C can, and ends the process at once: it is
    for a person to whom the release takes too long. What is ignored from the start, as under nohup, stays ignored.
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
                signal.signal(number, interrupter.interrupt)
        yield
    except RuntimeError as error:  # Python 3.11 wraps what is raised while a class is made, as happens in an import
        if isinstance(error.__cause__, Terminated | KeyboardInterrupt):
            raise error.__cause__ from None
        raise
    finally:
        interrupter.be_quiet()
        for number, handler_before in before.items():
            signal.signal(number, handler_before)
        sys.unraisablehook = hook_before


class _Interrupter:
    """Raises, and sees to it that what it raised was heard."""

    def __init__(self, stop: Callable[[], None], hook_before: "Callable[[sys.UnraisableHookArgs], object]") -> None:
        self._stop = stop
        self._hook_before = hook_before
        self._lost: set[int] = set()
        self._lock = threading.RLock()  # the handler may come while the thread that it interrupts holds it
        self._is_noting = False

    def interrupt(self, number: int, _frame: FrameType | None) -> None:
        """The handler of the signals."""
        if self._is_noting:  # what is raised in there comes to nothing too
            return
        with self._lock:
            self._lost.discard(number)
        signal.signal(number, signal.SIG_DFL if number == signal.SIGINT else signal.SIG_IGN)
        self._stop()
        raise _RAISED[number]

    def came_to_nothing(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Python drops what is raised while it collects garbage, and an interruption with it: let the signal come again."""
        numbers = [number for number, kind in _RAISED.items() if issubclass(unraisable.exc_type, kind)]
        if not numbers:
            self._hook_before(unraisable)
        self._is_noting = True
        for number in numbers:
            self._lost.add(number)
            signal.signal(number, self.interrupt)
            threading.Thread(target=self._insist, args=(number,), daemon=True).start()
        self._is_noting = False

    def _insist(self, number: int) -> None:
        while number in self._lost:
            time.sleep(_AGAIN_SECONDS)
            with self._lock:  # so that none is sent once it has been heard: that would be a second Ctrl-C
                if number in self._lost:
                    os.kill(os.getpid(), number)

    def be_quiet(self) -> None:
        """The work is over: send nothing more."""
        with self._lock:
            self._lost.clear()
