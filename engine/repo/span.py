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
    span_pack, start, end = None, 0, 0
    for item in items:
        pack, offset, length = place(item)
        is_other = pack is not span_pack and pack != span_pack  # mostly it is the same object, which is told faster
        if is_other or offset - end > SPAN_GAP or offset + length - start > SPAN_LIMIT:
            if span:
                yield span
            span, span_pack, start = [], pack, offset
        span.append(item)
        end = offset + length
    if span:
        yield span
