"""What it takes to make a volume hold a member of a version, region by region: from nothing, from anything, or from a base."""

from collections.abc import Iterable, Iterator, Sequence

from engine.extent import Extent, between, split, subtract
from engine.ops.plan import by_region
from engine.repo.manifest import Member
from engine.repo.map import BLOCK, REGION, ZEROS, Entry, hole_region, region_blocks
from engine.repo.reader import Reader
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class RegionTask:
    """One region to bring to `wanted`: entries to write, and extents of the volume to make zeros."""

    region: int
    write: Sequence[Entry]
    discard: Sequence[Extent]


def regions_of(reader: Reader, member: Member) -> Iterator[tuple[int, bytes]]:
    """All regions of a member, their numbers and references, whose maps have been read ahead."""
    regions = enumerate(reader.all_regions(member.root, member.size))
    return reader.ahead(regions, lambda region: (region[1],))


def fresh_tasks(reader: Reader, member: Member) -> Iterator[RegionTask]:
    """For a target that reads as zeros."""
    for number, reference in regions_of(reader, member):
        if reference != ZEROS:
            entries = reader.region(reference, number, member.size)
            yield RegionTask(number, [entry for entry in entries if not entry.is_hole], ())


def overwrite_tasks(reader: Reader, member: Member, target_size: int) -> Iterator[RegionTask]:
    """For a target of which nothing is known."""
    for number, reference in regions_of(reader, member):
        entries = reader.region(reference, number, member.size)
        holes = [extent_of(number, entry, target_size) for entry in entries if entry.is_hole]
        yield RegionTask(number, [entry for entry in entries if not entry.is_hole], holes)
    yield from _discard_beyond(member.size, target_size)


def _discard_beyond(size: int, target_size: int) -> Iterator[RegionTask]:
    """A volume may be larger than the version: then its end reads as zeros."""
    start = -(-size // BLOCK) * BLOCK
    if start < target_size:
        for extent in split([between(start, target_size)], REGION):
            yield RegionTask(extent.start // REGION, (), [extent])


def difference_tasks(
    reader: Reader, member: Member, base: Member, touched: Iterable[Extent], target_size: int
) -> Iterator[RegionTask]:
    """For a target that holds `base`, but for what was `touched` since: blocks, as a normal sequence."""
    differing = _differing(reader, member, base, touched)
    for region in reader.ahead(differing, lambda region: (region.before, region.wanted)):
        number, size = region.number, member.size
        if region.before != ZEROS:
            old = reader.region(region.before, number, base.size)
        else:
            old = hole_region(region_blocks(size, number))
        new = reader.region(region.wanted, number, size)
        yield _difference(number, new, old, region.touched, target_size)
    yield from _discard_beyond(member.size, target_size)


@dataclass(frozen=True, slots=True)
class _Differing:
    """A region that may hold something else than is wanted: the references of its map, and what was touched in it."""

    number: int
    before: bytes
    wanted: bytes
    touched: Sequence[Extent]


def _differing(reader: Reader, member: Member, base: Member, touched: Iterable[Extent]) -> Iterator[_Differing]:
    present = reader.all_regions(base.root, base.size)
    local = by_region(touched)
    changed_region, changed = next(local, (None, []))
    for number, wanted in enumerate(reader.all_regions(member.root, member.size)):
        before = next(present, ZEROS)
        here: list[Extent] = []
        if changed_region == number:
            here = changed
            changed_region, changed = next(local, (None, []))
        same_length = region_blocks(member.size, number) == _blocks_then(base.size, number)
        if wanted != before or here or not (same_length or wanted == ZEROS):
            yield _Differing(number, before, wanted, here)


def _blocks_then(size: int, region: int) -> int:
    return max(0, region_blocks(size, region))


def _difference(
    region: int, new: Sequence[Entry], old: Sequence[Entry], touched: Sequence[Extent], target_size: int
) -> RegionTask:
    same = {(entry.start, entry.blocks, entry.chunk) for entry in old if not entry.is_hole}
    dirty = [(e.start - region * REGION, e.end - region * REGION) for e in touched]

    def unchanged(entry: Entry) -> bool:
        start, end = entry.start * BLOCK, (entry.start + entry.blocks) * BLOCK
        return (entry.start, entry.blocks, entry.chunk) in same and not any(
            first < end and last > start for first, last in dirty
        )

    still_zeros = subtract([extent_of(region, entry, target_size) for entry in old if entry.is_hole], touched)
    holes = [extent_of(region, entry, target_size) for entry in new if entry.is_hole]
    return RegionTask(
        region,
        [entry for entry in new if not entry.is_hole and not unchanged(entry)],
        list(subtract(holes, still_zeros)),
    )


def extent_of(region: int, entry: Entry, size: int) -> Extent:
    """Where an entry lies in the volume; a last short block ends with the volume."""
    start = region * REGION + entry.start * BLOCK
    return between(start, min(start + entry.blocks * BLOCK, size))
