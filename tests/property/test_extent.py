"""The algebra of extents, against sets of bytes."""

from collections.abc import Iterable, Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.extent import (
    Extent,
    align,
    between,
    clip,
    complement,
    intersect,
    join,
    normalise,
    subtract,
    total,
    union,
)

SIZE = 200  # of the volume in these tests

extents = st.builds(Extent, st.integers(0, SIZE - 1), st.integers(1, 40))
any_extents = st.lists(extents, max_size=12)
byte_sets = st.one_of(
    st.sets(st.integers(0, SIZE - 1)),
    any_extents.map(lambda extents: bytes_of(extents)),
)


def bytes_of(extents: Iterable[Extent]) -> set[int]:
    return {byte for extent in extents for byte in range(extent.start, extent.end)}


def extents_of(covered: set[int]) -> list[Extent]:
    """The normal sequence of extents that covers these bytes."""
    starts = sorted(byte for byte in covered if byte - 1 not in covered)
    ends = sorted(byte + 1 for byte in covered if byte + 1 not in covered)
    return [between(start, end) for start, end in zip(starts, ends, strict=True)]


def test_an_extent_is_half_open():
    extent = between(3, 10)

    assert (extent.start, extent.length, extent.end) == (3, 7, 10)


@pytest.mark.parametrize(("start", "length"), [(-1, 5), (0, 0), (5, -1)])
def test_an_extent_is_neither_empty_nor_before_the_volume(start, length):
    with pytest.raises(AssertionError):
        Extent(start, length)


def test_extents_sort_by_where_they_start():
    assert sorted([Extent(5, 2), Extent(0, 9), Extent(3, 3)]) == [Extent(0, 9), Extent(3, 3), Extent(5, 2)]


@given(byte_sets)
def test_total_counts_bytes(covered):
    assert total(extents_of(covered)) == len(covered)


@given(any_extents)
def test_normalise_covers_the_same_bytes(extents):
    assert normalise(extents) == extents_of(bytes_of(extents))


@given(any_extents)
def test_join_merges_what_is_sorted(extents):
    assert list(join(sorted(extents))) == extents_of(bytes_of(extents))


def test_join_refuses_what_is_not_sorted():
    with pytest.raises(AssertionError, match="not sorted"):
        list(join([Extent(5, 1), Extent(2, 1)]))


@given(byte_sets, st.integers(0, SIZE + 50))
def test_clip_leaves_what_lies_before(covered, size):
    assert list(clip(extents_of(covered), size)) == extents_of({byte for byte in covered if byte < size})


@given(byte_sets, st.integers(1, 70))
def test_align_covers_every_block_that_is_touched(covered, granularity):
    touched = {byte // granularity for byte in covered}
    blocks = {byte for number in touched for byte in range(number * granularity, (number + 1) * granularity)}

    assert list(align(extents_of(covered), granularity)) == extents_of(blocks)


@given(byte_sets, st.integers(0, SIZE + 50))
def test_complement_is_the_rest(covered, size):
    assert list(complement(extents_of(covered), size)) == extents_of(set(range(size)) - covered)


@given(byte_sets, byte_sets)
def test_intersect_is_what_both_cover(left, right):
    assert list(intersect(extents_of(left), extents_of(right))) == extents_of(left & right)


@given(byte_sets, byte_sets)
def test_subtract_is_what_only_the_first_covers(left, right):
    assert list(subtract(extents_of(left), extents_of(right))) == extents_of(left - right)


@given(byte_sets, byte_sets)
def test_union_is_what_either_covers(left, right):
    assert union(extents_of(left), extents_of(right)) == extents_of(left | right)


@given(byte_sets, byte_sets)
def test_the_parts_of_a_volume_make_the_whole(left, right):
    left_extents, right_extents = extents_of(left), extents_of(right)
    parts = [
        *intersect(left_extents, right_extents),
        *subtract(left_extents, right_extents),
        *subtract(right_extents, left_extents),
        *complement(union(left_extents, right_extents), SIZE * 2),
    ]

    assert total(parts) == SIZE * 2
    assert normalise(parts) == [Extent(0, SIZE * 2)]


def endless(start: int = 0) -> Iterator[Extent]:
    return (Extent(position, 2) for position in count(start, 4))


@pytest.mark.parametrize(
    ("lazy", "first"),
    [
        (lambda: join(endless()), Extent(0, 2)),
        (lambda: clip(endless(), 10**30), Extent(0, 2)),
        (lambda: align(endless(), 2), Extent(0, 2)),
        (lambda: complement(endless(), 10**30), Extent(2, 2)),
        (lambda: intersect(endless(), endless(1)), Extent(1, 1)),
        (lambda: subtract(endless(), endless(1)), Extent(0, 1)),
    ],
    ids=["join", "clip", "align", "complement", "intersect", "subtract"],
)
def test_extents_are_taken_as_they_are_needed(lazy, first):
    assert next(lazy()) == first


def test_what_follows_the_end_of_the_result_is_not_taken():
    assert list(clip(endless(), 5)) == [Extent(0, 2), Extent(4, 1)]
    assert list(complement(endless(), 5)) == [Extent(2, 2)]
    assert list(intersect([Extent(0, 6)], endless())) == [Extent(0, 2), Extent(4, 2)]
    assert list(subtract([Extent(0, 6)], endless())) == [Extent(2, 2)]
