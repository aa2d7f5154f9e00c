"""A read buffer, and what each 4 KiB block in it says to the rule that cuts chunks: its kind, and its hash."""

from collections.abc import Iterator
from itertools import repeat
from typing import Final

import numpy as np
from xxhash import xxh3_64_intdigest

from engine.chunk.grid import BLOCK
from engine.chunk.rule import MIDDLE, TAIL, ZERO
from engine.pages import pages
from engine.units import MIB


class Window:
    """A read buffer of `size` bytes, counted in blocks. One pass uses it at a time; the next may use it again."""

    def __init__(self, size: int = 2 * MIB) -> None:
        assert size > 0, f"a window of {size} bytes"
        assert size % BLOCK == 0, f"a window of {size} bytes"
        self.blocks: Final = size // BLOCK
        self.turn = 0
        self._memory = pages(size)
        self._bytes = memoryview(self._memory)
        self._shown = self._bytes.toreadonly()
        self._words = np.frombuffer(self._memory, np.uint64).reshape(self.blocks, BLOCK // 8)
        # Slicing costs more than hashing a slice, so the slices are made once.
        self._slices = [self._shown[start : start + BLOCK] for start in range(0, size, BLOCK)]

    def take(self) -> int:
        """Begin a pass; gives what `turn` is until the next one begins."""
        self.turn += 1
        return self.turn

    def room(self, start: int, blocks: int) -> memoryview:
        """The bytes of some blocks, to read into."""
        return self._bytes[start * BLOCK : (start + blocks) * BLOCK]

    def body(self, start: int, blocks: int) -> memoryview:
        """The bytes of some blocks, to look at."""
        return self._shown[start * BLOCK : (start + blocks) * BLOCK]

    def move_to_front(self, start: int, blocks: int) -> None:
        """Copy some blocks to the start of the window."""
        self._memory.move(0, start * BLOCK, blocks * BLOCK)

    def kinds(self, start: int, blocks: int) -> bytes:
        """The kinds of some blocks, a byte each."""
        words = self._words[start : start + blocks]
        padded = words[:, -1] == 0  # a filesystem fills the last block of a file up with zeros
        kinds = np.where(padded, np.uint8(TAIL[0]), np.uint8(MIDDLE[0]))
        empty = np.flatnonzero(padded & (words[:, 0] == 0))
        if len(empty):
            kinds[empty[~words[empty].any(axis=1)]] = ZERO[0]
        return kinds.tobytes()

    def hashes(self, start: int, end: int, seed: int) -> Iterator[int]:
        """The seeded xxh3_64 of each block from `start` to before `end`: decides cuts, and never what is equal."""
        return map(xxh3_64_intdigest, self._slices[start:end], repeat(seed))
