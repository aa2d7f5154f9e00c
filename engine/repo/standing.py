"""How much of each pack is live: by this a collection chooses what to condemn. It is economy, and carries no safety."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.repo.marks import Marks, as_keys
from engine.repo.pack import RAW_BIT, PackName
from engine.repo.repository import Repository
from engine.repo.segment import PackFacts


@dataclass(frozen=True, slots=True)
class Standing:
    """A pack, and the bytes of its records that something live needs and no pack before it gives. Bytes.

    A pack that nobody states or can read (`stated` false) has no records that count.
    """

    name: PackName
    size: int
    records: int
    live: int

    @property
    def dead(self) -> int:
        """The bytes of records that nothing needs."""
        return self.records - self.live


def standings(repository: Repository, marks: Marks, condemned: frozenset[PackName]) -> list[Standing]:
    """How all packs stand that are not condemned and not being written, and whose contents are known.

    Reads the index, and the directories of packs that it does not state. Memory: a segment or two, and a byte a mark.
    """
    writing = repository.open_sessions()
    sizes = {name: size for name, size in repository.pack_sizes().items() if name not in condemned}
    given = np.zeros(len(marks), np.bool_)
    found = []
    for facts in _facts(repository, sizes, writing):
        lengths = (facts.lengths & np.uint32(RAW_BIT - 1)).astype(np.int64)
        places, is_live = marks.find(as_keys(facts.prefixes))
        first = is_live.copy()
        first[is_live] = ~given[places[is_live]]  # of two copies one is dead
        given[places[is_live]] = True
        found.append(Standing(facts.name, facts.size, int(lengths.sum()), int(lengths[first].sum())))
    return found


def _facts(repository: Repository, sizes: dict[PackName, int], writing: set[str]) -> Iterator[PackFacts]:
    """The facts of each of these packs once. Of a session under way they may still change: its packs are passed over."""
    unseen = {name: size for name, size in sizes.items() if name.owner not in writing}
    for facts in repository.index_facts():
        if unseen.get(facts.name) == facts.size:
            del unseen[facts.name]
            yield facts
    for pack in unseen.items():
        facts_read = repository.read_facts(pack)
        if facts_read is not None:
            yield facts_read
