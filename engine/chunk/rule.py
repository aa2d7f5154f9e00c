"""Where a chunk may end: the rule "G3", on what is known of each block of one region.

Blocks are of three kinds: *zero*, where all 4096 bytes are; *tail*, not zero but ending with 8 zero bytes, as filesystems pad
the last block of a file; *middle*, all others. A chunk that starts at block p ends at the first block q > p where one of
these holds (`h[q]` is the hash of block q):

- *end*: q is the end of the region, or block q is zero;
- *file*: block q-1 is a tail, and q-p >= 64, or the next file is big (the blocks q to q+6 are middles, and q+8 is not beyond
  the region), or the last file was big (the blocks q-8 to q-2 are middles);
- *hash*: q-p >= 16 and h[q] < 2**57, or q-p >= 48 and h[q] < 2**61;
- *longest*: q-p = 128.

In words: files of 32 KiB or more start and end a chunk, smaller ones are grouped up to 256 KiB, and long ones are cut by
their content. Nothing outside the region is looked at. The rule is part of the repository format: another rule is
another format.

Kinds cost next to nothing, and hashes most of what cutting does. So hashes are asked for last, and only those that can still
say where the chunk ends: none in its first 64 KiB, nor beyond a place where it ends anyway.
"""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Hashes = Callable[[int, int], Iterable[int]]
"""The hashes of the blocks from the first number to before the second."""

MIDDLE: Final = b"\1"
TAIL: Final = b"\2"
ZERO: Final = b"\3"  # of a block that is not known, the byte is 0

AHEAD: Final = 6  # whether a chunk may end at q depends on the blocks q-BEHIND to q+AHEAD
BEHIND: Final = 8
LONGEST: Final = 128

_FROM_FILE: Final = 64
_FROM_RARE_HASH, _RARE_HASH = 16, 2**57  # one block in 128
_FROM_HASH, _HASH = 48, 2**61  # one block in 8
_BEFORE_BIG: Final = TAIL + MIDDLE * (AHEAD + 1)  # a chunk may end after the first of these, if the region goes on
_BIG: Final = MIDDLE * (BEHIND - 1) + TAIL  # a chunk may end after the last of these


class Borders:
    """The places in one region where a chunk ends, as its blocks become known, in order.

    Some may be passed over, if those are learnt that are less than BEHIND blocks before the place to go on at.
    """

    def __init__(self, blocks: int, holes: Flags) -> None:
        """`holes` marks the blocks that are known to be zero; they need not be learnt."""
        self.settled = 0  # before this block all is known that decides where chunks end, but for what was passed over
        self._blocks = blocks
        self._kinds = bytearray(np.where(holes, np.uint8(ZERO[0]), np.uint8(0)).tobytes())

    def learn(self, start: int, kinds: bytes) -> None:
        """Take in what the blocks from `start` on are."""
        self._kinds[start : start + len(kinds)] = kinds

    def settle(self, known: int) -> None:
        """All blocks before `known` have been learnt or are holes."""
        # The end of the region itself is a boundary that needs no deciding.
        self.settled = self._blocks + 1 if known == self._blocks else known - AHEAD

    def is_zero(self, block: int) -> bool:
        """Whether a learnt block is zero."""
        return self._kinds[block] == ZERO[0]

    def zeros_end(self, start: int) -> int:
        """Up to where, of what is settled, all blocks from the zero block `start` on are zero."""
        end = min(self.settled, self._blocks)
        return end - len(self._kinds[start:end].lstrip(ZERO))

    def chunk_end(self, start: int, hashes: Hashes) -> int | None:
        """Where the chunk ends that begins at `start`, a block that is not zero; None where that is not settled.

        Hashes are asked for of blocks that were learnt, from `start` on.
        """
        find, end = self._kinds.find, min(start + LONGEST, self._blocks, self.settled)
        # Each of these looks for a place before the earliest that was found so far.
        if (at := find(ZERO, start + 1, end)) >= 0:
            end = at
        if (at := find(_BEFORE_BIG, start, min(end + AHEAD, self._blocks - 1))) >= 0:
            end = at + 1
        if (at := find(_BIG, max(0, start - BEHIND + 1), end - 1)) >= 0:
            end = at + BEHIND
        if (at := find(TAIL, start + _FROM_FILE - 1, end - 1)) >= 0:
            end = at + 1
        if (first := start + _FROM_RARE_HASH) < end:
            often = start + _FROM_HASH
            for block, value in enumerate(hashes(first, end), first):
                if value < _HASH and (block >= often or value < _RARE_HASH):
                    end = block
                    break
        return end if end < self.settled else None
