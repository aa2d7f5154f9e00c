"""Check a repository: is everything there that its versions need, and is it what was written?

Findings name the blob, what is wrong with it, and which versions are hurt, down to the extents of their volumes.
The order is the reverse of writing (manifests, then maps, then packs), so that a push that commits meanwhile is no finding.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from blake3 import blake3

from engine.chunk.identity import chunk_id
from engine.crew import employ
from engine.errors import Damaged
from engine.extent import Extent, normalise
from engine.progress import Progress
from engine.repo.document import expand_frame
from engine.repo.manifest import Manifest, Member
from engine.repo.map import BLOCK, CHUNK_LIMIT, PAGE, REFERENCE, REGION, ZEROS, page_count
from engine.repo.naming import ObjectName
from engine.repo.pack import PACK_LIMIT, PackKind, PackName, Record, read_directory
from engine.repo.reader import Missing, Reader
from engine.repo.repository import Repository
from engine.repo.seal import NONCE
from engine.repo.segment import PackFacts
from engine.repo.tags import all_tags
from engine.store.base import NoSuchBlob


@dataclass(frozen=True, slots=True)
class Hurt:
    """A member of a version that cannot be restored in whole, and which of its extents are lost."""

    object: ObjectName
    version: str
    member: str
    extents: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong. `blob` is the store's key, or names a chunk that is nowhere."""

    blob: str
    problem: str
    hurt: tuple[Hurt, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was looked at (counts, and bytes read from packs), and what was found."""

    versions: int
    packs: int
    chunks: int
    bytes_read: int
    findings: tuple[Finding, ...]


def check(
    repository: Repository, *, read_data: bool, progress: Progress, workers: int = min(os.cpu_count() or 1, 4)
) -> CheckReport:
    """Look at every version, its tags, every map, pack and segment; with `read_data` at every byte of every pack too.

    Memory: with `read_data`, a pack for each worker. With 0 workers the calling thread does it all.
    """
    survey = repository.survey()
    examined = _Examined()
    for version, error in survey.damaged.items():
        examined.problems[f"versions/{version}"] = error.message
    _check_tags(repository, survey.manifests, examined)
    facts = _check_segments(repository, examined)
    sizes = repository.pack_sizes()
    progress.begin("checking", sum(sizes.values()) if read_data else None)
    try:
        _check_packs(repository, sizes, facts, examined, progress, read_data=read_data, workers=workers)
    finally:
        progress.end()
    walk = _Walk(repository, examined)
    for manifest in survey.manifests:
        walk.version(manifest)
    return CheckReport(
        versions=len(survey.manifests),
        packs=len(sizes),
        chunks=len(examined.good),
        bytes_read=examined.bytes_read,
        findings=tuple(_findings(examined, walk.hurt)),
    )


@dataclass(slots=True)
class _Examined:
    """What the packs were found to hold."""

    problems: dict[str, str] = field(default_factory=dict)  # by blob
    good: set[bytes] = field(default_factory=set)  # references
    bad: dict[bytes, str] = field(default_factory=dict)  # reference -> the blob that should hold it
    bytes_read: int = 0

    def lose(self, stated: PackFacts | None, blob: str) -> None:
        """What should be in the blob is not to be had from it."""
        if stated is not None:
            self.bad.update((record.chunk, blob) for record in stated.records())

    def include(self, other: "_Examined") -> None:
        """Add what another worker found; no two look at the same pack."""
        self.problems.update(other.problems)
        self.good.update(other.good)
        self.bad.update(other.bad)
        self.bytes_read += other.bytes_read


def _check_tags(repository: Repository, manifests: Iterable[Manifest], examined: _Examined) -> None:
    for version, tags in all_tags(repository, (manifest.version for manifest in manifests)).items():
        if isinstance(tags, Damaged):
            examined.problems[f"tags/{version}"] = f"{tags.message}; {tags.hint}"


def _check_segments(repository: Repository, examined: _Examined) -> dict[PackName, PackFacts]:
    facts: dict[PackName, PackFacts] = {}
    for name, stated in repository.index_segments():
        if stated is None:
            examined.problems[f"index/{name}"] = (
                "the segment is damaged; the next push of any volume states its facts anew"
            )
            continue
        facts.update((pack.name, pack) for pack in stated)
    return facts


def _check_packs(
    repository: Repository,
    sizes: Mapping[PackName, int],
    facts: Mapping[PackName, PackFacts],
    examined: _Examined,
    progress: Progress,
    *,
    read_data: bool,
    workers: int,
) -> None:
    crew = [_Examiner(repository, facts, progress, read_data=read_data) for _ in range(max(1, workers))]
    employ(crew, sizes.items(), inline=workers == 0)
    for worker in crew:
        examined.include(worker.found)
    for name, stated in facts.items():
        if name not in sizes:
            # A dangling fact is no damage by itself (I6): only if a version needs what was there.
            examined.lose(stated, name.key)


class _Examiner:
    """One worker: looks at packs, and notes what it finds."""

    def __init__(
        self, repository: Repository, facts: Mapping[PackName, PackFacts], progress: Progress, *, read_data: bool
    ) -> None:
        self._store, self._keyring = repository.store, repository.keyring
        self._facts, self._progress, self._read_data = facts, progress, read_data
        self.found = _Examined()

    def do(self, task: tuple[PackName, int]) -> None:
        name, size = task
        stated = self._facts.get(name)
        if self._read_data and size <= PACK_LIMIT:
            self._check_data(name, stated)
            self._progress.advance(size)
        elif stated is not None and stated.size == size:
            self.found.good.update(record.chunk for record in stated.records())
        else:
            self._check_directory(name, size, stated)

    def finish(self) -> None:
        pass

    def _check_directory(self, name: PackName, size: int, stated: PackFacts | None) -> None:
        def read(offset: int, length: int) -> bytes:
            return self._store.get_range(name.key, offset, length)

        try:
            directory = read_directory(name, size, read, self._keyring)
        except NoSuchBlob:
            return  # a collector has removed it since it was listed
        except Damaged as error:
            self.found.problems[name.key] = error.message
            self.found.lose(stated, name.key)
            return
        self.found.good.update(record.chunk[:REFERENCE] for record in directory.records)

    def _check_data(self, name: PackName, stated: PackFacts | None) -> None:
        try:
            blob = memoryview(self._store.get(name.key))
        except NoSuchBlob:
            return  # a collector has removed it since it was listed
        self.found.bytes_read += len(blob)
        try:
            directory = read_directory(name, len(blob), lambda o, n: blob[o : o + n], self._keyring)
        except Damaged as error:
            self.found.problems[name.key] = error.message
            if stated is None or stated.size != len(blob):
                self.found.lose(stated, name.key)
                return
            # The records may be good even where the directory is not: a segment says where they are.
            self._check_records(name, stated.kind, stated.records(), blob)
        else:
            self._check_records(name, directory.kind, directory.records, blob)

    def _check_records(self, name: PackName, kind: PackKind, records: Iterable[Record], blob: memoryview) -> None:
        cipher = self._keyring.cipher("pack", str(name))
        key = self._keyring.subkey("chunk id" if kind is PackKind.CHUNKS else "map id")
        damaged = 0
        for record in records:
            prefix = record.chunk[:REFERENCE]
            try:
                payload = cipher.open(record.chunk[:NONCE], blob[record.offset : record.offset + record.length])
                if kind is PackKind.CHUNKS:
                    identity = chunk_id(key, payload if record.raw else expand_frame(payload, CHUNK_LIMIT))
                else:
                    identity = blake3(payload, key=key).digest()
                if identity[: len(record.chunk)] != record.chunk:
                    raise Damaged("its content is not what its id says")
            except Damaged:
                damaged += 1
                self.found.bad[prefix] = name.key
                continue
            self.found.good.add(prefix)
        if damaged:
            text = f"{damaged} of its records are damaged"
            self.found.problems[name.key] = "; ".join(filter(None, (self.found.problems.get(name.key), text)))


class _Walk:
    """Goes through the maps of the versions, and notes what they need and nothing gives."""

    def __init__(self, repository: Repository, examined: _Examined) -> None:
        self._examined = examined
        self._reader: Reader = repository.reader()
        self._sound: set[bytes] = set()  # region maps all of whose chunks are good: most versions share most of theirs
        self.hurt: dict[str, list[tuple[Manifest, Member, Extent]]] = {}  # by blob

    def version(self, manifest: Manifest) -> None:
        for member in manifest.members:
            self._member(manifest, member)

    def _member(self, manifest: Manifest, member: Member) -> None:
        if member.root == ZEROS:
            return
        try:
            pages = self._reader.pages(member.root, member.size)
        except Missing:
            self._note(manifest, member, member.root, Extent(0, member.size))
            return
        assert len(pages) == page_count(member.size)
        for number, page in enumerate(pages):
            if page == ZEROS:
                continue
            try:
                regions = self._reader.regions(page, number, member.size)
            except Missing:
                start = number * PAGE
                self._note(manifest, member, page, Extent(start, min(PAGE, member.size - start)))
                continue
            for offset, reference in enumerate(regions):
                self._region(manifest, member, number * (PAGE // REGION) + offset, reference)

    def _region(self, manifest: Manifest, member: Member, number: int, reference: bytes) -> None:
        if reference == ZEROS or reference in self._sound:
            return
        start = number * REGION
        try:
            entries = self._reader.region(reference, number, member.size)
        except Missing:
            self._note(manifest, member, reference, Extent(start, min(REGION, member.size - start)))
            return
        sound = True
        for entry in entries:
            if not entry.is_hole and entry.chunk not in self._examined.good:
                sound = False
                first = start + entry.start * BLOCK
                length = min(entry.blocks * BLOCK, member.size - first)
                self._note(manifest, member, entry.chunk, Extent(first, length))
        if sound:
            self._sound.add(reference)

    def _note(self, manifest: Manifest, member: Member, reference: bytes, extent: Extent) -> None:
        blob = self._examined.bad.get(reference, f"chunk {reference.hex()}")
        self.hurt.setdefault(blob, []).append((manifest, member, extent))


def _findings(examined: _Examined, hurt: Mapping[str, list[tuple[Manifest, Member, Extent]]]) -> Iterator[Finding]:
    for blob in sorted({*examined.problems, *hurt}):
        lost = "no pack holds it" if blob.startswith("chunk ") else "it is gone, and versions need it"
        yield Finding(blob, examined.problems.get(blob, lost), tuple(_hurt(hurt.get(blob, ()))))


def _hurt(notes: Iterable[tuple[Manifest, Member, Extent]]) -> Iterator[Hurt]:
    by_member: dict[tuple[str, str], tuple[Manifest, list[Extent]]] = {}
    for manifest, member, extent in notes:
        by_member.setdefault((manifest.version, member.name), (manifest, []))[1].append(extent)
    for (version, name), (manifest, extents) in by_member.items():
        yield Hurt(manifest.object, version, name, tuple(normalise(extents)))
