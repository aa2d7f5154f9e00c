"""The index segments that a node has read, as tables (see `cache` and `table`)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, repeat
from typing import Final

import numpy as np

from engine.repo.cache import CacheFolder, Fill, Layers, Mask, Part
from engine.repo.segment import PackFacts
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

    def parts(self, segments: Sequence[str], read: Read) -> list[Part[Table]]:
        """What the segments of these names state, each in one part alone.

        `read` gives what is stated by those not known yet; None for a damaged one, which is tried again the next time.
        """
        return self._layers.parts(segments, lambda missing: self._fills(read(missing)))

    def forget(self, segment: str) -> None:
        """Have the segment read anew: it was found to be damaged."""
        self._layers.forget([segment])

    def _fills(self, segments: Iterable[tuple[str, Sequence[PackFacts] | None]]) -> Iterator[Fill]:
        for batch in _batches(segments):
            yield lambda file, batch=batch: write_table(file, self._repository, batch)  # type: ignore[misc] # mypy#15459


def believable(parts: Iterable[Part[Table]], sizes: Mapping[str, int]) -> tuple[list[tuple[Table, Mask]], set[str]]:
    """As of facts (`segment.believable`): which packs of the tables count, and the names of these packs.

    That is what agrees with the sizes of the packs that are there, by name, and with every other statement.
    """
    found = [_standing(part, sizes) for part in parts]
    names = [list(compress(table.packs, rows.tolist())) for table, rows in found]
    believed = set[str]().union(*names)
    if len(believed) == sum(map(len, names)):
        return found, believed
    disputed = _settle(found)
    return found, believed - disputed


def _standing(part: Part[Table], sizes: Mapping[str, int]) -> tuple[Table, Mask]:
    """The packs that are there, in the size that is stated."""
    listed = np.fromiter(map(sizes.get, part.layer.packs, repeat(-1)), np.int64, len(part.layer.packs))
    return part.layer, part.layer.rows_by(part.chosen) & (listed == part.layer.sizes)


def _settle(found: Iterable[tuple[Table, Mask]]) -> set[str]:
    """Let one statement about a pack count where several do, and none where they differ; the packs in dispute."""
    believed: dict[str, bytes] = {}
    disputed: set[str] = set()
    for table, rows in found:
        names, said = table.packs, table.said
        for row in np.flatnonzero(rows).tolist():
            name = names[row]
            if name in believed:
                rows[row] = False
            if believed.setdefault(name, said[row]) != said[row]:
                disputed.add(name)
    for table, rows in found if disputed else ():
        rows &= np.fromiter((name not in disputed for name in table.packs), np.bool_, len(rows))
    return disputed


def _batches(
    segments: Iterable[tuple[str, Sequence[PackFacts] | None]],
) -> Iterator[list[tuple[str, Sequence[PackFacts]]]]:
    batch: list[tuple[str, Sequence[PackFacts]]] = []
    entries = 0
    for name, packs in segments:
        if packs is not None:
            batch.append((name, packs))
            entries += sum(pack.entries for pack in packs)
        if entries >= _BATCH:
            yield batch
            batch, entries = [], 0
    if batch:
        yield batch
