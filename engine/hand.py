"""Threads whose end can be waited for, whatever comes between.

An interruption (Ctrl-C, SIGTERM) is raised in the main thread, between any two steps of it, and once. So whoever may be
interrupted waits here: in C, where nothing is left locked, and to the end where what the threads use is taken away after it.
"""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

Result = TypeVar("Result")
Other = TypeVar("Other")

PATIENCE: Final = 0.2  # seconds between looks at what else may have happened


class Hand(threading.Thread):
    """A thread that ends with the process, and whose end may be waited for by `join_all`."""

    def __init__(self, work: Callable[..., None], *args: object, name: str | None = None) -> None:
        super().__init__(target=work, args=args, name=name, daemon=True)
        self._has_ended = False
        self._end = threading.Lock()
        self._end.acquire()

    def run(self) -> None:
        """The work."""
        try:
            super().run()
        finally:
            self._has_ended = True
            self._end.release()

    @property
    def is_at_work(self) -> bool:
        """Was it started, and has it not ended?"""
        return self.ident is not None and not self._has_ended

    def wait(self, seconds: float) -> None:
        """Wait for the end of the thread, no longer than this.

        Unlike `join`, of Python 3.11, this does not take the thread for ended when it is broken off, and it waits in C.
        """
        if self._end.acquire(timeout=seconds):
            self._end.release()


def join_all(threads: Sequence[Hand], timeout: float | None = None, before: Callable[[], None] = lambda: None) -> None:
    """Call `before`, and wait until all threads that were started have ended, or for each so many seconds.

    An interruption meanwhile is raised when they have: what they use may be taken away then. All begins anew for that, so
    `before` may be called twice, and the seconds count from there.
    """

    def wait() -> None:
        before()
        for thread in threads:
            rest = math.inf if timeout is None else timeout
            while thread.is_at_work and rest > 0:
                thread.wait(min(rest, PATIENCE))
                rest -= PATIENCE

    try:
        wait()
    except BaseException:  # an interruption, which comes once
        wait()
        raise


def stop_if_fails(work: Callable[[], None], stop: Callable[[], None]) -> None:
    """Call `work`; when it raises, call `stop`, which must have been called to its end before anybody hears of it.

    An interruption may break off either, but comes once: `stop` is called again then.
    """
    try:
        work()
    except BaseException:  # an interruption too, which is no Exception
        try:
            stop()
        except BaseException:  # an interruption, which comes once
            stop()
            raise
        raise


def beside(call: Callable[[], Result]) -> Callable[[], Result]:
    """Begin a call in a thread of its own. What is returned waits for its end, and returns or raises what it did.

    Whoever is interrupted need not wait: the process can end all the same.
    """
    made = Call(call)
    made.hand.start()
    return made.wait


def both(one: Callable[[], Result], other: Callable[[], Other]) -> tuple[Result, Other]:
    """Two calls at once that do not wait for each other. The first error, in this order, is raised when both have ended."""
    result = beside(one)
    try:
        answer = other()
    except Exception:
        result()
        raise
    return result(), answer


def shielded(call: Callable[[], Result]) -> Result:
    """What the call returns or raises. An interruption of the calling thread is raised when the call has ended, not before."""
    made = Call(call)

    def start() -> None:
        if made.hand.ident is None:
            made.hand.start()

    join_all([made.hand], before=start)
    return made.result()


class Call(Generic[Result]):
    """A call that `hand` makes when it is started, and what came of it."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self.hand = Hand(self._keep)
        self._call = call
        self._results: list[Result] = []
        self._failure: BaseException | None = None

    def make(self) -> Result:
        """Make the call here, in place of the hand."""
        return self._call()

    def wait(self) -> Result:
        """Wait until the hand has made it; what it returned, or raised."""
        while self.hand.is_at_work:
            self.hand.wait(PATIENCE)
        return self.result()

    def result(self) -> Result:
        """The same, when it has been made."""
        if self._failure is not None:
            raise self._failure
        return self._results[0]

    def _keep(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 # handed to the thread that waits, which raises it
            self._failure = error
