"""Spans: records of one pack that lie close together, to be read at once."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from engine.repo.pack import PackName
from engine.units import KIB, MIB

SPAN_LIMIT: Final = 4 * MIB
SPAN_GAP: Final = 64 * KIB

Item = TypeVar("Item")


def spans(items: Iterable[Item], place: Callable[[Item], tuple[PackName, int, int]]) -> Iterator[list[Item]]:
    """Runs of items that one range read serves: of one pack, at most SPAN_GAP apart, and at most SPAN_LIMIT in all.

    `place` tells an item's pack, offset and length in bytes; the items come in the order of these.
    """
    span: list[Item] = []
    for item in items:
        if span:
            (first_pack, start, _), (_, last, last_length) = place(span[0]), place(span[-1])
            pack, offset, length = place(item)
            if pack != first_pack or offset - (last + last_length) > SPAN_GAP or offset + length - start > SPAN_LIMIT:
                yield span
                span = []
        span.append(item)
    if span:
        yield span
