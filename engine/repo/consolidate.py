"""Consolidation: many index segments become few, without the facts whose packs are gone (rok-repository(5), I6).

Any number may run at once. A fact is never lost: an old segment goes only after the new ones are acknowledged.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from engine.errors import Damaged
from engine.repo.pack import PackName
from engine.repo.repository import Repository
from engine.repo.segment import ENTRY_LIMIT, PackFacts, segments_of
from engine.repo.stated import Statement, statement_of
from engine.values import dataclass

SMALL: Final = ENTRY_LIMIT // 4  # entries: below it a segment is worth joining with others
MANY: Final = 16


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What was done, or would be: segments that went, segments written in their place, facts dropped (counts)."""

    removed: int = 0
    written: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Outline:
    """A segment that is known: of each pack that it states the number of entries."""

    name: str
    packs: Mapping[PackName, int]

    @property
    def entries(self) -> int:
        """How many facts."""
        return sum(self.packs.values())


def consolidate(
    repository: Repository,
    segments: Sequence[Outline],
    unstated: Sequence[PackName],
    *,
    dangling_share: float,
    dry_run: bool = False,
) -> Consolidation:
    """Join small segments once there are many, and rewrite those of whose facts more than this share dangle.

    `segments` are those that are known (damaged ones are left to `repo repair`), `unstated` the packs that none of them
    stated: these are stated, so that nobody has to read their directories again. A segment that goes is read from the store
    itself, whatever the node has kept of it. Memory: one segment, and a line for each pack.
    """
    # Listed later than the segments, which never change: a pack that is missing now is gone, not still to come.
    sizes = repository.catalog.pack_sizes()
    due = _due(segments, sizes, dangling_share)
    orphans = [(name, sizes[name]) for name in unstated if name in sizes]
    dropped = sum(count for segment in due for name, count in segment.packs.items() if name not in sizes)
    if dry_run or not (due or orphans):
        return Consolidation(len(due), int(bool(due)), dropped)
    written, read = 0, list[str]()
    facts = _facts(repository, due, orphans, sizes, read.append)
    for name, blob in segments_of(facts, repository.keyring, repository.entropy):
        repository.store.create(f"index/{name}", blob)
        written += 1
    for name in read:
        repository.store.delete(f"index/{name}")
    return Consolidation(len(read), written, dropped)


def _due(segments: Sequence[Outline], sizes: dict[PackName, int], dangling_share: float) -> list[Outline]:
    many_are_small = sum(segment.entries < SMALL for segment in segments) >= MANY

    def is_due(segment: Outline) -> bool:
        dangling = sum(count for name, count in segment.packs.items() if name not in sizes)
        is_small = many_are_small and segment.entries < SMALL
        return is_small or dangling > dangling_share * segment.entries or not segment.packs

    return [segment for segment in segments if is_due(segment)]


def _facts(
    repository: Repository,
    due: Sequence[Outline],
    orphans: list[tuple[PackName, int]],
    sizes: dict[PackName, int],
    note: Callable[[str], None],
) -> Iterator[PackFacts]:
    """What is to be stated anew; the segments that it is from are noted as they are read.

    Of statements in dispute all are, for which of them is false is not known here, and the pack is asked while they stand.
    """
    stated = set[Statement]()
    for segment in due:
        try:
            found = repository.catalog.segment(segment.name)
        except Damaged:
            continue  # since this node has read it: a check finds that
        note(segment.name)
        for facts in found:
            statement = statement_of(facts)
            if facts.name in sizes and statement not in stated:
                stated.add(statement)
                yield facts
    for pack in orphans:
        own = repository.catalog.read_facts(pack)
        if own is not None:
            yield own
