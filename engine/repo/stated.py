"""What index segments state of packs: statement by statement, and which of them are to be believed.

It looks into the tables of the node's cache, so that the memory it takes follows the packs and not the chunks.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import compress, repeat
from typing import Final

import numpy as np

from engine.repo.cache import Mask, Part
from engine.repo.pack import PackName
from engine.repo.segment import PackFacts
from engine.repo.table import Table, said_of
from engine.values import dataclass

UNTOLD: Final = -1  # the size of a pack that is there, where a listing does not tell it
_ABSENT: Final = -2


@dataclass(frozen=True, slots=True)
class Statement:
    """What a segment states of a pack, in short: `said` is a hash of what its records are."""

    pack: PackName
    size: int
    entries: int
    said: bytes


def statement_of(facts: PackFacts) -> Statement:
    """The statement in short."""
    return Statement(facts.name, facts.size, facts.entries, said_of(facts))


class Stated:
    """What the segments in some parts of tables state; and the names of `damaged` segments, which state nothing."""

    def __init__(self, parts: Sequence[Part[Table]], damaged: Collection[str] = ()) -> None:
        self._parts = parts
        self.damaged = frozenset(damaged)

    @cached_property
    def segments(self) -> Mapping[str, Sequence[Statement]]:
        """Each statement, by segment, in its order."""
        found = {}
        for part in self._parts:
            table, counts, sizes, said = part.layer, part.layer.counts.tolist(), part.layer.sizes, part.layer.said
            for number in np.flatnonzero(part.chosen).tolist():
                rows = table.rows_of_segment(number)
                found[table.names[number]] = [
                    Statement(table.pack(row), int(sizes[row]), counts[row], said[row]) for row in rows
                ]
        return found

    @property
    def packs(self) -> set[PackName]:
        """The packs that any of them is about."""
        return {statement.pack for statements in self.segments.values() for statement in statements}

    def facts(self, pack: PackName) -> Iterator[PackFacts]:
        """All statements about a pack, in full."""
        name = str(pack)
        for part in self._parts:
            rows = part.layer.rows_by(part.chosen)
            yield from (part.layer.facts(row) for row, one in enumerate(part.layer.packs) if one == name and rows[row])

    def believed(self, sizes: Mapping[str, int]) -> "Believed":
        """Those about packs that are there, by name and size, as far as they agree with every other statement.

        Of the other packs their own directories tell: a false or rotten statement hides nothing. A size may be UNTOLD: then any
        is believed that all statements agree in, and who relies on the pack has to ask for it.
        """
        tables = [_standing(part, sizes) for part in self._parts]
        names = [list(compress(table.packs, rows.tolist())) for table, rows in tables]
        packs = set[str]().union(*names)
        if len(packs) != sum(map(len, names)):
            packs -= _settle(tables)
        return Believed(tables, packs)

    def rest(self, packs: Collection[str]) -> list[tuple[Table, Mask]]:
        """The tables, and which of their rows are about other packs than these."""
        return [(part.layer, part.layer.rows_by(part.chosen) & ~_about(part.layer, packs)) for part in self._parts]


class Believed:
    """Statements that are to be believed: `tables`, each with the rows that count, one for each of `packs`."""

    def __init__(self, tables: Sequence[tuple[Table, Mask]], packs: set[str]) -> None:
        self.tables, self.packs = tables, packs

    @cached_property
    def _places(self) -> Mapping[str, tuple[Table, int]]:
        return {
            name: (table, row)
            for table, rows in self.tables
            for row, (name, counts) in enumerate(zip(table.packs, rows.tolist(), strict=True))
            if counts
        }

    def said(self, pack: PackName) -> tuple[int, bytes] | None:
        """The size of a pack, and a hash of what its records are; None where nothing is believed of it."""
        place = self._places.get(str(pack))
        return None if place is None else (int(place[0].sizes[place[1]]), place[0].said[place[1]])

    def facts(self, pack: PackName) -> PackFacts | None:
        """What is believed of a pack, in full; None where that is nothing."""
        place = self._places.get(str(pack))
        return None if place is None else place[0].facts(place[1])

    def without(self, packs: Collection[str]) -> "Believed":
        """The same, but for these packs."""
        if self.packs.isdisjoint(packs):
            return self
        return Believed([(table, rows & ~_about(table, packs)) for table, rows in self.tables], self.packs - {*packs})


def _about(table: Table, packs: Collection[str]) -> Mask:
    return np.fromiter(map(packs.__contains__, table.packs), np.bool_, len(table.packs))


def _standing(part: Part[Table], sizes: Mapping[str, int]) -> tuple[Table, Mask]:
    """The packs that are there, in the size that is stated."""
    listed = np.fromiter(map(sizes.get, part.layer.packs, repeat(_ABSENT)), np.int64, len(part.layer.packs))
    fits = (listed == part.layer.sizes) | (listed == UNTOLD)
    return part.layer, part.layer.rows_by(part.chosen) & fits


def _settle(tables: Iterable[tuple[Table, Mask]]) -> set[str]:
    """Let one statement about a pack count where several do, and none where they differ; the packs in dispute."""
    believed: dict[str, tuple[bytes, int]] = {}
    disputed: set[str] = set()
    for table, rows in tables:
        names, said = table.packs, list(zip(table.said, table.sizes.tolist(), strict=True))
        for row in np.flatnonzero(rows).tolist():
            name = names[row]
            if name in believed:
                rows[row] = False
            if believed.setdefault(name, said[row]) != said[row]:
                disputed.add(name)
    for table, rows in tables if disputed else ():
        rows &= ~_about(table, disputed)
    return disputed
