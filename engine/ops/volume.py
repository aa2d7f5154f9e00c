"""Bring a disk image into a pool, as a new volume.

The import can be repeated: until all of it is written, the volume is marked as half written, so that no snapshot can be
taken of it, and asking again starts afresh. Runs of zeros are not written; they stay holes.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from engine.device.base import Pool, Source, Volume, check_size
from engine.device.blockio import PIECE, allocated, nameless_file, open_source, read_pieces, translated
from engine.device.naming import check_name
from engine.errors import Failed, NotFound, Refused
from engine.extent import Extent, between
from engine.pages import pages
from engine.progress import Progress
from engine.units import KIB, SECTOR
from engine.values import dataclass

IMPORTING: Final = "import"  # what `Volume.restoring` says while an import writes; no version is called that

_ZEROS: Final = bytes(64 * KIB)  # a run of zeros is seen where it fills one of these, aligned to its own size

Piece = tuple[int, memoryview]  # an offset, and what the image holds there


class Body(Protocol):
    """What bytes arrive by, one after the other."""

    def readinto(self, target: memoryview, /) -> int | None:
        """Fill the start of `target`; how many bytes that were: 0 at the end alone, None where to wait is not allowed."""
        ...


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes that arrive one after the other, as on standard input, and how many they must be.

    The size is asked for because a stream whose producer died looks like one that came to its end.
    """

    body: Body
    size: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """A finished import. `written` bytes of the volume's size were written; the rest is holes."""

    volume: Volume
    written: int


def import_volume(pool: Pool, name: str, origin: Path | Stream, *, progress: Progress) -> ImportReport:
    """Create a volume with the size and content of a raw disk image: a file, a block device, or a stream.

    Raises Refused when the size is not whole sectors, and when the volume exists and is not empty, unless that is what an
    interrupted import left; Failed when the image turns out shorter or longer than its size: the volume then stays
    marked as half written.
    """
    check_name("volume", name)
    if isinstance(origin, Stream):
        return _import(pool, name, origin.size, _pieces_of_stream(origin), progress)
    if origin.exists() and not (origin.is_file() or origin.is_block_device()):
        raise Refused(f"{origin} is neither a file nor a block device", hint="give a raw disk image, or - for a pipe")
    path = str(origin)
    with open_source(path, snapshot=False) as source:
        return _import(pool, name, source.size, _pieces_of_source(path, source), progress)


@contextmanager
def spooled(body: Body, directory: Path) -> Iterator[Path]:
    """A stream of unknown size as a file, which has no name and is gone after the `with`. Runs of zeros take no space.

    Nothing can tell whether the stream came to its true end. Raises OutOfSpace and the like when the file cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with nameless_file(directory) as (spool, target):
            size = 0
            for start, piece in _pieces_of_body(body):
                for offset, run in _data_runs(start, piece):
                    target.write(offset, run)
                size = start + len(piece)
            os.truncate(spool, size)
            yield spool
    except OSError as error:
        raise translated(error, str(directory), "keeping the stream") from error


def _import(pool: Pool, name: str, size: int, pieces: Iterator[Piece], progress: Progress) -> ImportReport:
    _check_image_size(size)
    _check_vacant(pool, name)
    pool.create_volume(name, size, restoring=IMPORTING)
    pool.mark_restoring(name, IMPORTING)
    has_leftovers = not _is_blank(pool, name)
    progress.begin("importing", size)
    try:
        with pool.open_target(name) as target:
            if has_leftovers:
                target.discard(between(0, size))
            written = reached = 0
            for start, body in pieces:
                for offset, run in _data_runs(start, body):
                    target.write(offset, run)
                    written += len(run)
                progress.advance(start + len(body) - reached)
                reached = start + len(body)
            progress.advance(size - reached)
            target.flush()
    finally:
        progress.end()
    volume = pool.volume(name)
    pool.mark_restoring(name, None)  # last: once it is done, asking again would be refused
    return ImportReport(replace(volume, restoring=None), written)


def _check_image_size(size: int) -> None:
    if size % SECTOR:
        message = f"the image has {size} bytes, not a multiple of {SECTOR}: it is cut short, or is no raw disk image"
        hint = f"if it is whole, pad it with zeros: `truncate -s {-(-size // SECTOR) * SECTOR} IMAGE`"
        raise Refused(message, hint=hint)
    check_size(size)


def _check_vacant(pool: Pool, name: str) -> None:
    """Raises Refused when the volume exists, unless it is empty or an import to it was interrupted."""
    try:
        existing = pool.volume(name)
    except NotFound:
        return
    if existing.restoring == IMPORTING:
        return
    if existing.restoring is not None or not _is_blank(pool, name):
        raise Refused(f"volume {name} exists, and is not empty", hint="choose another name, or remove the volume")


def _is_blank(pool: Pool, name: str) -> bool:
    return next(pool.allocated(name), None) is None


def _pieces_of_source(path: str, source: Source) -> Iterator[Piece]:
    """What the image holds, where it holds data."""
    return read_pieces(source, _inside(source.size, path, allocated(path, snapshot=False)))


def _inside(size: int, path: str, extents: Iterable[Extent]) -> Iterator[Extent]:
    for extent in extents:
        if extent.end > size:
            raise Failed(f"{path} became longer than the {size} bytes that it had")
        yield extent


def _pieces_of_stream(stream: Stream) -> Iterator[Piece]:
    """All of the stream. Raises Failed when it does not end at its size."""
    hint = "give its exact size, and see that its producer succeeds"
    end = 0
    for start, piece in _pieces_of_body(stream.body):
        end = start + len(piece)
        if end > stream.size:
            raise Failed(f"the stream goes on after the {stream.size} bytes that it was said to have", hint=hint)
        yield start, piece
    if end < stream.size:
        message = f"the stream ended at byte {end}, before the {stream.size} that it was said to have"
        raise Failed(message, hint=hint)


def _pieces_of_body(body: Body) -> Iterator[Piece]:
    """All that arrives, each piece in the memory of the one before: of whole pages, but for the last."""
    memory = memoryview(pages(PIECE))
    start = filled = 0
    while count := body.readinto(memory[filled:]):
        filled += count
        if filled == len(memory):
            yield start, memory
            start, filled = start + filled, 0
    if count is None:  # which is no end
        raise Failed("the pipe has nothing yet, and is set not to be waited for", hint="pass it through `cat`")
    if filled:
        yield start, memory[:filled]


def _data_runs(start: int, view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The parts of a piece that are not zeros; a piece is split at multiples of the length of `_ZEROS` only."""
    run = 0  # where in the piece the run that is not yet given began
    position = 0
    while position < len(view):
        end = min(len(view), position + len(_ZEROS) - (start + position) % len(_ZEROS))
        if bytes(view[position:end]) == _ZEROS[: end - position]:  # copied, because views are compared byte by byte
            if position > run:
                yield start + run, view[run:position]
            run = end
        position = end
    if position > run:
        yield start + run, view[run:]
