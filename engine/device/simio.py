"""Reading and writing in the simulated pool, and the faults that a test can plan there."""

import errno
import os
from contextlib import AbstractContextManager
from dataclasses import field

from engine.device.base import Filesystem
from engine.device.simblocks import BlockMap
from engine.errors import Failed
from engine.extent import Extent
from engine.units import SECTOR
from engine.values import dataclass


@dataclass(slots=True)
class Content:
    """The bytes of a volume or snapshot, and what a test did to them."""

    path: str
    size: int
    blocks: BlockMap
    filesystem: Filesystem | None = None
    unreadable: set[int] = field(default_factory=set)
    unwritable: set[int] = field(default_factory=set)
    cut_to: int | None = None  # where reads end, when that is before the size
    readers: int = 0
    has_writer: bool = False


class Faults:
    """Counts calls, and lets planned ones fail before they do anything."""

    def __init__(self, pool: str) -> None:
        self.calls = 0
        self._pool = pool
        self._first: int | None = None
        self._for_ever = False

    def plan(self, call: int, *, for_ever: bool) -> None:
        """Let the `call`-th call from now on fail (1: the next), and all that follow it with `for_ever`."""
        assert call >= 1, f"call {call} has passed"
        self._first, self._for_ever = self.calls + call, for_ever

    def clear(self) -> None:
        """Let none fail any more."""
        self._first = None

    def count(self, what: str) -> None:
        """One more call. Raises Failed when it was planned to fail."""
        self.calls += 1
        if self._first is None or self.calls < self._first:
            return
        if self.calls == self._first or self._for_ever:
            raise Failed(
                f"{what} failed on pool {self._pool}: {os.strerror(errno.EIO)} (planned for call {self.calls})"
            )


class SimSource:
    """See `Source`."""

    logical_block_size = SECTOR

    def __init__(self, content: Content, faults: Faults) -> None:
        self._content = content
        self._faults = faults
        self.size = content.size

    def read_into(self, offset: int, target: memoryview) -> None:
        """See `Source`."""
        end = offset + len(target)
        assert 0 <= offset <= end <= self.size, f"read of {len(target)} bytes at {offset}, outside the source"
        self._faults.count("read")
        path = self._content.path
        if any(offset <= bad < end for bad in self._content.unreadable):
            raise Failed(f"reading {len(target)} bytes at byte {offset} failed on {path}: {os.strerror(errno.EIO)}")
        if self._content.cut_to is not None and end > self._content.cut_to:
            raise Failed(f"{path} became shorter while it was read: nothing is left at byte {self._content.cut_to}")
        self._content.blocks.read_into(offset, target)

    def expect(self, extent: Extent) -> None:
        """See `Source`."""
        assert extent.end <= self.size, f"{extent.length} bytes at {extent.start} are expected, outside the source"


class SimTarget:
    """See `Target`."""

    def __init__(self, content: Content, faults: Faults, lock: AbstractContextManager[bool]) -> None:
        self._content = content
        self._faults = faults
        self._lock = lock
        self.size = content.size

    def write(self, offset: int, body: bytes | bytearray | memoryview) -> None:
        """See `Target`."""
        view = memoryview(body)
        end = offset + len(view)
        assert 0 <= offset <= end <= self.size, f"write of {len(view)} bytes at {offset}, outside the target"
        with self._lock:
            self._faults.count("write")
            if any(offset <= bad < end for bad in self._content.unwritable):
                raise Failed(f"writing at byte {offset} failed on {self._content.path}: {os.strerror(errno.EIO)}")
            self._content.blocks.write(offset, view)

    def discard(self, extent: Extent) -> None:
        """See `Target`."""
        assert extent.end <= self.size, f"discard of {extent.length} bytes at {extent.start}, outside the target"
        with self._lock:
            self._faults.count("discard")
            self._content.blocks.discard(extent)

    def flush(self) -> None:
        """See `Target`."""
        self._faults.count("flush")
