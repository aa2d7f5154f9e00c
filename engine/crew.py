"""A few threads that work through a stream of tasks, all stopped and joined whatever happens; or the calling thread alone."""

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

Task = TypeVar("Task", contravariant=True)
Work = TypeVar("Work")
Result = TypeVar("Result")

_PATIENCE: Final = 0.2  # seconds between looks at failures and calls of `alive`


class Worker(Protocol[Task]):
    """What one thread does. Both methods are called in that thread only."""

    def do(self, task: Task) -> None:
        """One task."""
        ...

    def finish(self) -> None:
        """There are no more tasks."""
        ...


def employ(
    workers: Sequence[Worker[Work]],
    tasks: Iterable[Work],
    alive: Callable[[], None] = lambda: None,
    *,
    inline: bool = False,
) -> None:
    """Hand the tasks, in order, to whichever worker is free; return when all are done.

    The tasks are drawn in the calling thread, no further ahead than the workers can use. `alive` is called there now and
    then. The first exception, of a worker, of the tasks, of `alive`, or a signal, stops everything and is raised.

    With `inline` the first worker does everything in the calling thread, so that the same tasks make the same calls in the
    same order: a simulation wants that.
    """
    if inline:
        for task in tasks:
            alive()
            workers[0].do(task)
        workers[0].finish()
        return
    crew = _Crew(workers)
    try:
        for task in tasks:
            crew.hand(task, alive)
        for _ in workers:
            crew.hand(None, alive)
        crew.wait(alive)
    except BaseException:
        crew.stop()
        raise


class Hand(threading.Thread):
    """A thread that ends with the process, and whose end may be waited for by `join_all`."""

    def __init__(self, work: Callable[..., None], *args: object, name: str) -> None:
        super().__init__(target=work, args=args, name=name, daemon=True)
        self.ended = threading.Event()  # a signal that breaks off `join` makes Python 3.11 take the thread for ended

    def run(self) -> None:
        """The work."""
        try:
            super().run()
        finally:
            self.ended.set()


def join_all(threads: Iterable[Hand], timeout: float | None = None, before: Callable[[], None] = lambda: None) -> None:
    """Wait until all threads have ended, or for each so many seconds; `before` is called before each look.

    A signal that raises meanwhile is raised when they have: what they use may be taken away then.
    """
    interruption: BaseException | None = None
    for thread in threads:
        patience = timeout
        while not thread.ended.is_set() and (patience is None or patience > 0):
            try:
                before()
                thread.ended.wait(_PATIENCE if patience is None else min(patience, _PATIENCE))
            except BaseException as error:  # noqa: BLE001 # raised below
                interruption = interruption or error
            patience = None if patience is None else patience - _PATIENCE
    if interruption is not None:
        raise interruption


def beside(call: Callable[[], Result]) -> Callable[[], Result]:
    """Begin a call in a thread of its own. What is returned waits for its end, and returns or raises what it did.

    Whoever is interrupted need not wait: the process can end all the same.
    """
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 # handed to the thread that waits, which raises it
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Result:
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    return result


class _Crew:
    def __init__(self, workers: Sequence[Worker[Work]]) -> None:
        self._tasks: queue.Queue[object] = queue.Queue(maxsize=max(1, len(workers)))
        self._failure: BaseException | None = None
        self._stopped = False
        self._threads = [Hand(self._run, worker, name=f"worker-{number}") for number, worker in enumerate(workers)]
        for thread in self._threads:
            thread.start()

    def hand(self, task: object, alive: Callable[[], None]) -> None:
        while True:
            self._check()
            alive()
            try:
                self._tasks.put(task, timeout=_PATIENCE)
            except queue.Full:
                continue
            return

    def wait(self, alive: Callable[[], None]) -> None:
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_PATIENCE)
                self._check()
                alive()
        self._check()

    def stop(self) -> None:
        self._stopped = True
        join_all(self._threads, before=self._drain)

    def _drain(self) -> None:
        """Make room, and leave a word to end for whoever still waits for a task."""
        try:
            while True:
                self._tasks.get_nowait()
        except queue.Empty:
            self._tasks.put(None)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self, worker: Worker[Work]) -> None:
        try:
            while (task := self._tasks.get()) is not None:
                if self._stopped:
                    return
                worker.do(task)  # type: ignore[arg-type] # the queue holds Work or None, which the loop has excluded
            if not self._stopped:
                worker.finish()
        except BaseException as error:  # noqa: BLE001 # handed to the calling thread, which raises it
            self._failure = self._failure or error
