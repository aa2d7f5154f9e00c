"""How much of each pack is live: by this a collection chooses what to condemn. It is economy, and carries no safety."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from engine.repo.cache import Mask
from engine.repo.consolidate import Outline
from engine.repo.keys import range_bits
from engine.repo.marks import Keys, Marks
from engine.repo.pack import PackName
from engine.repo.repository import Repository
from engine.repo.table import Table, table_in_memory
from engine.values import dataclass

_RELEASE_EVERY: Final = 16  # ranges


@dataclass(frozen=True, slots=True)
class Standing:
    """A pack, and the bytes of its records that something live needs and no pack before it gives. Bytes."""

    name: PackName
    size: int
    records: int
    live: int

    @property
    def dead(self) -> int:
        """The bytes of records that nothing needs."""
        return self.records - self.live


@dataclass(frozen=True, slots=True)
class PackSurvey:
    """How the packs stand; the index segments that tell of them; and the packs that none of these stated."""

    packs: tuple[Standing, ...]
    segments: tuple[Outline, ...]
    unstated: tuple[PackName, ...]


def survey_packs(repository: Repository, marks: Marks, condemned: frozenset[PackName]) -> PackSurvey:
    """How all packs stand that are not condemned and not being written, and whose contents are known.

    By the tables of the node's cache, and the directories of packs that no segment states. Memory: two bytes a chunk.
    """
    writing = repository.open_sessions()
    sizes = repository.catalog.pack_sizes()
    unseen = {str(n): (n, size) for n, size in sizes.items() if n not in condemned and n.owner not in writing}
    stated = repository.catalog.stated()
    believed = stated.believed({name: size for name, (_, size) in unseen.items()})
    judge, packs = _Judge(marks), list[Standing]()
    for table, rows in believed.tables:
        packs += judge.standings(table, rows)
    others = [pack for name, pack in unseen.items() if name not in believed.packs]
    unstated = [facts for facts in map(repository.catalog.read_facts, others) if facts is not None]
    if unstated:
        packs += judge.standings(table_in_memory([("", unstated)]), np.ones(len(unstated), np.bool_))
    segments = stated.segments
    known = {(one.pack, one.size) for statements in segments.values() for one in statements}  # if in dispute
    return PackSurvey(
        tuple(packs),
        tuple(Outline(name, {one.pack: one.entries for one in segments[name]}) for name in segments),
        tuple(facts.name for facts in unstated if (facts.name, facts.size) not in known),
    )


class _Judge:
    """Tells the live bytes of packs, a table at a time; of several copies of a chunk only the first counts."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._given = np.zeros(marks.places, np.bool_)

    def standings(self, table: Table, rows: Mask) -> Iterator[Standing]:
        """Of the packs in these rows."""
        totals, live = table.record_bytes().tolist(), table.record_bytes(self._live(table, rows)).tolist()
        sizes = table.sizes.tolist()
        for row in np.flatnonzero(rows).tolist():
            yield Standing(table.pack(row), sizes[row], totals[row], live[row])

    def _live(self, table: Table, rows: Mask) -> Mask:
        """The records that are live and that no other one is counted for."""
        live, counted = np.zeros(table.slots, np.bool_), table.records_in(rows)
        for number, (start, end) in enumerate(pairwise(table.keys.edges(range_bits(len(table.keys))).tolist())):
            # In the order of the marks: neighbours are looked up together, which is many times faster.
            places, found = self._marks.find(Keys(table.keys.highs[start:end], table.keys.lows[start:end]))
            records = table.records(start, end)
            found &= counted[records]
            places, records = places[found], records[found]
            if (places[1:] <= places[:-1]).any():  # copies: one pack is to have all the first ones, not each pack some
                order = np.lexsort((records, places))
                places, records = places[order], records[order]
                first = np.append(True, places[1:] != places[:-1])
                places, records = places[first], records[first]
            fresh = ~self._given[places]
            self._given[places[fresh]] = True
            live[records[fresh]] = True
            if number % _RELEASE_EVERY == 0:
                table.release()
        return live
