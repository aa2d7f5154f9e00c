"""What a repository lacks: packs held against the index, the versions against both (rok-repository(5), DAMAGE).

A chunk counts as lost when two complete looks miss it, each of which lists index and packs anew, the packs last: so a push, a
forget or a collection that runs meanwhile is taken for no damage.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime

import numpy as np

from engine.errors import Damaged, NotFound, Refused
from engine.extent import Extent, normalise
from engine.progress import Progress
from engine.repo.condemnation import Condemnation, given_up, survey_condemnations
from engine.repo.examine import Depth, Examined, examine
from engine.repo.index import Index
from engine.repo.manifest import Manifest, Member
from engine.repo.map import BLOCK, PAGE, PAGE_REGIONS, REGION, ZEROS, page_count
from engine.repo.naming import ObjectName
from engine.repo.pack import PackName
from engine.repo.reader import Missing, Reader
from engine.repo.repository import Repository
from engine.repo.sample import EVERYTHING, Portion, Sample
from engine.repo.stated import Believed, Stated
from engine.values import dataclass

DepthOf = Callable[[PackName], Depth]


@dataclass(frozen=True, slots=True)
class Hurt:
    """A member of a version that cannot be restored in whole, and which of its extents are lost."""

    object: ObjectName
    version: str
    member: str
    extents: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What one look found: packs and their sizes, and what segments, records of condemnation and packs say.

    `index` is over all that can be read, by the packs' own directories where those were read; `absent` over what is stated
    of packs that are gone, unreadable, or given up.
    """

    sizes: Mapping[PackName, int]
    stated: Stated
    believed: Believed
    condemned: Sequence[Condemnation]
    unreadable_condemnations: Mapping[str, Damaged]
    index: Index
    absent: Index

    def false_statements(self, examined: Examined) -> dict[str, list[PackName]]:
        """By segment: the packs that are there, and whose own directory says something else."""
        false: dict[str, list[PackName]] = {}
        for segment, statements in self.stated.segments.items() if examined.said else ():
            for statement in statements:
                truth = examined.said.get(statement.pack)
                if truth not in (None, (statement.size, statement.said)) and statement.pack in self.sizes:
                    false.setdefault(segment, []).append(statement.pack)
        return false


@dataclass(slots=True)
class Diagnosis:
    """What is there, what is wrong with it, and what that costs: the extents that are lost, by the blob that lost them."""

    contents: Contents
    examined: Examined
    losses: Mapping[str, Sequence[Hurt]]
    unattributed: Mapping[str, int] = field(default_factory=dict)  # chunks that no pack is known to have held, by blob

    @property
    def hurt(self) -> list[Hurt]:
        """The members of versions that lost something, whatever blob it was in."""
        merged: dict[tuple[str, str], list[Hurt]] = {}
        for hurts in self.losses.values():
            for hurt in hurts:
                merged.setdefault((hurt.version, hurt.member), []).append(hurt)
        return [
            Hurt(parts[0].object, version, member, tuple(normalise(e for part in parts for e in part.extents)))
            for (version, member), parts in merged.items()
        ]


def diagnose(
    repository: Repository, manifests: Sequence[Manifest], depth_of: DepthOf, progress: Progress, workers: int
) -> Diagnosis:
    """Look at all packs as closely as is asked, and at every map of the versions; twice where something is missing.

    Memory: the tables of the node's cache, which are mapped (24 bytes for each chunk), and a pack for each worker that reads
    whole ones.
    """
    examined = Examined()
    contents = look(repository, examined, depth_of, progress, workers)
    walk = _Walk(repository, contents, examined)
    walk.go_through(manifests)
    if walk.hurt_versions:
        hurt = [manifest for manifest in manifests if manifest.version in walk.hurt_versions]
        del contents, walk  # the second look needs as much memory as the first
        contents = look(repository, examined, depth_of, progress, workers)
        walk = _Walk(repository, contents, examined)
        walk.go_through(_still_committed(repository, hurt))
    return Diagnosis(contents, examined, walk.losses(), walk.unattributed)


def portion_to_read(repository: Repository, read_data: Sample | bool) -> Portion | None:
    """The packs whose every byte is to be read now; None for none of them."""
    if isinstance(read_data, bool):
        return EVERYTHING if read_data else None
    return read_data.portion(time_now(repository), sum(repository.catalog.pack_sizes().values()))


