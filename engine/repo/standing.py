"""How much of each pack is live: by this a collection chooses what to condemn. It is economy, and carries no safety."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.repo.consolidate import Outline
from engine.repo.marks import Keys, Marks
from engine.repo.pack import RAW_BIT, PackName
from engine.repo.repository import Repository
from engine.repo.segment import PackFacts


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
    """How the packs stand; the index segments that were read for it; and the packs that none of these stated."""

    packs: tuple[Standing, ...]
    segments: tuple[Outline, ...]
    unstated: tuple[PackName, ...]


def survey_packs(repository: Repository, marks: Marks, condemned: frozenset[PackName]) -> PackSurvey:
    """How all packs stand that are not condemned and not being written, and whose contents are known.

    Reads the index, and the directories of packs that it does not state. Memory: a segment or two, and a byte a mark.
    """
    writing = repository.open_sessions()
    sizes = repository.pack_sizes()
    unseen = {n: size for n, size in sizes.items() if n not in condemned and n.owner not in writing}
    judge, segments = _Judge(marks), list[Outline]()
    packs: list[Standing] = []
    for name, stated in repository.index_segments():
        if stated is None:
            continue
        segments.append(Outline(name, {facts.name: facts.entries for facts in stated}))
        new = {facts.name: facts for facts in stated if unseen.get(facts.name) == facts.size}
        packs += judge.standings(list(new.values()))
        for pack in new:
            del unseen[pack]
    unstated = [facts for facts in map(repository.read_facts, unseen.items()) if facts is not None]
    packs += judge.standings(unstated)
    return PackSurvey(tuple(packs), tuple(segments), tuple(facts.name for facts in unstated))


class _Judge:
    """Tells the live bytes of packs, a segment at a time; of two copies of a chunk the later one is dead."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._given = np.zeros(marks.places, np.bool_)

    def standings(self, packs: Sequence[PackFacts]) -> Iterator[Standing]:
        keys = Keys.of(b"".join(facts.prefixes for facts in packs))
        order = np.lexsort((keys.low, keys.high))  # neighbours are looked up together, which is many times faster
        keys = keys[order]
        places, counts = self._marks.find(keys)
        counts[1:] &= (keys.high[1:] != keys.high[:-1]) | (keys.low[1:] != keys.low[:-1])
        counts[counts] = ~self._given[places[counts]]
        self._given[places[counts]] = True
        is_live = np.empty(len(order), np.bool_)
        is_live[order] = counts
        start = 0
        for facts in packs:
            lengths = (facts.lengths & np.uint32(RAW_BIT - 1)).astype(np.int64)
            live = lengths[is_live[start : start + facts.entries]]
            yield Standing(facts.name, facts.size, int(lengths.sum()), int(live.sum()))
            start += facts.entries
