"""What each 4 KiB block says to the rule that cuts chunks: a hash, whether it is all zeros, whether a file ends in it."""

from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from engine.chunk.grid import BLOCK
from engine.pages import pages
from engine.units import MIB
from engine.values import dataclass

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """One entry for each of some adjacent blocks."""

    hashes: NDArray[np.uint64]  # seeded xxh3_64: decides cuts, and never what is equal
    zero: Flags  # all 4096 bytes are zero
    tail: Flags  # not zero, and its last 8 bytes are: a filesystem pads the last block of a file so


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

    def fingerprint(self, start: int, blocks: int, seed: int) -> Fingerprints:
        """Look at some blocks."""
        end = start + blocks
        hashes = np.fromiter(map(xxh3_64_intdigest, self._slices[start:end], repeat(seed)), np.uint64, blocks)
        zero = hashes == xxh3_64_intdigest(bytes(BLOCK), seed)
        if zero.any():
            # Whoever knows the seed can make a block with the hash of the zero block; it must not be lost.
            seeming = slice(int(zero.argmax()), blocks - int(zero[::-1].argmax()))
            zero[seeming] &= ~self._words[start:end][seeming].any(axis=1)
        return Fingerprints(hashes, zero, (self._words[start:end, -1] == 0) & ~zero)
