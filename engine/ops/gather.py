"""Writing chunks to a volume in long runs: what adjoins there is put side by side, and written at once."""

from typing import Final

from engine.device.base import Target
from engine.pages import pages
from engine.repo.map import BLOCK, CHUNK_LIMIT, REGION, Entry
from engine.repo.reader import Room
from engine.units import MIB

RUN_LIMIT: Final = 2 * MIB
assert RUN_LIMIT >= CHUNK_LIMIT


class Gather(Room):
    """The room of a thread that writes chunks of one region after the other to the first `size` bytes of a target.

    A chunk is made where its neighbour ends, in whole pages, so nothing is copied, and the target may write it as it lies.
    Nothing of a chunk is written unless it is kept.
    """

    def __init__(self, target: Target, size: int) -> None:
        super().__init__()
        self.region = 0
        self._target, self._size = target, size
        self._run = memoryview(pages(RUN_LIMIT))
        self._start = self._end = 0  # of the run, in the volume

    def for_chunk(self, entry: Entry) -> memoryview:
        """See `Room`. What does not adjoin the run, or does not fit, begins the next."""
        place, length = self.region * REGION + entry.start * BLOCK, entry.blocks * BLOCK
        if place != self._end or place + length - self._start > RUN_LIMIT:
            self.write()
            self._start = self._end = place
        at = place - self._start
        return self._run[at : at + length]

    def keep(self, length: int) -> None:
        """The chunk that room was made for last, of `length` bytes, is good, and belongs to the run."""
        self._end += length

    def write(self) -> None:
        """Write what was kept. Raises what the target raises."""
        end = min(self._end, self._size)
        if end > self._start:
            self._target.write(self._start, self._run[: end - self._start])
        self._start = self._end
