"""What differs between two files of one filesystem, from where the filesystem keeps their bytes: FIEMAP.

Two files that were reflinked share disk blocks, and whoever writes to one of them gets new blocks. So a byte that both
files map to the same place is the same byte, as long as both exist. This holds where FIEMAP tells a true place for every
extent; XFS and btrfs do, and mark the extents for which they cannot (`linux/fiemap.h`, Documentation/filesystems/fiemap).
"""

import struct
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final

from engine import native
from engine.device.base import Change, ChangeKind, join_changes
from engine.device.blockio import translated
from engine.extent import between
from engine.values import dataclass

_FIEMAP: Final = 0xC020660B
_SYNC: Final = 0x1  # write the file's dirty pages first: until then they have no place
_HEADER: Final = struct.Struct("=QQIIII")  # start, length, flags, mapped extents, extent count, reserved
_EXTENT: Final = struct.Struct("=QQQ16xI12x")  # logical, physical, length, reserved, flags, reserved
_PAGE_EXTENTS: Final = 4096

_UNKNOWN, _DELALLOC, _ENCODED, _ENCRYPTED, _NOT_ALIGNED, _INLINE, _UNWRITTEN = 2, 4, 8, 0x80, 0x100, 0x200, 0x800
_PLACELESS: Final = _UNKNOWN | _DELALLOC | _ENCODED | _ENCRYPTED | _NOT_ALIGNED | _INLINE


@dataclass(frozen=True, slots=True)
class Mapped:
    """The bytes [start, end) of a file that are on disk `shift` bytes further on; None: at a place that cannot be told."""

    start: int
    end: int
    shift: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """What is mapped of a file, in order, from some position up to `end`. What is not mapped there reads as zeros."""

    mapped: list[Mapped]
    end: int


Pages = Callable[[int], Page]  # the page of a file that begins at a position


def changes(old: int, new: int, old_size: int, new_size: int, *, path: str) -> Generator[Change, None, None]:
    """What changed from the open file `old` to `new`, as `Pool.delta` promises it. `path` names them in errors."""

    def pages_of(file: int) -> Pages:
        return lambda position: read_page(file, position, new_size, path=path)

    return join_changes(changes_of_pages(pages_of(old), pages_of(new), old_size, new_size))


def changes_of_pages(old: Pages, new: Pages, old_size: int, new_size: int) -> Iterator[Change]:
    """What changed, page by page, so that memory is bounded. Touching changes are not merged.

    A defragmenter may move blocks between the look at `old` and the look at `new`, and put others in their place. So a
    page of `old` counts only if it is the same after `new` was looked at.
    """
    position = 0
    while position < new_size:
        before, after = old(position), new(position)
        if old(position) != before:
            continue
        end = min(before.end, after.end)
        yield from compare(before.mapped, after.mapped, position, end, old_size)
        position = end


def compare(old: Iterable[Mapped], new: Iterable[Mapped], start: int, end: int, old_size: int) -> Iterator[Change]:
    """What changed within [start, end), from the mappings of two files, each sorted. Touching changes are not merged.

    Bytes of `new` beyond `old_size` count as changed or are holes, whatever `old` maps there.
    """
    olds, news = iter(old), iter(new)
    left, right = next(olds, None), next(news, None)
    position = start
    while position < end:
        while left is not None and left.end <= position:
            left = next(olds, None)
        while right is not None and right.end <= position:
            right = next(news, None)
        stop = min(_next_border(left, position, end), _next_border(right, position, end))
        before = left if left is not None and left.start <= position else None
        after = right if right is not None and right.start <= position else None
        is_new = position >= old_size
        if not is_new:
            stop = min(stop, old_size)
        if after is None and (is_new or before is not None):
            yield Change(between(position, stop), ChangeKind.HOLE)
        elif after is not None and (is_new or not _same_place(before, after)):
            yield Change(between(position, stop), ChangeKind.CHANGED)
        position = stop


def read_page(file: int, position: int, end: int, *, path: str, limit: int = _PAGE_EXTENTS) -> Page:
    """The mappings of an open file from `position` up to `end`, or as far as `limit` extents go. Raises Failed."""
    argument = bytearray(_HEADER.size + limit * _EXTENT.size)
    _HEADER.pack_into(argument, 0, position, end - position, _SYNC, 0, limit, 0)
    try:
        native.ioctl_into(file, _FIEMAP, argument)
    except OSError as error:
        raise translated(error, path, "asking for the extents (FIEMAP)") from error
    return parse_page(argument, position, end, limit)


def parse_page(answer: bytes | bytearray, position: int, end: int, limit: int) -> Page:
    """The page that the kernel's answer tells, when `limit` extents were asked for between `position` and `end`."""
    count: int = _HEADER.unpack_from(answer)[3]
    mapped = []
    reached = position
    for index in range(count):
        logical, physical, length, flags = _EXTENT.unpack_from(answer, _HEADER.size + index * _EXTENT.size)
        reached = logical + length
        if flags & _PLACELESS:
            mapped.append(Mapped(logical, reached, None))
        elif not flags & _UNWRITTEN:  # unwritten: allocated, but reads as zeros
            mapped.append(Mapped(logical, reached, physical - logical))
    return Page(mapped, min(reached, end) if count == limit else end)


def _next_border(mapped: Mapped | None, position: int, end: int) -> int:
    if mapped is None:
        return end
    return min(end, mapped.start if mapped.start > position else mapped.end)


def _same_place(before: Mapped | None, after: Mapped) -> bool:
    return before is not None and before.shift is not None and before.shift == after.shift
