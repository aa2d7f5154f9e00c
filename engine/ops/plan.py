"""What a push must look at: regions of volumes, from an allocation map or from a delta."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from engine.device.base import Change, ChangeKind
from engine.extent import Extent, align, complement, normalise, split, subtract
from engine.repo.map import BLOCK, REGION, region_blocks
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """One region to cut. Ranges are blocks of the region, sorted and disjoint.

    `changed` is None when nothing is known of the region's earlier content: then it is cut in full.
    """

    region: int
    changed: tuple[range, ...] | None
    holes: tuple[range, ...]

    def certain_reads(self, blocks: int) -> list[Extent]:
        """Which bytes of the region, of so many blocks, are read whatever they are; around a change more may be."""
        wanted = (range(blocks),) if self.changed is None else self.changed
        return list(subtract(map(_extent, wanted), map(_extent, self.holes)))


def plan_full(allocated: Iterable[Extent], size: int) -> Iterator[RegionPlan]:
    """The regions of a volume that hold anything, from where it may hold anything but zeros."""
    for region, extents in by_region(allocated):
        yield RegionPlan(region, None, _outside(extents, region, size))


def plan_delta(changes: Iterable[Change], size: int, old_size: int) -> Iterator[RegionPlan]:
    """The regions that a delta touches, and the old last region when the volume has grown past its end.

    That one is cut in full: the end of a region is part of the rule.
    """
    grown = old_size // REGION if old_size < size and region_blocks(old_size, old_size // REGION) > 0 else None
    if grown is not None and region_blocks(old_size, grown) == region_blocks(size, grown):
        grown = None
    for region, touched in groupby(_split_changes(changes), key=lambda change: change.extent.start // REGION):
        if grown is not None and region >= grown:
            if region > grown:
                yield RegionPlan(grown, None, ())
            grown, full = None, region == grown
            if full:
                yield RegionPlan(region, None, ())
                continue
        yield _plan_changed(region, list(touched), size)
    if grown is not None:
        yield RegionPlan(grown, None, ())


def _plan_changed(region: int, changes: Sequence[Change], size: int) -> RegionPlan:
    start, blocks = region * REGION, region_blocks(size, region)
    inside = [Change(Extent(change.extent.start - start, change.extent.length), change.kind) for change in changes]
    touched = align((change.extent for change in inside), BLOCK)
    read = list(align((c.extent for c in inside if c.kind is ChangeKind.CHANGED), BLOCK))
    # A hole that ends inside a block says nothing of that block's other bytes; one that ends with the volume does.
    end = size - start
    holes = normalise(c.extent for c in inside if c.kind is ChangeKind.HOLE)
    whole = [shrunk for hole in holes if (shrunk := _shrink(hole, end, blocks)) is not None]
    return RegionPlan(
        region,
        tuple(_blocks(extent) for extent in touched),
        tuple(_blocks(extent) for extent in subtract(whole, read)),
    )


def _shrink(hole: Extent, end: int, blocks: int) -> Extent | None:
    first = -(-hole.start // BLOCK)
    last = blocks if hole.end >= end else hole.end // BLOCK
    return Extent(first * BLOCK, (last - first) * BLOCK) if last > first else None


def _split_changes(changes: Iterable[Change]) -> Iterator[Change]:
    for change in changes:
        for extent in split([change.extent], REGION):
            yield Change(extent, change.kind)


def by_region(extents: Iterable[Extent]) -> Iterator[tuple[int, list[Extent]]]:
    """The extents of each region that has any, cut at its borders; the input must be a normal sequence."""
    for region, group in groupby(split(extents, REGION), key=lambda extent: extent.start // REGION):
        yield region, list(group)


def _outside(extents: Iterable[Extent], region: int, size: int) -> tuple[range, ...]:
    start, blocks = region * REGION, region_blocks(size, region)
    inside = align((Extent(extent.start - start, extent.length) for extent in extents), BLOCK)
    return tuple(_blocks(extent) for extent in complement(inside, blocks * BLOCK))


def _extent(blocks: range) -> Extent:
    return Extent(blocks.start * BLOCK, len(blocks) * BLOCK)


def _blocks(extent: Extent) -> range:
    assert extent.start % BLOCK == 0
    return range(extent.start // BLOCK, -(-extent.end // BLOCK))
