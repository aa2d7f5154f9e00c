"""The comparison of two files' mappings, against a model that looks at every block on its own."""

from hypothesis import given
from hypothesis import strategies as st

from engine.device.base import Change, ChangeKind
from engine.device.fiemap import Mapped, Page, Pages, changes_of_pages, compare

BLOCKS = 24
Place = int | None | str  # a block's place on disk; None: a hole; "?": mapped, at a place that cannot be told

runs = st.lists(st.tuples(st.one_of(st.none(), st.just("?"), st.integers(0, 5)), st.integers(1, 9)), min_size=1)


@st.composite
def two_files(draw: st.DrawFn) -> tuple[list[Place], list[Place]]:
    """The old file in runs; the new one is the old with some stretches replaced."""
    old = [place for place, length in draw(runs) for _ in range(length)][:BLOCKS]
    old += [None] * (BLOCKS - len(old))
    new = list(old)
    for place, length in draw(runs):
        start = draw(st.integers(0, BLOCKS - 1))
        new[start : start + length] = [place] * len(new[start : start + length])
    return old, new


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


@given(two_files(), st.sets(st.integers(0, BLOCKS)), st.sets(st.integers(0, BLOCKS)), st.data())
def test_the_comparison_tells_of_each_block_what_a_look_at_it_alone_tells(
    files: tuple[list[Place], list[Place]], old_cuts: set[int], new_cuts: set[int], data: st.DataObject
) -> None:
    old, new = files
    start = data.draw(st.integers(0, BLOCKS - 1))
    end = data.draw(st.integers(start + 1, BLOCKS))
    old_size = data.draw(st.integers(0, BLOCKS))

    changes = list(compare(mappings(old, old_cuts), mappings(new, new_cuts), start, end, old_size))

    wanted = {block: expected(old[block], new[block], block >= old_size) for block in range(start, end)}
    assert per_block(changes) == {block: kind for block, kind in wanted.items() if kind is not None}
    assert changes == sorted(changes, key=lambda change: change.extent)


def pages(mapped: list[Mapped], limit: int) -> Pages:
    """How FIEMAP pages: `limit` extents a page, the first of which may begin before it."""

    def page(position: int) -> Page:
        left = [extent for extent in mapped if extent.end > position]
        return Page(left[:limit], min(left[limit - 1].end, BLOCKS) if len(left) >= limit else BLOCKS)

    return page


@given(two_files(), st.integers(1, 4), st.integers(1, 4), st.integers(0, BLOCKS))
def test_pages_of_any_size_tell_the_same_as_the_whole(
    files: tuple[list[Place], list[Place]], old_limit: int, new_limit: int, old_size: int
) -> None:
    before, after = (mappings(blocks, set()) for blocks in files)
    whole = compare(before, after, 0, BLOCKS, old_size)
    paged = changes_of_pages(pages(before, old_limit), pages(after, new_limit), old_size, BLOCKS)
    assert per_block(list(paged)) == per_block(list(whole))


def test_a_page_that_moved_while_it_was_compared_is_looked_at_again() -> None:
    """A defragmenter moves the old file's block from place 1 to 2, and the new file's block takes place 1."""
    looks = [Page([Mapped(0, 1, 1)], 1), Page([Mapped(0, 1, 2)], 1)]

    def old(_position: int) -> Page:
        return looks.pop(0) if len(looks) > 1 else looks[0]

    found = list(changes_of_pages(old, lambda _position: Page([Mapped(0, 1, 1)], 1), 1, 1))
    assert [change.kind for change in found] == [ChangeKind.CHANGED]
