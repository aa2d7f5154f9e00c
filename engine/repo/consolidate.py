"""Consolidation: many index segments become few, without the facts whose packs are gone (rok-repository(5), I6).

Any number may run at once. A fact is never lost: an old segment goes only after the new ones are acknowledged.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.repo.pack import PackName
from engine.repo.repository import Repository
from engine.repo.segment import ENTRY_LIMIT, PackFacts, encode_segment

SMALL: Final = ENTRY_LIMIT // 4  # entries: below it a segment is worth joining with others
MANY: Final = 16


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What was done, or would be: segments that went, segments written in their place, facts dropped (counts)."""

    removed: int = 0
    written: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class _Outline:
    """A segment, but for its entries."""

    name: str
    packs: dict[PackName, int]  # entries of each

    @property
    def entries(self) -> int:
        return sum(self.packs.values())


def consolidate(repository: Repository, *, dangling_share: float, dry_run: bool = False) -> Consolidation:
    """Join small segments once there are many, and rewrite those of whose facts more than this share dangle.

    Packs that no segment states are stated, so that nobody has to read their directories again.
    Memory: one segment, and a line for each pack.
    """
    outlines = [
        _Outline(name, {facts.name: facts.entries for facts in stated})
        for name, stated in repository.index_segments()
        if stated is not None  # a damaged one is left to `repo repair`
    ]
    sizes = repository.pack_sizes()  # later than the segments: a pack that is missing now is gone, not still to come
    due = _due(outlines, sizes, dangling_share)
    stated, writing = {name for outline in outlines for name in outline.packs}, repository.open_sessions()
    unstated = [(name, size) for name, size in sizes.items() if name not in stated and name.owner not in writing]
    dropped = sum(count for outline in due for name, count in outline.packs.items() if name not in sizes)
    if dry_run or not (due or unstated):
        return Consolidation(len(due), int(bool(due)), dropped)
    written = 0
    for batch in _batches(_facts(repository, due, unstated, sizes)):
        name = repository.entropy(16).hex()
        repository.store.create(f"index/{name}", encode_segment(name, batch, repository.keyring, repository.entropy))
        written += 1
    for outline in due:
        repository.store.delete(f"index/{outline.name}")
    return Consolidation(len(due), written, dropped)


def _due(outlines: list[_Outline], sizes: dict[PackName, int], dangling_share: float) -> list[_Outline]:
    small = [outline for outline in outlines if outline.entries < SMALL]
    due = small if len(small) >= MANY else []
    for outline in outlines:
        dangling = sum(count for name, count in outline.packs.items() if name not in sizes)
        if outline not in due and (dangling > dangling_share * outline.entries or not outline.packs):
            due.append(outline)
    return due


def _facts(
    repository: Repository, due: list[_Outline], unstated: list[tuple[PackName, int]], sizes: dict[PackName, int]
) -> Iterator[PackFacts]:
    stated = set()
    for outline in due:
        for facts in repository.segment(outline.name):
            if facts.name in sizes and (facts.name, facts.size) not in stated:
                stated.add((facts.name, facts.size))
                yield facts
    for pack in unstated:
        found = repository.read_facts(pack)
        if found is not None:
            yield found


def _batches(stream: Iterator[PackFacts]) -> Iterator[list[PackFacts]]:
    batch: list[PackFacts] = []
    entries = 0
    for facts in stream:
        if batch and entries + facts.entries > ENTRY_LIMIT:
            yield batch
            batch, entries = [], 0
        batch.append(facts)
        entries += facts.entries
    if batch:
        yield batch
