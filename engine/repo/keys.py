"""Sorted keys: the 16-byte prefixes of ids as two numbers each, to be found one at a time or many at once.

A prefix is its two halves as big-endian numbers, *high* and *low*. Keys are sorted by the high half alone: ids are keyed
hashes, so equal high halves are copies of one chunk, but for chance. A *fan* tells where each value of the top bits begins,
which spares a search its first steps, and the memory that they would touch.
"""

import struct
from bisect import bisect_left
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.repo.map import REFERENCE

Longs = npt.NDArray[np.uint64]
Words = npt.NDArray[np.uint32]
Positions = npt.NDArray[np.int64]

_HALVES: Final = struct.Struct(">QQ")
_PER_FAN: Final = 24  # keys for each value of the top bits
_RANGE: Final = 1 << 16


def halves(prefix: bytes) -> tuple[int, int]:
    """The halves of one prefix."""
    assert len(prefix) == REFERENCE
    high, low = _HALVES.unpack(prefix)
    return high, low


def all_halves(prefixes: bytes) -> tuple[Longs, Longs]:
    """The halves of joined prefixes."""
    both = np.frombuffer(prefixes, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])


def fan_bits(keys: int) -> int:
    """How many top bits the fan of so many keys takes."""
    return max(1, (keys // _PER_FAN).bit_length() - 1)


def add_to_fan(counts: Positions, highs: Longs) -> None:
    """Count keys, which are sorted, by the values of their top bits; there is a count for each of these."""
    if len(highs):
        values = (highs >> np.uint64(65 - len(counts).bit_length())).astype(np.int64)
        first, last = int(values[0]), int(values[-1])
        counts[first : last + 1] += np.bincount(values - first)


def fan_of(counts: Positions) -> Words:
    """The fan: where each value of the top bits begins, and at last the number of keys."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)


class SortedKeys:
    """Keys sorted by their high halves. Any number of threads."""

    def __init__(self, highs: Longs, lows: Longs, fan: Words) -> None:
        self.highs, self.lows, self._fan_array = highs, lows, fan
        self._bits = (len(fan) - 1).bit_length() - 1
        self._shift = 64 - self._bits
        self._highs, self._lows, self._fan = view(highs), view(lows), view(fan)

    def __len__(self) -> int:
        return len(self._highs)

    def edges(self, bits: int) -> Positions:
        """Where each value of so many top bits begins, and the end: what is between two of them is a range of keys."""
        if bits <= self._bits:  # the fan has it, and a search would touch the keys all over
            return self._fan_array[:: 1 << (self._bits - bits)].astype(np.int64)
        values = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits) if bits else np.zeros(1, np.uint64)
        return np.append(np.searchsorted(self.highs, values), len(self))

    def find(self, high: int, low: int) -> int:
        """The first position of a key; -1 when it is nowhere."""
        bucket = high >> self._shift
        end = self._fan[bucket + 1]
        at = bisect_left(self._highs, high, self._fan[bucket], end)
        while at < end and self._highs[at] == high:
            if self._lows[at] == low:
                return at
            at += 1
        return -1

    def next(self, at: int) -> int:
        """The next position of the key that stands at `at`; -1 when that was its last."""
        high, low = self._highs[at], self._lows[at]
        at += 1
        while at < len(self._highs) and self._highs[at] == high:
            if self._lows[at] == low:
                return at
            at += 1
        return -1

    def find_many(self, highs: Longs, lows: Longs) -> Positions:
        """The first position of each key, -1 for those that are nowhere."""
        if not len(self):
            return np.full(len(highs), -1)
        buckets = (highs >> np.uint64(self._shift)).astype(np.int64)
        start = self._fan_array[buckets].astype(np.int64)
        end = self._fan_array[buckets + 1].astype(np.int64)
        for _ in range(int((end - start).max(initial=0)).bit_length()):
            middle = (start + end) >> 1
            # Where the search has ended `middle` may be one too far, and what is read there does not matter.
            less = (self.highs[np.minimum(middle, len(self) - 1)] < highs) & (start < end)
            start = np.where(less, middle + 1, start)
            end = np.where(less, end, middle)
        return self._settle(start, highs, lows)

    def next_many(self, at: Positions) -> Positions:
        """The next position of each key that stands at a given one, -1 for its last."""
        return self._settle(at + 1, self.highs[at], self.lows[at])

    def _settle(self, at: Positions, highs: Longs, lows: Longs) -> Positions:
        """From the given positions on, past keys that share the high half alone."""
        found = np.full(len(at), -1)
        open_ = np.flatnonzero(at < len(self))
        while len(open_):
            here = at[open_]
            open_, here = _where(self.highs[here] == highs[open_], open_, here)
            same = self.lows[here] == lows[open_]
            found[open_[same]] = here[same]
            open_, here = _where(~same, open_, here)
            at[open_] = here + 1
            open_ = open_[here + 1 < len(self)]
        return found


def sorted_keys(highs: Longs, lows: Longs) -> SortedKeys:
    """Sort keys that come in any order."""
    order = np.argsort(highs)
    counts = np.zeros(1 << fan_bits(len(highs)), np.int64)
    add_to_fan(counts, highs[order])
    return SortedKeys(highs[order], lows[order], fan_of(counts))


def range_bits(keys: int) -> int:
    """How many top bits cut so many keys into ranges that the processor's cache holds."""
    return (keys // _RANGE).bit_length()


def count_distinct(highs: Longs, lows: Longs) -> int:
    """How many different keys there are, in any order."""
    order = np.argsort(highs)
    highs = highs[order]
    if not (highs[1:] == highs[:-1]).any():
        return len(highs)
    lows = lows[order]
    lows = lows[np.lexsort((lows, highs))]
    return 1 + int(np.count_nonzero((highs[1:] != highs[:-1]) | (lows[1:] != lows[:-1])))


def view(array: Longs | Words) -> memoryview:
    """The same memory, for single numbers: from Python, memoryviews are several times faster than numpy's scalars."""
    return memoryview(np.ascontiguousarray(array))  # type: ignore[arg-type] # numpy arrays are buffers


def _where(chosen: npt.NDArray[np.bool_], one: Positions, other: Positions) -> tuple[Positions, Positions]:
    return one[chosen], other[chosen]
