"""A few threads that work through a stream of tasks, all stopped and joined whatever happens; or the calling thread alone."""

import queue
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from engine.hand import PATIENCE, Hand, join_all, stop_if_fails

Task = TypeVar("Task", contravariant=True)
Work = TypeVar("Work")
Result = TypeVar("Result")


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

    def work() -> None:
        crew.start()
        for task in tasks:
            crew.hand(task, alive)
        crew.finish(alive)

    stop_if_fails(work, crew.stop)


def concurrently(call: Callable[[Work], Result], items: Iterable[Work], threads: int) -> list[Result]:
    """Call for each item, so many at once; what they returned, in the order of the items. Raises the first exception of any."""
    results: dict[int, Result] = {}
    employ([_Caller(call, results) for _ in range(threads)], enumerate(items))
    return [results[number] for number in range(len(results))]


class _Caller(Generic[Work, Result]):
    """Calls, and keeps what was returned under the number of the item."""

    def __init__(self, call: Callable[[Work], Result], results: dict[int, Result]) -> None:
        self._call, self._results = call, results

    def do(self, task: tuple[int, Work]) -> None:
        """See `Worker`."""
        number, item = task
        self._results[number] = self._call(item)

    def finish(self) -> None:
        """See `Worker`."""


class _Crew:
    """The threads of `employ`, and the tasks that wait for them.

    The queues are those that are written in C. An interruption of the calling thread may come between any two steps of a queue
    that is written in Python, and its lock would never be released.
    """

    def __init__(self, workers: Sequence[Worker[Work]]) -> None:
        self._tasks: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()  # one thing for each task that may yet wait
        for _ in workers:
            self._room.put(None)
        self._failure: BaseException | None = None
        self._stopped = False
        self._threads = [Hand(self._run, worker, name=f"worker-{number}") for number, worker in enumerate(workers)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def hand(self, task: object, alive: Callable[[], None]) -> None:
        while True:
            self._check()
            alive()
            try:
                self._room.get(timeout=PATIENCE)
            except queue.Empty:
                continue
            self._tasks.put(task)
            return

    def finish(self, alive: Callable[[], None]) -> None:
        self._end()
        for thread in self._threads:
            while thread.is_at_work:
                thread.wait(PATIENCE)
                self._check()
                alive()
        self._check()

    def stop(self) -> None:
        self._stopped = True
        join_all(self._threads, before=self._end)

    def _end(self) -> None:
        """Leave a word to end for each worker, behind all tasks."""
        for _ in self._threads:
            self._tasks.put(None)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self, worker: Worker[Work]) -> None:
        try:
            while (task := self._tasks.get()) is not None:
                self._room.put(None)
                if self._stopped:
                    return
                worker.do(task)  # type: ignore[arg-type] # the queue holds Work or None, which the loop has excluded
            if not self._stopped:
                worker.finish()
        except BaseException as error:  # noqa: BLE001 # handed to the calling thread, which raises it
            self._failure = self._failure or error
