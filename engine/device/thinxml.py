"""The XML that `thin_delta` and `thin_dump` write, read as it streams.

Formats: the pages thin_delta(8) and thin_dump(8) of thin-provisioning-tools. The C++ generation (to 0.9) and the Rust one
(from 1.0) write the same elements; the latter may put runs that occur twice into a `<def>` and name it with a `<ref>`.

Nothing is guessed. Output that is cut short, out of order, or holds what is not known here, raises Failed.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import BinaryIO, Final
from xml.parsers import expat

from engine.device.base import Change, ChangeKind, join_changes
from engine.device.thin import DataBlocks, Sectors
from engine.errors import Failed
from engine.extent import Extent, between, clip, join

_READ_SIZE: Final = 64 << 10

_Element = tuple[str, Mapping[str, str] | None]  # a name, and the attributes of its start; None: its end


class _Mapped(Enum):
    """How the two sides of a comparison stand to each other, in the words of the tool."""

    SAME = "same"
    DIFFERENT = "different"
    LEFT_ONLY = "left_only"
    RIGHT_ONLY = "right_only"


_MEANING: Final = {
    _Mapped.DIFFERENT: ChangeKind.CHANGED,
    _Mapped.RIGHT_ONLY: ChangeKind.CHANGED,
    _Mapped.LEFT_ONLY: ChangeKind.HOLE,
}
_Run = tuple[Extent, _Mapped]


def read_delta(xml: BinaryIO, *, left: int, right: int, old_size: int, size: int) -> Iterator[Change]:
    """What `thin_delta` found between the thin ids `left` and `right`, volumes of `old_size` and `size` bytes.

    Sorted, merged, inside `size`. Beyond `old_size` everything is changed, or a hole where nothing is mapped.
    """
    with _strict("thin_delta"):
        yield from join_changes(_changes(_runs(xml, left, right), old_size, size))


def read_mappings(xml: BinaryIO, *, thin_id: int, size: int) -> Iterator[Extent]:
    """The extents that `thin_dump` found mapped in one thin volume of `size` bytes, as a normal sequence."""
    with _strict("thin_dump"):
        yield from clip(join(_in_order(_mappings(xml, thin_id))), size)


def _changes(runs: Iterable[_Run], old_size: int, size: int) -> Iterator[Change]:
    position = old_size  # what lies from here to `size` is new: a hole, unless something is mapped there
    for extent, mapped in runs:
        kind, end = _MEANING.get(mapped), min(extent.end, old_size, size)
        if kind is not None and extent.start < end:
            yield Change(between(extent.start, end), kind)
        start, end = max(extent.start, old_size), min(extent.end, size)
        if mapped is not _Mapped.LEFT_ONLY and start < end:
            if position < start:
                yield Change(between(position, start), ChangeKind.HOLE)
            yield Change(between(start, end), ChangeKind.CHANGED)
            position = end
    if position < size:
        yield Change(between(position, size), ChangeKind.HOLE)


def _runs(xml: BinaryIO, left: int, right: int) -> Iterator[_Run]:
    block_size = position = 0
    compared = False
    for name, attributes in _elements(xml):
        if attributes is None:
            continue
        if name == "superblock":
            block_size = _block_size(attributes)
        elif name == "diff":
            compared = (int(attributes["left"]), int(attributes["right"])) == (left, right)
        else:
            extent = _extent(attributes["begin"], attributes["length"], block_size)
            if extent.start < position:
                raise ValueError(f"byte {extent.start} comes after byte {position}")
            position = extent.end
            yield extent, _Mapped(name)
    if not compared:
        raise ValueError(f"it does not compare the thin ids {left} and {right}")


def _mappings(xml: BinaryIO, thin_id: int) -> Iterator[Extent]:
    shared: dict[str, list[Extent]] = {}
    definition: list[Extent] | None = None
    block_size = 0
    inside = seen = False
    for name, attributes in _elements(xml):
        extents: list[Extent] = []
        if name == "superblock":
            block_size = _block_size(attributes) if attributes is not None else block_size
        elif name == "device":
            inside = attributes is not None and int(attributes["dev_id"]) == thin_id
            seen |= inside
        elif name == "def":
            definition = shared.setdefault(attributes["name"], []) if attributes is not None else None
        elif attributes is not None:
            extents = _mapped_by(name, attributes, block_size, shared)
        if definition is not None:
            definition.extend(extents)
        elif inside:
            yield from extents
    if not seen:
        raise ValueError(f"it does not hold the thin id {thin_id}")


def _mapped_by(
    name: str, attributes: Mapping[str, str], block_size: int, shared: Mapping[str, list[Extent]]
) -> list[Extent]:
    match name:
        case "single_mapping":
            return [_extent(attributes["origin_block"], "1", block_size)]
        case "range_mapping":
            return [_extent(attributes["origin_begin"], attributes["length"], block_size)]
        case "ref":
            return shared[attributes["name"]]
        case _:
            raise ValueError(f"unknown element {name}")


def _in_order(extents: Iterable[Extent]) -> Iterator[Extent]:
    position = 0
    for extent in extents:
        if extent.start < position:
            raise ValueError(f"byte {extent.start} comes after byte {position}")
        position = extent.end
        yield extent


def _block_size(attributes: Mapping[str, str]) -> int:
    return Sectors(int(attributes["data_block_size"])).to_bytes()


def _extent(begin: str, length: str, block_size: int) -> Extent:
    start, size = (DataBlocks(int(count)).to_bytes(block_size) for count in (begin, length))
    if start < 0 or size <= 0:
        raise ValueError(f"{length} data blocks at {begin}")
    return Extent(start, size)


def _elements(xml: BinaryIO) -> Iterator[_Element]:
    """Starts and ends of elements in order. Raises ExpatError when the text is not well-formed.

    Text that ends before `</superblock>`, or is empty, is not: the end of the root element is the end of the output.
    """
    found: list[_Element] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: found.append((name, attributes))
    parser.EndElementHandler = lambda name: found.append((name, None))
    while piece := xml.read(_READ_SIZE):
        parser.Parse(piece, False)
        yield from found
        found.clear()
    parser.Parse(b"", True)


@contextmanager
def _strict(tool: str) -> Iterator[None]:
    try:
        yield
    except (expat.ExpatError, KeyError, ValueError) as error:
        reason = f"no attribute {error}" if isinstance(error, KeyError) else str(error)
        raise Failed(
            f"{tool} wrote what cannot be relied on: {reason}", hint="try again; then check the pool's metadata"
        ) from error
