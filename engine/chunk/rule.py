"""Where a chunk may end: the rule "G3", on what is known of each block of one region.

A chunk that starts at block p ends at the first block q > p where one of these holds (`h[q]` is the hash of block q):

- *end*: q is the end of the region, or block q is zero;
- *file*: block q-1 is a tail, and q-p >= 64, or the next file is big (none of the blocks q to q+6 is a tail or zero, and
  q+8 is not beyond the region), or the last file was big (none of the blocks q-8 to q-2 is a tail or zero, and q-8 is
  not before the region);
- *hash*: q-p >= 16 and h[q] < 2**57, or q-p >= 48 and h[q] < 2**61;
- *longest*: q-p = 128.

In words: files of 32 KiB or more start and end a chunk, smaller ones are grouped up to 256 KiB, and long ones are cut by
their content. Nothing outside the region is looked at. The rule is part of the repository format: another rule is
another format.

All but q-p depends on the blocks around q alone. So the rule comes down to one number for each block, the length of the
shortest chunk that may end there, and to cut is to search for the first block that is far enough.
"""

from typing import Final

import numpy as np

from engine.chunk.fingerprint import Fingerprints, Flags

AHEAD: Final = 6  # whether a chunk may end at q depends on the blocks q-BEHIND to q+AHEAD
BEHIND: Final = 8
LONGEST: Final = 128

_BIG: Final = 8  # a file of so many blocks starts and ends a chunk
_ALWAYS, _AFTER_RARE_HASH, _AFTER_HASH, _AFTER_FILE = 1, 16, 48, 64
_RARE_HASH: Final = np.uint64(2**57)  # one block in 128
_HASH: Final = np.uint64(2**61)  # one block in 8
_PAD: Final = _BIG  # so many blocks on each side stand for what lies outside the region


class Borders:
    """The places in one region where a chunk may end, as its blocks become known, from `begin` on in order."""

    def __init__(self, blocks: int, holes: Flags) -> None:
        """`holes` marks the blocks that are known to be zero; they need not be learnt."""
        self.settled = 0  # the blocks before this one, from `begin` on, are decided: a chunk may end there or not
        self._blocks = blocks
        self._zero = np.pad(holes, _PAD)
        self._tail = np.zeros(blocks + 2 * _PAD, np.bool_)
        self._plain = np.zeros(blocks + 2 * _PAD, np.bool_)  # neither zero nor a tail: the middle of a file
        self._shortest = bytearray([LONGEST]) * blocks
        self._shortest_array = np.frombuffer(self._shortest, np.uint8)  # the same memory

    def begin(self, start: int) -> None:
        """Go on at `start`, a boundary. The blocks from start - BEHIND + 1 on will be learnt; earlier ones do not count."""
        self.settled = start

    def learn(self, start: int, prints: Fingerprints) -> None:
        """Take in what the blocks from `start` on are."""
        end = start + len(prints.hashes)
        padded = slice(start + _PAD, end + _PAD)
        self._zero[padded] = prints.zero
        self._tail[padded] = prints.tail
        self._plain[padded] = ~(prints.zero | prints.tail)
        shortest = self._shortest_array[start:end]
        shortest[:] = LONGEST
        shortest[prints.hashes < _HASH] = _AFTER_HASH
        shortest[prints.hashes < _RARE_HASH] = _AFTER_RARE_HASH

    def settle(self, known: int) -> None:
        """Decide what can be decided when the blocks before `known` have been learnt or are holes."""
        start, end = self.settled, self._blocks if known == self._blocks else known - AHEAD
        if end > start:
            self._decide(start, end)
            # The end of the region itself is a boundary that needs no deciding.
            self.settled = end + 1 if end == self._blocks else end

    def is_zero(self, block: int) -> bool:
        """Whether a learnt block is zero."""
        return bool(self._zero[block + _PAD])

    def chunk_end(self, start: int) -> int:
        """Where the chunk that begins at `start` ends. True once it lies before `settled`."""
        end = min(start + LONGEST, self._blocks)
        for length in (_ALWAYS, _AFTER_RARE_HASH, _AFTER_HASH, _AFTER_FILE):
            found = self._shortest.find(length, start + length, end)
            if found >= 0:
                end = found
        return end

    def zeros_end(self, start: int) -> int:
        """Up to where, of what is settled, all blocks from the zero block `start` on are zero."""
        end = min(self.settled, self._blocks)
        found = self._shortest.find(_ALWAYS, start + 1, end)
        return found if found >= 0 else end

    def _decide(self, start: int, end: int) -> None:
        """Lower the numbers of the blocks [start, end) from what their hashes say to what their neighbours say."""
        count = end - start
        first, here, last = start + _PAD - _BIG, slice(start + _PAD, end + _PAD), end + _PAD + _BIG
        # The number of blocks that are not plain before each one; seven plain ones in a row leave it as it is.
        broken = np.zeros(last - first + 1, np.int32)
        np.cumsum(~self._plain[first:last], out=broken[1:])
        seven_plain = broken[_BIG - 1 :] == broken[: 1 - _BIG]
        last_was_big = seven_plain[:count]
        next_is_big = seven_plain[_BIG : _BIG + count]
        next_is_big[max(0, self._blocks - _BIG + 1 - start) :] = False

        after_tail = self._tail[start + _PAD - 1 : end + _PAD - 1]
        shortest = self._shortest_array[start:end]
        shortest[after_tail & (shortest == LONGEST)] = _AFTER_FILE
        shortest[after_tail & (last_was_big | next_is_big)] = _ALWAYS
        shortest[self._zero[here] != self._zero[start + _PAD - 1 : end + _PAD - 1]] = _ALWAYS
