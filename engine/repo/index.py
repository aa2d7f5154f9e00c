"""The index: where each chunk is, over all the packs that may be relied on; and which new chunks a session has taken on.

It looks things up in tables, of whose packs not all count: some are condemned, gone, or stated twice. One object serves many
threads.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.repo.cache import Mask, Part
from engine.repo.keys import Longs, Positions, SortedKeys, Words, all_halves, halves, sorted_keys
from engine.repo.pack import PackKind, PackName
from engine.repo.segment import PackFacts
from engine.repo.table import Table, table_in_memory

_RECENT_LIMIT: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Location:
    """Where a chunk's record is. `length` is the sealed length in bytes."""

    pack: PackName
    offset: int
    length: int
    raw: bool


@dataclass(frozen=True, slots=True)
class Places:
    """Where many chunks are, in the order in which they were asked for.

    `packs` numbers the packs of the index, -1 where no pack holds the chunk, and the rest means nothing; see Index.pack.
    """

    packs: Positions
    offsets: Words
    lengths: Words
    raw: Mask


class Index:
    """The facts of the given packs, which must all be packs that may be relied on; of each only one statement counts."""

    def __init__(self, facts: Iterable[PackFacts] = ()) -> None:
        self._shards: list[_Shard] = []
        self._claims = _Claims()
        self._packs = 0  # rows of all shards, those that do not count included
        self._add_facts(list({pack.name: pack for pack in facts}.values()))

    @classmethod
    def over(cls, parts: Iterable[Part[Table]], sizes: Mapping[str, int], facts: Sequence[PackFacts] = ()) -> "Index":
        """The index of what parts of tables state of the packs in `sizes`, where the size is right; and of more facts, of
        packs of which the tables state nothing.
        """
        index, counted = cls(), set[str]()
        for part in parts:
            table, rows = part.layer, part.layer.rows_by(part.chosen).tolist()
            for row, (name, size) in enumerate(zip(table.packs, table.sizes, strict=True)):
                if sizes.get(name) != size or name in counted:
                    rows[row] = False
                elif rows[row]:
                    counted.add(name)
            index._add(table, np.array(rows, dtype=np.bool_))
        index._add_facts(facts)
        return index

    def _add_facts(self, facts: Sequence[PackFacts]) -> None:
        if facts:
            self._add(table_in_memory([("", facts)]), np.ones(len(facts), np.bool_))

    def _add(self, table: Table, counts: Mask) -> None:
        self._shards.append(_Shard(table, counts, self._packs))
        self._packs += len(counts)

    @property
    def chunks(self) -> int:
        """How many facts are about chunks of content, not maps."""
        return sum(shard.chunks for shard in self._shards)

    def find(self, prefix: bytes) -> Location | None:
        """Where the chunk or map of this 16-byte prefix is; None when no pack holds it."""
        high, low = halves(prefix)
        for shard in self._shards:
            at = shard.find(high, low)
            if at >= 0:
                return shard.location(at)
        return None

    def find_all(self, prefix: bytes) -> list[Location]:
        """Every place where the chunk is."""
        high, low = halves(prefix)
        return [location for shard in self._shards for location in shard.find_all(high, low)]

    def find_many(self, prefixes: bytes) -> Places:
        """Where the chunks of joined prefixes are: much faster than one by one, from some dozens on."""
        highs, lows = all_halves(prefixes)
        count = len(highs)
        places = Places(
            np.full(count, -1), np.zeros(count, np.uint32), np.zeros(count, np.uint32), np.zeros(count, np.bool_)
        )
        missing = np.arange(count)
        for shard in self._shards:
            at = shard.find_many(highs[missing], lows[missing])
            found, at, missing = missing[at >= 0], at[at >= 0], missing[at < 0]
            places.packs[found] = shard.first + shard.table.rows_of(at)
            places.offsets[found], places.lengths[found], places.raw[found] = shard.table.places(at)
        return places

    def pack(self, number: int) -> PackName:
        """The pack that Places tells by a number."""
        for shard in reversed(self._shards):
            if number >= shard.first:
                return shard.pack(number - shard.first)
        raise IndexError(number)

    def locations(self, prefixes: Sequence[bytes]) -> list[Location | None]:
        """Where each chunk is; None where no pack holds it."""
        places = self.find_many(b"".join(prefixes))
        columns = (places.packs.tolist(), places.offsets.tolist(), places.lengths.tolist(), places.raw.tolist())
        return [
            None if number < 0 else Location(self.pack(number), offset, length, raw)
            for number, offset, length, raw in zip(*columns, strict=True)
        ]

    def claim(self, prefix: bytes) -> bool:
        """True for the one caller who must store this chunk; False when it is stored, or someone else has claimed it."""
        high, low = halves(prefix)
        for shard in self._shards:
            if shard.find(high, low) >= 0:
                return False
        return self._claims.take(prefix)


class _Shard:
    """A table, and which of its packs count; the index numbers them from `first`."""

    def __init__(self, table: Table, counts: Mask, first: int) -> None:
        self.table, self._counts, self.first = table, counts, first
        self._all = bool(counts.all())
        self._names: dict[int, PackName] = {}

    @property
    def chunks(self) -> int:
        return int(self.table.counts[self._counts & (self.table.kinds == PackKind.CHUNKS)].sum())

    def find_all(self, high: int, low: int) -> Iterator[Location]:
        at = self.find(high, low)
        while at >= 0:
            yield self.location(at)
            at = self._next_that_counts(self.table.keys.next(at))

    def find(self, high: int, low: int) -> int:
        at = self.table.keys.find(high, low)
        return at if at < 0 or self._all else self._next_that_counts(at)

    def _next_that_counts(self, at: int) -> int:
        while at >= 0 and not self._counts[self.table.row(at)]:
            at = self.table.keys.next(at)
        return at

    def location(self, at: int) -> Location:
        return Location(self.pack(self.table.row(at)), *self.table.place(at))

    def find_many(self, highs: Longs, lows: Longs) -> Positions:
        at = self.table.keys.find_many(highs, lows)
        pending = np.flatnonzero(at >= 0)
        while len(pending) and not self._all:
            pending = pending[~self._counts[self.table.rows_of(at[pending])]]
            at[pending] = self.table.keys.next_many(at[pending])
            pending = pending[at[pending] >= 0]
        return at

    def pack(self, row: int) -> PackName:
        name = self._names.get(row)
        if name is None:
            name = self._names[row] = self.table.pack(row)
        return name


class _Claims:
    """A set of prefixes that only grows: the newest in a Python set, the others in sorted runs of doubling sizes."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._runs: list[SortedKeys] = []
        self._lock = threading.Lock()

    def take(self, prefix: bytes) -> bool:
        """Add the prefix; False when it is there already."""
        with self._lock:
            if prefix in self._recent or (self._runs and self._is_in_runs(prefix)):
                return False
            self._recent.add(prefix)
            if len(self._recent) == _RECENT_LIMIT:
                self._fold()
            return True

    def _is_in_runs(self, prefix: bytes) -> bool:
        high, low = halves(prefix)
        return any(run.find(high, low) >= 0 for run in self._runs)

    def _fold(self) -> None:
        highs, lows = all_halves(b"".join(self._recent))
        self._recent = set()
        while self._runs and len(self._runs[-1]) <= len(highs):
            run = self._runs.pop()
            highs, lows = np.concatenate([run.highs, highs]), np.concatenate([run.lows, lows])
        self._runs.append(sorted_keys(highs, lows))
