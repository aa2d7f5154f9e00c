"""The index segments that a node has read or written, as tables (see `cache` and `table`)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from engine.repo.cache import CacheFolder, Fill, Layers, Part
from engine.repo.segment import PackFacts
from engine.repo.stated import Stated, Statement, statement_of
from engine.repo.table import Table, fold_tables, open_table, write_table

_BATCH: Final = 1 << 20  # entries sorted at once: some 100 MiB

Read = Callable[[Sequence[str]], Iterable[tuple[str, Sequence[PackFacts] | None]]]


class FactCache:
    """What segments state. One object serves many threads."""

    def __init__(self, folder: CacheFolder, repository: str) -> None:
        self._repository = repository
        self._layers: Layers[Table] = Layers(
            folder,
            "table",
            lambda file: open_table(file, repository),
            lambda file, parts: fold_tables(file, repository, parts),
        )

    def stated(self, segments: Sequence[str], read: Read) -> Stated:
        """What the segments of these names state.

        `read` gives what is stated by those not known yet; None for a damaged one, which is tried again the next time.
        """
        return Stated(self._parts(segments, read))

    def verified(self, segments: Sequence[str], read: Read) -> Stated:
        """The same, each read now and held against what is kept of it, which is thrown away where it says something else.

        Segments that are gone by then state nothing. Memory: as many facts as `read` gives at a time.
        """
        fresh, damaged = set[str](), set[str]()

        def noting(names: Sequence[str]) -> Iterator[tuple[str, Sequence[PackFacts] | None]]:
            for name, facts in read(names):
                (damaged if facts is None else fresh).add(name)
                yield name, facts

        kept = Stated(self._parts(segments, noting)).segments
        wrong: dict[str, Sequence[Statement]] = {}
        for name, facts in noting([name for name in segments if name in kept and name not in fresh]):
            statements = [statement_of(one) for one in facts or ()]
            if facts is None or statements != kept[name]:
                wrong[name] = statements
        self._layers.forget(wrong)
        stated = Stated(self._parts([name for name in segments if name in fresh], read), damaged)
        if any(stated.segments[name] != said for name, said in wrong.items() if name in stated.segments):
            # Whoever writes in the folder now keeps us from removing what is wrong there: do without it.
            return FactCache(CacheFolder(None), self._repository).verified(segments, read)
        return stated

    def add(self, segment: str, facts: Callable[[], Sequence[PackFacts]]) -> None:
        """Keep what a segment states that this node has just written, so that it need not be read. Asks for it where it can."""
        self._layers.add(lambda file: write_table(file, self._repository, [(segment, facts())]))

    def _parts(self, segments: Sequence[str], read: Read) -> list[Part[Table]]:
        """Each segment in one part alone."""
        return self._layers.parts(segments, lambda missing: self._fills(read(missing)))

    def forget(self, segment: str) -> None:
        """Have the segment read anew: it was found to be damaged."""
        self._layers.forget([segment])

    def _fills(self, segments: Iterable[tuple[str, Sequence[PackFacts] | None]]) -> Iterator[Fill]:
        for batch in _batches(segments):
            yield lambda file, batch=batch: write_table(file, self._repository, batch)  # type: ignore[misc] # mypy#15459


def _batches(
    segments: Iterable[tuple[str, Sequence[PackFacts] | None]],
) -> Iterator[list[tuple[str, Sequence[PackFacts]]]]:
    batch: list[tuple[str, Sequence[PackFacts]]] = []
    entries = 0
    for name, packs in segments:
        if packs is None:
            continue
        more = sum(pack.entries for pack in packs)
        if batch and entries + more > _BATCH:
            yield batch
            batch, entries = [], 0
        batch.append((name, packs))
        entries += more
    if batch:
        yield batch
