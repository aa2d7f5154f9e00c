"""Writing chunks to a volume in long runs: what adjoins there is put side by side, and written at once, behind its maker."""

from typing import Final

from engine.device.base import Target
from engine.repo.map import BLOCK, CHUNK_LIMIT, REGION, Entry
from engine.repo.reader import Room
from engine.units import MIB
from engine.values import dataclass
from engine.writebehind import WriteBehind

RUN_LIMIT: Final = 2 * MIB
assert RUN_LIMIT >= CHUNK_LIMIT

_WRITERS: Final = 2


@dataclass(frozen=True, slots=True)
class Run:
    """So many bytes for a place in a volume, at the start of a buffer."""

    buffer: memoryview
    start: int
    length: int

    def finish(self) -> memoryview:
        """See `Filled`."""
        return self.buffer[: self.length]


def write_behind(target: Target, workers: int) -> WriteBehind[Run]:
    """What writes the runs of so many workers to a target: beside them, or with none in the thread that gathers.

    It takes 2 MiB of memory for each worker, and 8 more. The target must be open until it has stopped.
    """
    threads = _WRITERS if workers else 0
    return WriteBehind(
        lambda run, body: target.write(run.start, body),
        threads=threads,
        buffers=workers + 2 * _WRITERS,
        size=RUN_LIMIT,
    )


class Gather(Room):
    """The room of a thread that makes chunks of one region after the other, for the first `size` bytes of a volume.

    A chunk is made where its neighbour ends, in whole pages, so nothing is copied, and the target may write it as it lies.
    Nothing of a chunk is written unless it is kept.
    """

    def __init__(self, behind: WriteBehind[Run], size: int) -> None:
        super().__init__()
        self.region = 0
        self._behind, self._size = behind, size
        self._buffer: memoryview | None = None  # of the run
        self._start = self._end = 0  # of the run, in the volume

    def for_chunk(self, entry: Entry) -> memoryview:
        """See `Room`. What does not adjoin the run, or does not fit, begins the next."""
        place, length = self.region * REGION + entry.start * BLOCK, entry.blocks * BLOCK
        if place != self._end or place + length - self._start > RUN_LIMIT:
            self.hand_over()
            self._start = self._end = place
        if self._buffer is None:
            self._buffer = self._behind.acquire()
        at = place - self._start
        return self._buffer[at : at + length]

    def keep(self, length: int) -> int:
        """The chunk that room was made for last, of `length` bytes, is good, and belongs to the run.

        Gives how many of them are in the volume, which may end within the chunk.
        """
        start, self._end = self._end, self._end + length
        return min(self._end, self._size) - start

    def hand_over(self) -> None:
        """Let be written what was kept. Raises what the target raised, now or before."""
        end = min(self._end, self._size)
        if self._buffer is not None and end > self._start:
            self._behind.submit(Run(self._buffer, self._start, end - self._start))
            self._buffer = None
        self._start = self._end
