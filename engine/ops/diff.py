"""What changed on a volume between two of its snapshots, or since one."""

import heapq
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Final

from engine.device.base import Change, ChangeKind, Pool, Source, join_changes
from engine.extent import Extent, align, between, clip, intersect, join, subtract
from engine.units import KIB, MIB
from engine.values import dataclass

_STEP: Final = MIB
_GRAIN: Final = 4 * KIB  # the unit of a comparison byte by byte: what most filesystems write


@dataclass(frozen=True, slots=True)
class DiffReport:
    """How much changed from snapshot `old` to `new` (None: the volume as it is), in bytes and in extents."""

    volume: str
    old: str
    new: str | None
    changed: int
    changed_extents: int
    holes: int
    hole_extents: int
    was_read: bool  # the pool cannot tell what changed, so all that is allocated was read and compared


def snapshot_diff(
    pool: Pool, volume: str, old: str, new: str | None, *, listen: Callable[[Change], object] = lambda _: None
) -> DiffReport:
    """Sum up what changed, telling `listen` each change on the way. Raises NotFound. `snapshot_changes` says what it costs."""
    count = {ChangeKind.CHANGED: 0, ChangeKind.HOLE: 0}
    size = {ChangeKind.CHANGED: 0, ChangeKind.HOLE: 0}
    changes, was_read = _changes(pool, volume, old, new)
    with closing(changes):
        for change in changes:
            count[change.kind] += 1
            size[change.kind] += change.extent.length
            listen(change)
    return DiffReport(
        volume=volume,
        old=old,
        new=new,
        changed=size[ChangeKind.CHANGED],
        changed_extents=count[ChangeKind.CHANGED],
        holes=size[ChangeKind.HOLE],
        hole_extents=count[ChangeKind.HOLE],
        was_read=was_read,
    )


def snapshot_changes(pool: Pool, volume: str, old: str, new: str | None) -> Generator[Change, None, None]:
    """The extents that changed, as `Pool.delta` gives them. It holds resources until it ends or is closed.

    Where the pool cannot tell, both are read and compared in steps of 4 KiB, wherever one of them is allocated.
    """
    return _changes(pool, volume, old, new)[0]


def _changes(pool: Pool, volume: str, old: str, new: str | None) -> tuple[Generator[Change, None, None], bool]:
    told = pool.delta(volume, old, new)
    if told is not None:
        return told, False
    return join_changes(_compared(pool, volume, old, new)), True


def _compared(pool: Pool, volume: str, old: str, new: str | None) -> Iterator[Change]:
    """By content. Touching changes are not merged."""
    with pool.open_source(volume, old) as before, pool.open_source(volume, new) as after:
        common = min(before.size, after.size)
        either = join(heapq.merge(pool.allocated(volume, old), pool.allocated(volume, new)))
        for extent in clip(align(either, _GRAIN), common):
            places = range(extent.start, extent.end, _STEP)
            for start, old_body, new_body in zip(places, _bodies(before, extent), _bodies(after, extent), strict=True):
                yield from _differing(start, old_body, new_body)
        if after.size > common:
            yield from _grown(between(common, after.size), list(pool.allocated(volume, new)))


def _bodies(source: Source, extent: Extent) -> Iterator[bytearray]:
    """What an extent holds, _STEP bytes at a time, each in the memory of the one before. Meanwhile the disk reads the next."""
    body = bytearray(min(_STEP, extent.length))
    for start in range(extent.start, extent.end, _STEP):
        end = min(start + _STEP, extent.end)
        del body[end - start :]
        source.read_into(start, memoryview(body))
        if end < extent.end:
            source.expect(between(end, min(end + _STEP, extent.end)))
        yield body


def _differing(start: int, before: bytearray, after: bytearray) -> Iterator[Change]:
    if before == after:
        return
    for position in range(0, len(after), _GRAIN):
        grain = after[position : position + _GRAIN]
        if before[position : position + _GRAIN] != grain:
            kind = ChangeKind.CHANGED if any(grain) else ChangeKind.HOLE
            yield Change(Extent(start + position, len(grain)), kind)


def _grown(part: Extent, allocated: list[Extent]) -> Iterator[Change]:
    """What lies beyond the end of the older one: all of it counts, as `Pool.delta` says."""
    changed = [Change(extent, ChangeKind.CHANGED) for extent in intersect([part], allocated)]
    holes = [Change(extent, ChangeKind.HOLE) for extent in subtract([part], allocated)]
    yield from sorted(changed + holes, key=lambda change: change.extent)
