"""The comparison of two files' mappings, against a model that looks at every block on its own."""

from hypothesis import given
from hypothesis import strategies as st

from engine.device.base import Change, ChangeKind
from engine.device.fiemap import Mapped, compare

BLOCKS = 24
Place = int | None | str  # a block's place on disk; None: a hole; "?": mapped, at a place that cannot be told

places = st.lists(st.one_of(st.none(), st.just("?"), st.integers(0, 5)), min_size=BLOCKS, max_size=BLOCKS)


def mappings(blocks: list[Place], cuts: set[int]) -> list[Mapped]:
    """The blocks as extents that FIEMAP might give: neighbours with one shift share one, except at `cuts`."""
    found: list[Mapped] = []
    for index, place in enumerate(blocks):
        if place is None:
            continue
        shift = None if place == "?" else int(place) * BLOCKS
        last = found[-1] if found else None
        if last is not None and last.end == index and last.shift == shift and index not in cuts:
            found[-1] = Mapped(last.start, index + 1, shift)
        else:
            found.append(Mapped(index, index + 1, shift))
    return found


def expected(old: Place, new: Place, is_beyond: bool) -> ChangeKind | None:
    if new is None:
        return ChangeKind.HOLE if is_beyond or old is not None else None
    if is_beyond or "?" in (old, new) or old != new:
        return ChangeKind.CHANGED
    return None


def per_block(changes: list[Change]) -> dict[int, ChangeKind]:
    kinds: dict[int, ChangeKind] = {}
    for change in changes:
        for block in range(change.extent.start, change.extent.end):
            assert block not in kinds, f"block {block} is told twice"
            kinds[block] = change.kind
    return kinds


@given(places, places, st.sets(st.integers(0, BLOCKS)), st.sets(st.integers(0, BLOCKS)), st.data())
def test_the_comparison_tells_of_each_block_what_a_look_at_it_alone_tells(
    old: list[Place], new: list[Place], old_cuts: set[int], new_cuts: set[int], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, BLOCKS - 1))
    end = data.draw(st.integers(start + 1, BLOCKS))
    old_size = data.draw(st.integers(0, BLOCKS))

    changes = list(compare(mappings(old, old_cuts), mappings(new, new_cuts), start, end, old_size))

    wanted = {block: expected(old[block], new[block], block >= old_size) for block in range(start, end)}
    assert per_block(changes) == {block: kind for block, kind in wanted.items() if kind is not None}
    assert changes == sorted(changes, key=lambda change: change.extent)
