"""The index: where each chunk is, over all packs; which of those stay; and which new chunks a session has taken on.

It looks things up in tables, of whose packs not all count: some are gone, given up, or stated twice. One object serves many
threads.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final

import numpy as np

from engine.repo.cache import Mask
from engine.repo.keys import (
    Longs,
    Positions,
    SortedKeys,
    Words,
    all_halves,
    count_distinct,
    halves,
    range_bits,
    sorted_keys,
)
from engine.repo.pack import PackKind, PackName
from engine.repo.segment import PackFacts
from engine.repo.table import Table, table_in_memory
from engine.values import dataclass

_RECENT_LIMIT: Final = 1 << 16

IsWhole = Callable[[PackName, int], bool]


def trust(pack: PackName, size: int) -> bool:
    """For packs whose size is known."""
    return True


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
    """The facts of the given packs, which must all exist; of each only one statement counts.

    What is in a pack of `condemned` may be read as long as it is there, but is no reason not to store it again. Nor is what is
    in a pack that is not the size that is stated: `is_whole` is asked about each pack when a claim first comes upon it.
    """

    def __init__(
        self,
        facts: Iterable[PackFacts] = (),
        condemned: Collection[PackName] = frozenset(),
        is_whole: IsWhole = trust,
    ) -> None:
        self._shards: list[_Shard] = []
        self._claims = _Claims()
        self._rows = 0  # of all shards, those that do not count included
        self._condemned = condemned
        self._is_whole = is_whole
        self._add_facts(list({pack.name: pack for pack in facts}.values()))

    @classmethod
    def over(
        cls,
        stated: Iterable[tuple[Table, Mask]],
        facts: Sequence[PackFacts],
        condemned: Collection[PackName] = frozenset(),
        is_whole: IsWhole = trust,
    ) -> "Index":
        """The index of those packs of tables that count, and of more facts, about packs that do not."""
        index = cls((), condemned, is_whole)
        for table, counts in stated:
            index._add(table, counts)
        index._add_facts(facts)
        return index

    def without(self, condemned: Iterable[PackName]) -> "Index":
        """The same, but that what is in these packs, too, is no reason not to store it again. Nothing is claimed of it yet."""
        return Index.over(self._tables(), (), {*self._condemned, *condemned}, self._is_whole)

    def extended(self, facts: Sequence[PackFacts]) -> "Index":
        """The same, with more facts, about packs that it is not of. Nothing is claimed of it yet."""
        return Index.over(self._tables(), facts, self._condemned, self._is_whole)

    def _tables(self) -> list[tuple[Table, Mask]]:
        return [(shard.table, shard.counts) for shard in self._shards]

    def _add_facts(self, facts: Sequence[PackFacts]) -> None:
        if facts:
            self._add(table_in_memory([("", facts)]), np.ones(len(facts), np.bool_))

    def _add(self, table: Table, counts: Mask) -> None:
        self._shards.append(_Shard(table, counts, self._rows, self._condemned, self._is_whole))
        self._rows += len(counts)

    @property
    def packs(self) -> set[PackName]:
        """The packs that it is of."""
        return {shard.pack(row) for shard in self._shards for row in np.flatnonzero(shard.counts).tolist()}

    @property
    def chunks(self) -> int:
        """How many facts are about chunks of content, not maps."""
        return sum(shard.chunks for shard in self._shards)

    @property
    def distinct(self) -> int:
        """How many chunks and maps are in some pack, each counted once."""
        bits = range_bits(sum(len(shard.table.keys) for shard in self._shards))
        edges = [shard.table.keys.edges(bits) for shard in self._shards]
        distinct = 0
        for number in range(
            1 << bits if self._shards else 0
        ):  # a range at a time: of all, it would take twice what they do
            slices = [
                shard.keys(int(edge[number]), int(edge[number + 1]))
                for shard, edge in zip(self._shards, edges, strict=True)
            ]
            distinct += count_distinct(*(np.concatenate(column) for column in zip(*slices, strict=True)))
        return distinct

    def find(self, prefix: bytes) -> Location | None:
        """Where the chunk or map of this 16-byte prefix can be read; None when no pack holds it."""
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

    def holders(self, prefixes: bytes) -> set[PackName]:
        """Every pack that holds any of the chunks of joined prefixes."""
        highs, lows = all_halves(prefixes)
        return {shard.pack(row) for shard in self._shards for row in shard.holders(highs, lows)}

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

    def release(self) -> None:
        """Let go of the memory of the tables that were looked at; they are mapped in again when they are next needed."""
        for shard in self._shards:
            shard.table.release()

    def claim(self, prefix: bytes) -> bool:
        """True for the one caller who must store this chunk; False when it is stored to stay, or someone else has claimed it.

        Raises what `is_whole` does.
        """
        high, low = halves(prefix)
        for shard in self._shards:
            if shard.stays(high, low):
                return False
        return self._claims.take(prefix)

    def reclaim(self, prefix: bytes) -> bool:
        """True for the one caller who must store this chunk again, although some pack should hold it."""
        return self._claims.take(prefix)


class _Shard:
    """A table, and which of its packs count, and of those which stay; the index numbers them from `first`."""

    def __init__(
        self, table: Table, counts: Mask, first: int, condemned: Collection[PackName], is_whole: IsWhole
    ) -> None:
        self.table, self.counts, self.first = table, counts, first
        self._names: dict[int, PackName] = {}
        self._is_whole = is_whole
        self._relied_on: dict[int, bool] = {}  # by row, of those that claims came upon
        self._stay = counts
        if condemned:
            names = {str(pack) for pack in condemned}
            self._stay = counts & np.array([name not in names for name in table.packs], np.bool_)
        self._all = bool(counts.all())

    @property
    def chunks(self) -> int:
        return int(self.table.counts[self.counts & (self.table.kinds == PackKind.CHUNKS)].sum())

    def keys(self, start: int, end: int) -> tuple[Longs, Longs]:
        """Those of the entries from one position to another that count."""
        keys = self.table.keys
        if self._all:
            return keys.highs[start:end], keys.lows[start:end]
        chosen = self._counted[self.table.records(start, end)]
        return keys.highs[start:end][chosen], keys.lows[start:end][chosen]

    @cached_property
    def _counted(self) -> Mask:
        """The records that count: a byte each, but the row of each need not be searched for."""
        return self.table.records_in(self.counts)

    def stays(self, high: int, low: int) -> bool:
        at = self.table.keys.find(high, low)
        while at >= 0 and not self._may_be_relied_on(self.table.row(at)):
            at = self.table.keys.next(at)
        return at >= 0

    def _may_be_relied_on(self, row: int) -> bool:
        known = self._relied_on.get(row)
        if known is None:
            known = bool(self._stay[row]) and self._is_whole(self.pack(row), int(self.table.sizes[row]))
            self._relied_on[row] = known
        return known

    def find_all(self, high: int, low: int) -> Iterator[Location]:
        at = self.find(high, low)
        while at >= 0:
            yield self.location(at)
            at = self._next(self.table.keys.next(at))

    def find(self, high: int, low: int) -> int:
        return self._next(self.table.keys.find(high, low))

    def _next(self, at: int) -> int:
        """From a position on, the first that is of a pack that counts; -1 when there is none."""
        while at >= 0 and not self.counts[self.table.row(at)]:
            at = self.table.keys.next(at)
        return at

    def location(self, at: int) -> Location:
        return Location(self.pack(self.table.row(at)), *self.table.place(at))

    def find_many(self, highs: Longs, lows: Longs) -> Positions:
        at = self.table.keys.find_many(highs, lows)
        pending = np.flatnonzero(at >= 0)
        while len(pending) and not self._all:
            pending = pending[~self._counted[self.table.records_of(at[pending])]]
            at[pending] = self.table.keys.next_many(at[pending])
            pending = pending[at[pending] >= 0]
        return at

    def holders(self, highs: Longs, lows: Longs) -> set[int]:
        found, at = set[int](), self.table.keys.find_many(highs, lows)
        while len(at := at[at >= 0]):
            rows = np.unique(self.table.rows_of(at))
            found.update(rows[self.counts[rows]].tolist())
            at = self.table.keys.next_many(at)
        return found

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
