"""Uploading packs in the background, through a fixed number of buffers, so that memory is bounded and sending overlaps work."""

import queue
import threading
from collections.abc import Callable
from typing import Final

from engine.pages import pages
from engine.repo.pack import PackBuilder

_PARTING: Final = 5.0  # seconds that a request under way is given when all is stopped
_PATIENCE: Final = 0.2  # seconds between looks at whether the others have failed


class Uploads:
    """A few threads that send finished packs; without any, each pack is sent by the thread that submits it.

    `send` is called with each pack and its blob. The first exception it raises is raised again by every later call here.
    """

    def __init__(
        self, send: Callable[[PackBuilder, memoryview], None], *, threads: int, buffers: int, size: int
    ) -> None:
        self._send = send
        self._size = size
        # Made when first needed; and one that was used before one that is not made yet, for new memory has to be cleared.
        self._free: queue.LifoQueue[memoryview | None] = queue.LifoQueue()
        for _ in range(buffers):
            self._free.put(None)
        self._waiting: queue.SimpleQueue[PackBuilder | None] = queue.SimpleQueue()
        self._pending = 0
        self._idle = threading.Condition()
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, name=f"upload-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def acquire(self) -> memoryview:
        """A buffer to fill; waits until one is free."""
        while True:
            self._raise_failure()
            try:
                buffer = self._free.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            return memoryview(pages(self._size)) if buffer is None else buffer

    def submit(self, pack: PackBuilder) -> None:
        """Send a pack; its buffer is free again afterwards. There are no more packs than buffers, so this does not wait."""
        self._raise_failure()
        with self._idle:
            self._pending += 1
        if self._threads:
            self._waiting.put(pack)
        else:
            self._deliver(pack)
            self._raise_failure()

    def drain(self, alive: Callable[[], None]) -> None:
        """Wait until everything submitted is sent, calling `alive` now and then."""
        while True:
            with self._idle:
                if self._pending == 0 or self._failure is not None:
                    break
                self._idle.wait(_PATIENCE)
            alive()
        self._raise_failure()

    def stop(self) -> None:
        """End the threads; what has not begun to be sent is dropped.

        A request that hangs is not waited for long: whoever interrupts a push wants it to end, and a pack that arrives
        later does no harm.
        """
        with self._idle:
            if self._failure is None:
                self._failure = RuntimeError("the uploads were stopped")
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(_PARTING)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while (pack := self._waiting.get()) is not None:
            self._deliver(pack)

    def _deliver(self, pack: PackBuilder) -> None:
        try:
            if self._failure is None:
                self._send(pack, pack.finish())
        except BaseException as error:  # noqa: BLE001 # handed to the thread that waits; nothing is lost
            with self._idle:
                self._failure = self._failure or error
        finally:
            self._free.put(pack.buffer)
            with self._idle:
                self._pending -= 1
                self._idle.notify_all()