def time_now(repository: Repository) -> datetime:
    """By the store's clock; by this node's where the store shows its own only to who may write, as a directory does."""
    try:
        return repository.store.now()
    except Refused:
        return repository.clock.now()


def depths(portion: Portion | None, otherwise: Depth) -> DepthOf:
    """How closely to look at each pack: at all of those of the portion, at the others as is said."""
    return lambda name: Depth.RECORDS if portion is not None and name in portion else otherwise


def _still_committed(repository: Repository, manifests: Iterable[Manifest]) -> Iterator[Manifest]:
    for manifest in manifests:
        try:
            yield repository.manifest(manifest.version)
        except (NotFound, Damaged):
            continue  # forgotten since it was listed; or damaged since, which the next check finds


def look(repository: Repository, examined: Examined, depth_of: DepthOf, progress: Progress, workers: int) -> Contents:
    """One complete look: condemnations, then segments, then the packs, and what the packs say that were not looked at yet."""
    condemned, unreadable = survey_condemnations(repository)
    stated = repository.catalog.verified()
    sizes = repository.catalog.pack_sizes()
    believed = stated.believed({str(name): size for name, size in sizes.items()})
    lost = given_up(condemned)
    tasks = dict(_tasks({name: size for name, size in sizes.items() if name not in lost}, believed, examined, depth_of))
    whole = sum(size for size, depth in tasks.values() if depth is Depth.RECORDS)
    progress.begin("checking", whole or None)
    try:
        examined.include(examine(repository, tasks, believed, progress, workers))
    finally:
        progress.end()
    own = {name: facts for name, facts in examined.facts.items() if name in sizes and name not in lost}
    usable = believed.without({str(name) for name in lost | examined.facts.keys()})
    absent = stated.rest(usable.packs | {str(name) for name in own})
    untold = [(name, sizes[name]) for name in sorted(lost & sizes.keys() - stated.packs)]
    return Contents(
        sizes,
        stated,
        believed,
        condemned,
        unreadable,
        index=Index.over(usable.tables, list(own.values())),
        absent=Index.over(absent, list(filter(None, repository.concurrently(repository.catalog.read_facts, untold)))),
    )


def _tasks(
    sizes: Mapping[PackName, int], believed: Believed, examined: Examined, depth_of: DepthOf
) -> Iterator[tuple[PackName, tuple[int, Depth]]]:
    """The packs to look at, and how closely: none of whose facts are known, unless more is asked for."""
    for name, size in sizes.items():
        depth = Depth.FACTS if name in examined.read else depth_of(name)
        said = examined.said.get(name)
        is_known = name in examined.facts or (
            str(name) in believed.packs if said is None else said == believed.said(name)
        )
        if depth is not Depth.FACTS or not (is_known or (name in examined.read and name in examined.unreadable)):
            yield name, (size, depth)


