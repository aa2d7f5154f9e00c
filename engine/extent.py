"""Byte ranges of a volume, and their algebra.

A sequence of extents is *normal* when it is sorted, and no two extents touch or overlap. The functions here take
normal sequences (except `normalise`) and give normal sequences, lazily, so that a volume of any size fits.
"""

from collections.abc import Iterable, Iterator

from engine.values import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """The half-open byte range [start, start + length) of a volume; never empty."""

    start: int
    length: int

    def __post_init__(self) -> None:
        assert self.start >= 0, f"extent starts at {self.start}"
        assert self.length > 0, f"extent of length {self.length}"

    @property
    def end(self) -> int:
        """The first byte after the extent."""
        return self.start + self.length


def between(start: int, end: int) -> Extent:
    """The extent [start, end)."""
    return Extent(start, end - start)


def total(extents: Iterable[Extent]) -> int:
    """The bytes that the extents cover."""
    return sum(extent.length for extent in extents)


def normalise(extents: Iterable[Extent]) -> list[Extent]:
    """The same bytes as a normal sequence, from extents in any order that may overlap."""
    return list(join(sorted(extents)))


def join(extents: Iterable[Extent]) -> Iterator[Extent]:
    """Merge extents that touch or overlap; the input must be sorted by start."""
    start = end = -1
    for extent in extents:
        assert extent.start >= start, "extents are not sorted"
        if extent.start <= end:
            end = max(end, extent.end)
            continue
        if end > start:
            yield between(start, end)
        start, end = extent.start, extent.end
    if end > start:
        yield between(start, end)


def clip(extents: Iterable[Extent], size: int) -> Iterator[Extent]:
    """What lies before byte `size`."""
    for extent in extents:
        if extent.start >= size:
            return
        yield extent if extent.end <= size else between(extent.start, size)


def align(extents: Iterable[Extent], granularity: int) -> Iterator[Extent]:
    """Grow each extent outward to whole multiples of `granularity`.

    A changed byte dirties its whole block, so reading the aligned range is always safe and reading the exact one is not.
    """

    def grown() -> Iterator[Extent]:
        for extent in extents:
            yield between(extent.start // granularity * granularity, -(-extent.end // granularity) * granularity)

    return join(grown())


def complement(extents: Iterable[Extent], size: int) -> Iterator[Extent]:
    """The bytes of [0, size) that no extent covers."""
    position = 0
    for extent in clip(extents, size):
        if extent.start > position:
            yield between(position, extent.start)
        position = extent.end
    if position < size:
        yield between(position, size)


def intersect(left: Iterable[Extent], right: Iterable[Extent]) -> Iterator[Extent]:
    """The bytes that both cover. The result may hold touching extents only if an input did."""
    lefts, rights = iter(left), iter(right)
    a, b = next(lefts, None), next(rights, None)
    while a is not None and b is not None:
        start, end = max(a.start, b.start), min(a.end, b.end)
        if start < end:
            yield between(start, end)
        if a.end < b.end:
            a = next(lefts, None)
        else:
            b = next(rights, None)


def subtract(left: Iterable[Extent], right: Iterable[Extent]) -> Iterator[Extent]:
    """The bytes of `left` that `right` does not cover."""
    rights = iter(right)
    hole = next(rights, None)
    for extent in left:
        position = extent.start
        while hole is not None and hole.end <= position:
            hole = next(rights, None)
        while hole is not None and hole.start < extent.end:
            if hole.start > position:
                yield between(position, hole.start)
            position = hole.end
            if position >= extent.end:
                break
            hole = next(rights, None)
        if position < extent.end:
            yield between(position, extent.end)


def union(left: Iterable[Extent], right: Iterable[Extent]) -> list[Extent]:
    """The bytes that either covers."""
    return normalise([*left, *right])


def split(extents: Iterable[Extent], stride: int) -> Iterator[Extent]:
    """The same bytes, cut at every multiple of `stride`."""
    for extent in extents:
        start = extent.start
        while start < extent.end:
            end = min(extent.end, start // stride * stride + stride)
            yield between(start, end)
            start = end
