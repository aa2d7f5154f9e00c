"""The content of a member in order, as a pipe wants it: made by several workers, one piece ahead of whoever takes it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Final

from engine.crew import employ
from engine.extent import Extent, between
from engine.hand import Call, join_all
from engine.ops.difference import extent_of, regions_of
from engine.pages import Scratch
from engine.repo.manifest import Member
from engine.repo.map import BLOCK, CHUNK_LIMIT, REGION, ZEROS, Entry
from engine.repo.reader import Missing, Reader, Room
from engine.units import MIB
from engine.values import dataclass

Lose = Callable[[Extent, Missing], None]

_PIECE: Final = 32 * MIB  # two of them are in memory
_SLICE: Final = 8 * MIB  # of a piece, for one worker at a time: less would be more requests of a store that is far away
_STEP: Final = MIB  # of zeros; a hole that is shorter is made as a part of a piece
_ZEROS: Final = bytes(_STEP)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Adjacent entries of a region; none where all of the extent is zeros."""

    region: int
    extent: Extent  # of the volume
    entries: Sequence[Entry] = ()


def _views(piece: _Piece, view: memoryview) -> Iterator[memoryview]:
    if piece.entries:
        yield view
        return
    for at in range(0, piece.extent.length, _STEP):
        yield memoryview(_ZEROS)[: piece.extent.length - at]


def _pieces(reader: Reader, member: Member) -> Iterator[_Piece]:
    for number, reference in regions_of(reader, member):
        if reference == ZEROS:
            yield _Piece(number, between(number * REGION, min((number + 1) * REGION, member.size)))
            continue
        for entries in _divided(reader.region(reference, number, member.size), _PIECE, apart=_STEP):
            first, last = extent_of(number, entries[0], member.size), extent_of(number, entries[-1], member.size)
            is_hole = entries[0].is_hole and len(entries) == 1
            yield _Piece(number, between(first.start, last.end), () if is_hole else entries)


def _divided(entries: Sequence[Entry], limit: int, apart: int | None = None) -> Iterator[list[Entry]]:
    """Adjacent entries of up to `limit` bytes together; each hole of `apart` bytes or more by itself."""
    together: list[Entry] = []
    length = 0
    for entry in entries:
        is_apart = apart is not None and entry.is_hole and entry.blocks * BLOCK >= apart
        if together and (is_apart or length + entry.blocks * BLOCK > limit):
            yield together
            together, length = [], 0
        together.append(entry)
        length += entry.blocks * BLOCK
        if is_apart:
            yield together
            together, length = [], 0
    if together:
        yield together


class ContentInOrder:
    """The member's bytes, zeros included, in `views`. `stop` belongs behind it where that is not taken to its end.

    `lose` is told of what cannot be had, in any thread: zeros stand for it, unless it raises, and then `views` does.
    With 0 workers the calling thread does it all. Memory: 64 MiB, and 5 for each worker.
    """

    def __init__(self, reader: Reader, member: Member, *, workers: int, lose: Lose) -> None:
        self._reader, self._member = reader, member
        self._crew = [_Filler(reader, member.size, lose) for _ in range(max(1, workers))]
        self._has_workers = workers > 0
        self._memories = cycle((Scratch(_PIECE), Scratch(_PIECE)))
        self._call: Call[memoryview] | None = None
        self._is_stopped = False

    def views(self) -> Iterator[memoryview]:
        """Each is good until the next is asked for. To be called once."""
        made: _Piece | None = None
        for piece in _pieces(self._reader, self._member):
            view = self._end()
            self._begin(piece)  # where the piece before the last was made
            if made is not None:
                yield from _views(made, view)
            made = piece
        if made is not None:
            yield from _views(made, self._end())

    def stop(self) -> None:
        """Make nothing more, and wait for those who do. To be called again where it was broken off."""
        self._is_stopped = True
        if self._call is not None:
            join_all([self._call.hand])

    def _begin(self, piece: _Piece) -> None:
        self._call = Call(lambda: self._make(piece))
        if self._has_workers:
            self._call.hand.start()

    def _end(self) -> memoryview:
        """What was begun last, when it is made. Raises what `lose` raised."""
        if self._call is None:
            return memoryview(b"")
        return self._call.wait() if self._has_workers else self._call.make()

    def _make(self, piece: _Piece) -> memoryview:
        if not piece.entries:
            return memoryview(b"")
        first = piece.entries[0].start
        view = next(self._memories).first(sum(entry.blocks for entry in piece.entries) * BLOCK)
        for filler in self._crew:
            filler.begin(piece.region, first, view)
        employ(self._crew, _divided(piece.entries, _SLICE), self._check, inline=not self._has_workers)
        return view[: piece.extent.length]

    def _check(self) -> None:
        if self._is_stopped:
            raise _Stopped


class _Stopped(Exception):
    """Nobody wants the piece any more."""


class _Filler(Room):
    """One worker: puts chunks, and zeros, where they belong in the memory of a piece."""

    def __init__(self, reader: Reader, size: int, lose: Lose) -> None:
        super().__init__()
        self._reader, self._size, self._lose = reader, size, lose
        self._region = self._first = 0
        self._view = memoryview(b"")

    def begin(self, region: int, first: int, view: memoryview) -> None:
        """From now on for a piece of that region that begins with the block `first` of it."""
        self._region, self._first, self._view = region, first, view

    def for_chunk(self, entry: Entry) -> memoryview:
        """See `Room`: the entry's own place, a hole's too."""
        at = (entry.start - self._first) * BLOCK
        return self._view[at : at + entry.blocks * BLOCK]

    def do(self, entries: Sequence[Entry]) -> None:
        """Make these, of the piece."""
        for entry in entries:
            if entry.is_hole:
                self._clear(entry)
        for entry, body in self._reader.tries((entry for entry in entries if not entry.is_hole), self):
            if isinstance(body, Missing):
                self._lose(extent_of(self._region, entry, self._size), body)
                self._clear(entry)

    def finish(self) -> None:
        """See `Worker`."""

    def _clear(self, entry: Entry) -> None:
        place = self.for_chunk(entry)
        place[:] = _ZEROS[: len(place)]


assert max(_STEP, CHUNK_LIMIT) <= len(_ZEROS)
