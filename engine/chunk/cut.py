"""Where chunks begin and end: one region of a volume as chunks and holes, in full or only where it changed.

A region is at most 64 MiB, counted here in blocks of 4 KiB. What `cut` gives is a function of the region's bytes and the
seed alone, and `recut` gives the same from an older map and what changed since. The rule itself is in `rule`.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, TypeVar

import numpy as np

from engine.chunk.grid import BLOCK, REGION_BLOCKS
from engine.chunk.rule import AHEAD, BEHIND, LONGEST, Borders, Flags
from engine.chunk.window import Window
from engine.values import dataclass

__all__ = ["BLOCK", "REGION_BLOCKS", "Fresh", "Hole", "Kept", "Read", "Window", "cut", "recut"]

SMALLEST_WINDOW: Final = LONGEST + BEHIND + AHEAD + 2  # blocks: a longest chunk, and what is looked at around its end
WORTH_SKIPPING: Final = 16  # blocks: to read over a shorter hole of the old map is cheaper than to read twice

Read = Callable[[int, memoryview], None]
"""Fill the view with the region's bytes from this byte offset on; both are whole blocks.

A volume that ends within a block is read as if zeros followed.
"""


@dataclass(frozen=True, slots=True)
class Hole:
    """Blocks that are all zero, and are not stored; those before and after it are not."""

    start: int  # in blocks, from the start of the region
    blocks: int


@dataclass(frozen=True, slots=True)
class Fresh:
    """A chunk as it was read. `body` may be used until the next step of the iterator, and is released then."""

    start: int  # in blocks, from the start of the region
    blocks: int
    body: memoryview


@dataclass(frozen=True, slots=True)
class Kept:
    """A chunk of the old map that stays as it is: entry number `entry` of it."""

    start: int  # in blocks, from the start of the region
    blocks: int
    entry: int


Piece = TypeVar("Piece", bound=Fresh | Kept)


def cut(read: Read, blocks: int, seed: int, window: Window, holes: Iterable[range] = ()) -> Iterator[Hole | Fresh]:
    """The chunks and holes of a region of so many blocks, in order and without gaps.

    `holes` are ranges of blocks that are known to be zero: they are not read. What `read` raises passes through. The
    window serves one iterator at a time, the one made last.
    """
    return _hand_out(_cut(_Scan(read, blocks, seed, window, _mark(holes, blocks)), blocks))


def recut(
    read: Read,
    blocks: int,
    seed: int,
    window: Window,
    old: Sequence[tuple[int, bool]],
    changed: Iterable[range],
    holes: Iterable[range] = (),
) -> Iterator[Hole | Fresh | Kept]:
    """The chunks and holes that `cut` would give, reading only near the change, and naming the chunks that stay.

    `old` is what `cut` or `recut` gave with this seed when the region, of the same size, was as it was: each entry as
    (blocks, is a hole). `changed` are the ranges of blocks that may differ since. `holes` are as for `cut`; where they
    were no holes before, they need not be in `changed`. Long holes of `old` outside `changed` are not read either.
    """
    bounds = list(accumulate((entry_blocks for entry_blocks, _ in old), initial=0))
    assert bounds[-1] == blocks, f"the old map covers {bounds[-1]} blocks, and the region has {blocks}"
    old_holes, long_old_holes = _old_holes(old, bounds, 1), _old_holes(old, bounds, WORTH_SKIPPING)
    holes_now, differs = _mark(holes, blocks), _mark(changed, blocks)
    scan = _Scan(read, blocks, seed, window, holes_now | (long_old_holes & ~differs))
    changes = _marked(differs | (holes_now & ~old_holes))
    return _hand_out(_recut(scan, old, bounds, deque(changes)))


def _old_holes(old: Sequence[tuple[int, bool]], bounds: list[int], shortest: int) -> Flags:
    holes = (range(*bounds[i : i + 2]) for i, (blocks, is_hole) in enumerate(old) if is_hole and blocks >= shortest)
    return _mark(holes, bounds[-1])


def _cut(scan: "_Scan", blocks: int) -> Iterator[Hole | Fresh]:
    position = 0
    while position < blocks:
        piece = scan.piece(position, blocks)
        yield piece
        position += piece.blocks


def _recut(
    scan: "_Scan", old: Sequence[tuple[int, bool]], bounds: list[int], changes: deque[range]
) -> Iterator[Hole | Fresh | Kept]:
    """Keep what stays; cut anew from the last old boundary before the decisions that a change affects.

    Why that is exact: whether a chunk that starts at p may end at q > p is decided by p and the blocks q - BEHIND to
    q + AHEAD. So a change of the blocks [c, d) affects the decisions from c - AHEAD to d - 1 + BEHIND, and an old
    boundary before them is one of the new content too.
    """
    kept = 0
    while changes:
        first = max(kept, bisect_left(bounds, changes[0].start - AHEAD) - 1)
        yield from _keep(old, bounds, kept, first)
        end = yield from _cut_anew(scan, bounds, bounds[first], changes)
        kept = bisect_left(bounds, end)
    yield from _keep(old, bounds, kept, len(old))


def _cut_anew(
    scan: "_Scan", bounds: list[int], start: int, changes: deque[range]
) -> Generator[Hole | Fresh, None, int]:
    """Cut from `start` to a boundary of old and new content that no decision affected by a change comes after.

    All that follows such a boundary is equal. The first common boundary after the changed blocks would not do: a
    decision beyond it may look back at them. Takes from `changes` all that it passes; returns the boundary.
    """
    scan.jump(start)
    position, stop = start, changes[0].start
    while True:
        while changes and changes[0].start - AHEAD <= stop:
            stop = _boundary(bounds, max(position, changes.popleft().stop - 1 + BEHIND))
        if position == stop:
            return position
        piece = scan.piece(position, stop + AHEAD + 1)
        yield piece
        position += piece.blocks
        if position > stop:
            stop = _boundary(bounds, position)


def _boundary(bounds: list[int], block: int) -> int:
    """The first old boundary that is not before `block`, or else the end of the region."""
    return bounds[min(bisect_left(bounds, block), len(bounds) - 1)]


def _keep(old: Sequence[tuple[int, bool]], bounds: list[int], first: int, end: int) -> Iterator[Hole | Kept]:
    for entry in range(first, end):
        blocks, is_hole = old[entry]
        yield Hole(bounds[entry], blocks) if is_hole else Kept(bounds[entry], blocks, entry)


def _hand_out(pieces: Iterable[Hole | Piece]) -> Iterator[Hole | Piece]:
    """Join holes that touch, wherever they come from, and take each body back."""
    start = blocks = 0
    for piece in pieces:
        if isinstance(piece, Hole):
            start, blocks = (start if blocks else piece.start), blocks + piece.blocks
            continue
        if blocks:
            yield Hole(start, blocks)
            blocks = 0
        yield piece
        if isinstance(piece, Fresh):
            piece.body.release()  # who kept it gets an error, and not the bytes of another chunk
    if blocks:
        yield Hole(start, blocks)


class _Scan:
    """A way forward through a region: reads ahead into the window, and finds what begins at a given boundary.

    The blocks from `_base` to `_known` have been read or are holes; those among them that fit stand in the window.
    """

    def __init__(self, read: Read, blocks: int, seed: int, window: Window, holes: Flags) -> None:
        assert window.blocks >= SMALLEST_WINDOW, f"a window of {window.blocks} blocks cannot hold a chunk"
        self._read, self._blocks, self._seed = read, blocks, seed
        self._window, self._turn = window, window.take()
        self._borders = Borders(blocks, holes)
        # Where holes begin and end, in turn, and the region's end: a block after an odd number of edges is in a hole.
        self._edges = [edge for hole in _marked(holes) for edge in (hole.start, hole.stop)] + [blocks]
        self._base = self._known = 0

    def jump(self, start: int) -> None:
        """Go on at `start`, a boundary at or after the last one, without reading what lies between."""
        passed = bisect_right(self._edges, start)
        hole_edge = self._edges[passed - 1] if passed else 0
        first = max(start - BEHIND + 1, hole_edge)  # no decision looks back across a zero block
        if first > self._known:
            self._base = self._known = first

    def piece(self, start: int, goal: int) -> Hole | Fresh:
        """What begins at `start`: a chunk, or zeros (which may go on where the Hole ends).

        Reads as much as fits at a time, but beyond the block `goal` only when it must.
        """
        edge, is_hole = self._edge(start)
        if is_hole:
            return Hole(start, edge - start)
        while start >= self._borders.settled:
            self._advance(start, goal)
        if self._borders.is_zero(start):
            return Hole(start, self._borders.zeros_end(start) - start)
        while (end := self._borders.chunk_end(start, self._hashes)) is None:
            self._advance(start, goal)
        return Fresh(start, end - start, self._window.body(start - self._base, end - start))

    def _advance(self, start: int, goal: int) -> None:
        """Learn one more block at least, keeping in the window what is needed from `start` on."""
        assert self._window.turn == self._turn, "the window was given to another pass"
        assert self._known < self._blocks, "all is known"
        room_end = self._base + self._window.blocks
        if goal > room_end or self._known >= room_end:
            room_end = self._make_room(min(start, self._known))
        goal = min(max(goal, self._known + 1), room_end, self._blocks)
        while self._known < self._blocks:
            end, is_hole = self._edge(self._known)
            if not is_hole:
                if self._known >= goal:
                    break
                end = min(end, goal)
                self._learn(self._known, end - self._known)
            self._known = end
        self._borders.settle(self._known)

    def _make_room(self, first: int) -> int:
        """Move the window so that it begins with the block `first`; gives the block that it ends before."""
        room_end = self._base + self._window.blocks
        if first < room_end:
            self._window.move_to_front(first - self._base, min(self._known, room_end) - first)
        self._base = first
        return first + self._window.blocks

    def _learn(self, start: int, blocks: int) -> None:
        place = start - self._base
        self._read(start * BLOCK, self._window.room(place, blocks))
        self._borders.learn(start, self._window.kinds(place, blocks))

    def _hashes(self, start: int, end: int) -> Iterator[int]:
        return self._window.hashes(start - self._base, end - self._base, self._seed)

    def _edge(self, block: int) -> tuple[int, bool]:
        """Where the known hole, or what lies between known holes, ends that `block` is in; whether it is a hole."""
        passed = bisect_right(self._edges, block)
        return self._edges[passed], passed % 2 == 1


def _mark(ranges: Iterable[range], blocks: int) -> Flags:
    """One flag for each block of the region: whether it is in one of the ranges."""
    flags = np.zeros(blocks, np.bool_)
    for blocks_in in ranges:
        assert 0 <= blocks_in.start <= blocks_in.stop <= blocks, (
            f"{blocks_in} is not inside a region of {blocks} blocks"
        )
        flags[blocks_in.start : blocks_in.stop] = True
    return flags


def _marked(flags: Flags) -> list[range]:
    """The ranges of the blocks that are marked, sorted, none touching another."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False)).tolist()
    return [range(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]
