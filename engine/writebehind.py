"""Writing filled buffers in the background, through a fixed number of them: memory is bounded, and writing overlaps work."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from engine.hand import PATIENCE, Hand, join_all
from engine.pages import pages


class Filled(Protocol):
    """What was made in a buffer."""

    @property
    def buffer(self) -> memoryview:
        """The whole buffer."""
        ...

    def finish(self) -> memoryview:
        """What is to be written: a part of the buffer. Called once, by the thread that writes."""
        ...


Item = TypeVar("Item", bound=Filled)


class WriteBehind(Generic[Item]):
    """A few threads that write what was filled; without any, the thread that submits it does.

    `write` is called with each item and what it finished as. The first exception it raises is raised again by every later call
    here. Of `buffers`, of `size` bytes each, more are needed than there are threads that fill one at a time.
    """

    def __init__(self, write: Callable[[Item, memoryview], object], *, threads: int, buffers: int, size: int) -> None:
        self._write = write
        self._size = size
        # Made when first needed; and one that was used before one that is not made yet, for new memory has to be cleared.
        self._used: list[memoryview] = []
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()  # one thing for each buffer, used or not made yet
        for _ in range(buffers):
            self._free.put(None)
        self._waiting: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending = 0
        self._is_draining = False
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()  # one thing for each write that ended during a drain
        self._failure: BaseException | None = None
        self._threads = [Hand(self._run, name=f"writer-{number}") for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def acquire(self) -> memoryview:
        """A buffer to fill; waits until one is free."""
        while True:
            self._raise_failure()
            try:
                self._free.get(timeout=PATIENCE)
            except queue.Empty:
                continue
            try:
                return self._used.pop()
            except IndexError:
                return memoryview(pages(self._size))

    def submit(self, item: Item) -> None:
        """Write an item; its buffer is free again afterwards. There are no more items than buffers, so this does not wait."""
        self._raise_failure()
        with self._lock:
            self._pending += 1
        if self._threads:
            self._waiting.put(item)
        else:
            self._deliver(item)
            self._raise_failure()

    def drain(self, alive: Callable[[], None] = lambda: None) -> None:
        """Wait until everything submitted is written, calling `alive` now and then."""
        self._is_draining = True
        while self._pending > 0 and self._failure is None:
            with suppress(queue.Empty):
                self._news.get(timeout=PATIENCE)
            alive()
        self._is_draining = False
        self._raise_failure()

    def stop(self, parting: float | None = None) -> None:
        """End the threads; what has not begun to be written is dropped.

        What is under way is waited for: so many seconds, where it does no harm if it ends later, else until it has ended, even
        when a signal comes meanwhile.
        """
        join_all(self._threads, parting, before=self._end)

    def _end(self) -> None:
        """Leave a word to end for each thread, and let none begin to write."""
        with self._lock:
            self._failure = self._failure or RuntimeError("the writing was stopped")
        for _ in self._threads:
            self._waiting.put(None)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            self._deliver(item)

    def _deliver(self, item: Item) -> None:
        try:
            if self._failure is None:
                self._write(item, item.finish())
        except BaseException as error:  # noqa: BLE001 # handed to the thread that waits; nothing is lost
            with self._lock:
                self._failure = self._failure or error
        finally:
            self._used.append(item.buffer)
            self._free.put(None)
            with self._lock:
                self._pending -= 1
            if self._is_draining:
                self._news.put(None)
