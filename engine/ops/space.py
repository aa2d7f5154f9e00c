"""Where the space of a repository goes, by object or by bucket: from the maps, for every chunk and map once.

    facts of all packs -> sorted keys and lengths          `_Records`
    versions of a group -> tops -> pages -> regions -> chunks, each map once
    each record: nobody's, one group's, or several's       `_Records.charge`

Chunks and maps are told apart by the first 8 bytes of their ids. Of 10 million, two are taken for one with a probability of
3 in a million, and then the figures lack one chunk. Memory: 17 bytes a chunk or map, twice that while they are sorted.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.progress import Progress
from engine.repo.index import Index
from engine.repo.manifest import Manifest
from engine.repo.map import BLOCK, REFERENCE, ZEROS, references, region_chunks
from engine.repo.pack import RAW_BIT, PackKind
from engine.repo.reader import Missing, Reader
from engine.repo.repository import Repository
from engine.repo.segment import PackFacts
from engine.values import dataclass

_MAPS_AT_ONCE: Final = 256
_NOBODY: Final = -1

Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


class Grouping(Enum):
    """By what versions are put together."""

    OBJECT = "object"
    BUCKET = "bucket"


@dataclass(frozen=True, slots=True)
class Usage:
    """What some versions take. Bytes, but `versions` and `chunks` (counts) and the ratios.

    `logical` are the sizes of their volumes, `data` what is not zeros in them, version by version. `chunks` counts what is
    different, `distinct` its bytes before compression. `unique` is stored for these versions alone, `shared` for others too;
    both count each chunk and map once, with the tag that seals it. What packs need besides is in neither.
    """

    versions: int
    logical: int
    data: int
    chunks: int
    distinct: int
    unique: int
    shared: int
    dedup_ratio: float | None  # data / distinct
    compression_ratio: float | None  # distinct / what is stored of it


@dataclass(frozen=True, slots=True)
class GroupUsage:
    """What one object takes, or with `object` None a bucket."""

    bucket: str
    object: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """What each group takes, and all together; in `total`, `shared` is what several groups need. Bytes and counts.

    `unneeded` is in packs, and no version needs it: forgotten, of a push that died, or there twice. `overhead` is what packs
    take besides. The figures are too small where something is lost: `lost` counts chunks and maps that no pack gives, and
    versions whose manifest cannot be read.
    """

    groups: tuple[GroupUsage, ...]
    total: Usage
    unneeded: int
    overhead: int
    packs: int
    lost: int


def space(repository: Repository, grouping: Grouping, progress: Progress) -> SpaceReport:
    """Account for every byte of the packs. Reads the index and every map that a version needs, and no content."""
    survey = repository.survey()
    sizes = sum(repository.catalog.pack_sizes().values())
    map_packs: list[PackFacts] = []
    records = _Records(_noting_maps(repository.catalog.facts(), map_packs))
    groups: dict[tuple[str, str | None], list[Manifest]] = {}
    for manifest in survey.manifests:
        name = manifest.object
        groups.setdefault((name.bucket, name.name if grouping is Grouping.OBJECT else None), []).append(manifest)
    walk = _Walk(repository, repository.reader(Index(map_packs)), records, progress)
    progress.begin("reading maps", None)
    try:
        for manifests in groups.values():
            walk.group(manifests)
    finally:
        progress.end()
    usages = [_usage(manifests, sums) for manifests, sums in zip(groups.values(), records.groups, strict=True)]
    named = [GroupUsage(bucket, name, usage) for (bucket, name), usage in zip(groups, usages, strict=True)]
    return SpaceReport(
        groups=tuple(sorted(named, key=lambda group: (group.bucket, group.object or ""))),
        total=_usage(survey.manifests, records.together()),
        unneeded=records.stored - records.together().stored,
        overhead=sizes - records.stored,
        packs=sizes,
        lost=walk.lost + len(survey.damaged),
    )


def _noting_maps(facts: Iterable[PackFacts], map_packs: list[PackFacts]) -> Iterator[PackFacts]:
    """Pass the facts on, and keep those of map packs, by which maps are read."""
    for pack in facts:
        if pack.kind is PackKind.MAPS:
            map_packs.append(replace(pack, lengths=pack.lengths.copy()))  # else all of its segment stays in memory
        yield pack


@dataclass(slots=True)
class _Sums:
    """Sums over the records that a group needs, each counted once. Bytes, but `chunks`."""

    stored: int = 0  # chunks and maps
    unique: int = 0  # the same, of what no other group needs
    chunks: int = 0
    chunks_stored: int = 0
    distinct: int = 0


def _usage(manifests: Sequence[Manifest], sums: _Sums) -> Usage:
    data = sum(manifest.totals.data for manifest in manifests)
    return Usage(
        versions=len(manifests),
        logical=sum(manifest.totals.size for manifest in manifests),
        data=data,
        chunks=sums.chunks,
        distinct=sums.distinct,
        unique=sums.unique,
        shared=sums.stored - sums.unique,
        dedup_ratio=_ratio(data, sums.distinct),
        compression_ratio=_ratio(sums.distinct, sums.chunks_stored),
    )


def _ratio(larger: int, smaller: int) -> float | None:
    return round(larger / smaller, 3) if smaller else None


class _Records:
    """Every chunk and map that a pack holds, sorted: how long its record is, and which groups need it.

    Where several packs hold one, the shortest record counts, and the others are nobody's.
    """

    def __init__(self, facts: Iterable[PackFacts]) -> None:
        keys, lengths = _collect(facts)
        self.stored = int(lengths.sum(dtype=np.int64))
        order = np.argsort(keys)
        keys = keys[order]
        lengths = lengths[order]
        del order
        first = np.ones(len(keys), np.bool_)
        np.not_equal(keys[1:], keys[:-1], out=first[1:])
        if not first.all():
            keys, lengths = keys[first], np.minimum.reduceat(lengths, np.flatnonzero(first))
        self._keys, self._lengths = keys, lengths
        self._owner = np.full(len(self._keys), _NOBODY, np.int32)  # the last group that needed it
        self._several = np.zeros(len(self._keys), np.bool_)  # another one needed it before
        self.groups: list[_Sums] = []
        self._together = _Sums()

    def begin_group(self) -> None:
        """Charge the next group from here on."""
        self.groups.append(_Sums())

    def charge(self, keys: Keys, blocks: npt.NDArray[np.uint16] | None) -> int:
        """The group needs these; chunks come with their lengths, maps without. Gives how many distinct ones are nowhere."""
        keys, first = np.unique(keys, return_index=True)
        places = np.searchsorted(self._keys, keys).astype(np.int64)
        found = places < len(self._keys)
        found[found] = self._keys[places[found]] == keys[found]
        places, first = places[found], first[found]
        group = len(self.groups) - 1
        fresh = self._owner[places] != group
        places, first = places[fresh], first[fresh]
        before = self._owner[places]
        self._share(places, before)
        self._owner[places] = group
        for sums, new in ((self.groups[-1], slice(None)), (self._together, before == _NOBODY)):
            stored = int(self._lengths[places[new]].sum(dtype=np.int64))
            sums.stored += stored
            if blocks is not None:
                sums.chunks += len(places[new])
                sums.chunks_stored += stored
                sums.distinct += int(blocks[first[new]].sum(dtype=np.int64)) * BLOCK
        self.groups[-1].unique += int(self._lengths[places[before == _NOBODY]].sum(dtype=np.int64))
        return len(found) - int(found.sum())

    def _share(self, places: Places, before: npt.NDArray[np.int32]) -> None:
        """What one other group had for itself, it has no longer."""
        lost = (before != _NOBODY) & ~self._several[places]
        owners, amounts = before[lost], self._lengths[places[lost]]
        for owner in np.unique(owners).tolist():
            self.groups[owner].unique -= int(amounts[owners == owner].sum(dtype=np.int64))
        self._several[places[lost]] = True

    def together(self) -> _Sums:
        """The sums over what any group needs; unique is what exactly one does."""
        return replace(self._together, unique=sum(sums.unique for sums in self.groups))


def _collect(facts: Iterable[PackFacts]) -> tuple[Keys, npt.NDArray[np.uint32]]:
    """The key and the length of each record. Into two byte arrays, which grow in place: many small ones would not go back
    from the heap to the system.
    """
    keys, lengths = bytearray(), bytearray()
    for pack in facts:
        keys += _as_keys(pack.prefixes).tobytes()
        lengths += (pack.lengths & np.uint32(RAW_BIT - 1)).astype(np.uint32).tobytes()
    return np.frombuffer(keys, np.uint64), np.frombuffer(lengths, np.uint32)


def _as_keys(joined: bytes) -> Keys:
    """The first halves of joined references as numbers."""
    return np.frombuffer(joined, dtype=">u8")[::2].astype(np.uint64)


class _Walk:
    """Goes through the versions of one group after the other, and charges the group for each map and chunk once."""

    def __init__(self, repository: Repository, reader: Reader, records: _Records, progress: Progress) -> None:
        self._repository, self._reader, self._records, self._progress = repository, reader, records, progress
        self._is_fresh = False
        self.lost = 0

    def group(self, manifests: Iterable[Manifest]) -> None:
        """All versions of a group."""
        self._records.begin_group()
        maps = {member.root for manifest in manifests for member in manifest.members} - {ZEROS}
        for _ in ("tops", "pages"):
            children: set[bytes] = set()
            for encoded in self._read(maps):
                joined = references(encoded)
                children.update(joined[at : at + REFERENCE] for at in range(0, len(joined), REFERENCE))
            maps = children
        pending: list[tuple[bytes, npt.NDArray[np.uint16]]] = []
        for encoded in self._read(maps):
            pending.append(region_chunks(encoded))
            if len(pending) == _MAPS_AT_ONCE:
                self._charge_chunks(pending)
        self._charge_chunks(pending)

    def _charge_chunks(self, pending: list[tuple[bytes, npt.NDArray[np.uint16]]]) -> None:
        keys = _as_keys(b"".join(chunks for chunks, _ in pending))
        blocks = np.concatenate([lengths for _, lengths in pending] or [np.empty(0, np.uint16)])
        self.lost += self._records.charge(keys, blocks)
        pending.clear()

    def _read(self, maps: set[bytes]) -> Iterator[bytes]:
        """Charge for the maps, and give those that can be read."""
        listed = sorted(maps)
        for start in range(0, len(listed), _MAPS_AT_ONCE):
            batch = listed[start : start + _MAPS_AT_ONCE]
            self._records.charge(_as_keys(b"".join(batch)), None)
            read = self._repository.concurrently(self._encoded, batch)
            if None in read and not self._is_fresh:
                self._look_again()
                read = self._repository.concurrently(self._encoded, batch)
            self.lost += read.count(None)
            for encoded in read:
                if encoded is not None:
                    self._progress.advance(len(encoded))
                    yield encoded

    def _look_again(self) -> None:
        """Find maps by the packs that are there now, once: a collection may have copied them to others."""
        facts = (pack for pack in self._repository.catalog.facts() if pack.kind is PackKind.MAPS)
        self._reader, self._is_fresh = self._repository.reader(Index(facts)), True

    def _encoded(self, reference: bytes) -> bytes | None:
        try:
            return self._reader.encoded_map(reference, f"map {reference.hex()}")
        except Missing:
            return None