class _Walk:
    """Goes through the maps of versions, and notes what they need and nothing gives."""

    def __init__(self, repository: Repository, contents: Contents, examined: Examined) -> None:
        self._repository, self._index, self._absent = repository, contents.index, contents.absent
        self._bad, self._misled = examined.bad, _misled(contents, examined)
        self._suspects = {pack for pack, _ in self._bad} | self._misled.keys()
        self._reader: Reader = repository.reader(contents.index)
        self._sound: set[bytes] = set()  # region maps all of whose chunks are good: most versions share most of theirs
        self._notes: dict[str, list[tuple[Manifest, Member, Extent]]] = {}  # by blob
        self.hurt_versions: set[str] = set()
        self.unattributed: dict[str, int] = {}

    def go_through(self, manifests: Iterable[Manifest]) -> None:
        for manifest in manifests:
            for member in manifest.members:
                if member.root != ZEROS:
                    self._member(manifest, member)

    def losses(self) -> dict[str, list[Hurt]]:
        return {blob: list(_hurt(notes)) for blob, notes in self._notes.items()}

    def _member(self, manifest: Manifest, member: Member) -> None:
        everything = Extent(0, member.size)
        try:
            pages = self._reader.pages(member.root, member.size)
        except Missing:
            self._note(manifest, member, member.root, everything)
            return
        if self._is_hidden(member.root):
            self._note(manifest, member, member.root, everything)
        assert len(pages) == page_count(member.size)
        for number, page in enumerate(pages):
            if page != ZEROS:
                self._page(manifest, member, number, page)

    def _page(self, manifest: Manifest, member: Member, number: int, page: bytes) -> None:
        start = number * PAGE
        extent = Extent(start, min(PAGE, member.size - start))
        try:
            regions = self._reader.regions(page, number, member.size)
        except Missing:
            self._note(manifest, member, page, extent)
            return
        if self._is_hidden(page):
            self._note(manifest, member, page, extent)
        first = number * PAGE_REGIONS
        unseen = [(first + at, one) for at, one in enumerate(regions) if one != ZEROS and one not in self._sound]
        if self._are_sound(member, unseen):
            self._sound.update(reference for _, reference in unseen)
            return
        for region, reference in unseen:
            if reference not in self._sound:
                self._region(manifest, member, region, reference)

    def _are_sound(self, member: Member, regions: Sequence[tuple[int, bytes]]) -> bool:
        """Is all of so many regions there, and in packs that nothing is wrong with? Asks for all at once, which is many times
        faster; where it is not, one by one has to be found out what is lost.
        """
        ahead = self._reader.ahead(regions, lambda region: (region[1],))
        try:
            chunks = [self._reader.region_chunks(reference, number, member.size) for number, reference in ahead]
        except Missing:
            return False
        places = self._index.find_many(b"".join([*(reference for _, reference in regions), *chunks]))
        if (places.packs < 0).any():
            return False
        return not self._suspects or self._suspects.isdisjoint(map(self._index.pack, np.unique(places.packs).tolist()))

    def _region(self, manifest: Manifest, member: Member, number: int, reference: bytes) -> None:
        start = number * REGION
        extent = Extent(start, min(REGION, member.size - start))
        try:
            entries = self._reader.region(reference, number, member.size)
        except Missing:
            self._note(manifest, member, reference, extent)
            return
        sound = not self._is_hidden(reference)
        if not sound:
            self._note(manifest, member, reference, extent)
        for entry in entries:
            if not entry.is_hole and (not self._is_there(entry.chunk) or self._is_hidden(entry.chunk)):
                sound = False
                first = start + entry.start * BLOCK
                length = min(entry.blocks * BLOCK, member.size - first)
                self._note(manifest, member, entry.chunk, Extent(first, length))
        if sound:
            self._sound.add(reference)

    def _is_there(self, reference: bytes) -> bool:
        if not self._bad:
            return self._index.find(reference) is not None
        return any((place.pack, place.offset) not in self._bad for place in self._index.find_all(reference))

    def _is_hidden(self, reference: bytes) -> bool:
        """Is it where no reader looks, because segments say something else of every pack that holds it?"""
        return bool(self._misled) and all(
            place.pack in self._misled
            and (reference, place.offset, place.length) not in self._misled[place.pack].places
            for place in self._index.find_all(reference)
        )

    def _note(self, manifest: Manifest, member: Member, reference: bytes, extent: Extent) -> None:
        blob = self._blamed(reference)
        if blob is None:
            blob = f"versions/{manifest.version}"
            self.unattributed[blob] = self.unattributed.get(blob, 0) + 1
        self._notes.setdefault(blob, []).append((manifest, member, extent))
        self.hurt_versions.add(manifest.version)

    def _blamed(self, reference: bytes) -> str | None:
        """The blob that should give it and does not."""
        for place in self._index.find_all(reference):
            misled = self._misled.get(place.pack)
            return f"index/{misled.segment}" if misled else place.pack.key
        absent = self._absent.find(reference)
        return absent.pack.key if absent else None


@dataclass(frozen=True, slots=True)
class _Misled:
    """A pack of which readers believe something false: the segment that says it, and where they look for what."""

    segment: str
    places: Collection[tuple[bytes, int, int]]


def _misled(contents: Contents, examined: Examined) -> dict[PackName, _Misled]:
    misled = {}
    for segment, packs in contents.false_statements(examined).items():
        for name in packs:
            believed = contents.believed.facts(name)  # readers know that the others are in dispute, and ask the pack
            if believed is not None and contents.believed.said(name) != examined.said[name]:
                places = {(bytes(record.chunk), record.offset, record.length) for record in believed.records()}
                misled[name] = _Misled(segment, places)
    return misled


def _hurt(notes: Iterable[tuple[Manifest, Member, Extent]]) -> Iterator[Hurt]:
    by_member: dict[tuple[str, str], tuple[Manifest, list[Extent]]] = {}
    for manifest, member, extent in notes:
        by_member.setdefault((manifest.version, member.name), (manifest, []))[1].append(extent)
    for (version, name), (manifest, extents) in by_member.items():
        yield Hurt(manifest.object, version, name, tuple(normalise(extents)))
