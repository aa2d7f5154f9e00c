"""An interruption at each moment at which Python lets the handler of a signal run, one after the other."""

import dis
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

from rokctl.signals import is_busy

# What Python 3.11 looks for signals in, when it has done it: calls, also those of functions written in C; the first instruction
# of a function; and jumps back, but for those of `await`.
_LOOKS = frozenset(
    name
    for name in dis.opmap
    if name.startswith(("CALL", "RESUME", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")) and not name.endswith("NO_INTERRUPT")
)
# Ourselves; and what Python calls when it frees memory, which drops what is raised in there, so that it is raised again.
_LEFT_ALONE = frozenset({__name__, "contextlib", "_weakrefset"})


def interrupted_everywhere(scenario: Callable[[Callable], None], *, most: int = 20_000) -> int:
    """Call `scenario` again and again, until no moment is left that it was not interrupted at; how many there were.

    It is given a context manager, `interrupted`, for what is to be interrupted: a KeyboardInterrupt is raised in there, once,
    in the main thread, where rokctl's handler would raise it.
    """
    for moment in range(most):
        done = False

        @contextmanager
        def interrupted(moment: int = moment) -> Iterator[None]:
            nonlocal done
            meeting = _Meeting(moment)
            with meeting.traced():
                yield
            done = not meeting.was_met

        scenario(interrupted)
        if done:
            return moment
    raise AssertionError(f"more than {most} moments")


class _Meeting:
    """Raises at the moment with this number."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._before: dict[FrameType, int] = {}
        self._names: dict[CodeType, bytes] = {}
        self.was_met = False

    @contextmanager
    def traced(self) -> Iterator[None]:
        assert threading.current_thread() is threading.main_thread()
        frame = sys._getframe(2)
        before = sys.gettrace()
        frame.f_trace, frame.f_trace_opcodes = self._local, True
        sys.settrace(self._global)
        try:
            yield
        except KeyboardInterrupt:
            assert self.was_met
        finally:
            sys.settrace(before)
            frame.f_trace, frame.f_trace_opcodes = None, False
            del frame
            self._before.clear()

    def _global(self, frame: FrameType, event: str, _argument: object) -> Callable | None:
        if frame.f_globals.get("__name__") in _LEFT_ALONE or _is_called_by_the_collector(frame):
            return None
        frame.f_trace_opcodes = True
        return self._local

    def _local(self, frame: FrameType, event: str, _argument: object) -> Callable | None:
        if event == "return":
            self._before.pop(frame, None)
        if event != "opcode" or self.was_met:
            return self._local
        code = self._names.setdefault(frame.f_code, frame.f_code.co_code)
        last = self._before.get(frame)
        self._before[frame] = frame.f_lasti
        failed = dis.opname[code[frame.f_lasti]] == "PUSH_EXC_INFO"  # then Python does not look
        if last is not None and dis.opname[code[last]] in _LOOKS and not failed and not is_busy(frame):
            self._left -= 1
            if self._left < 0:
                self.was_met = True
                raise KeyboardInterrupt
        return self._local


def _is_called_by_the_collector(frame: FrameType) -> bool:
    """Python drops what is raised in there, too. Hypothesis has such a function, in whatever process it has run."""
    return any(getattr(callback, "__code__", None) is frame.f_code for callback in gc.callbacks)
