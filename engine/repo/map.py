"""Maps: which chunks make up a volume (rok-repository(5), MAPS).

A *top* map refers to *pages*, a page to *region maps*, a region map to chunks. A reference is a 16-byte prefix of an id;
sixteen zero bytes stand for "all zeros", so that what was never written costs nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.chunk import cut
from engine.errors import Damaged
from engine.store.base import Buffer
from engine.values import dataclass

REFERENCE: Final = 16
ZEROS: Final = bytes(REFERENCE)
BLOCK: Final = cut.BLOCK
REGION_BLOCKS: Final = cut.REGION_BLOCKS
CHUNK_LIMIT: Final = 128 * BLOCK
REGION: Final = BLOCK * REGION_BLOCKS
PAGE_REGIONS: Final = 256
PAGE: Final = REGION * PAGE_REGIONS
VOLUME_LIMIT: Final = 1 << 54  # a top map of 16 MiB

_HOLE_BIT: Final = 0x8000
_REGION_MAGIC: Final = b"RMAP"
_PAGE_MAGIC: Final = b"PMAP"
_TOP_MAGIC: Final = b"TMAP"

Lengths = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Entry:
    """A run of blocks of a region: one chunk, or zeros (`chunk` is ZEROS)."""

    start: int  # in blocks, from the region's start
    blocks: int
    chunk: bytes  # reference

    @property
    def is_hole(self) -> bool:
        """Nothing but zeros."""
        return self.chunk == ZEROS


class RegionBuilder:
    """Collects the entries of one region in order; neighbouring zeros become one entry."""

    def __init__(self) -> None:
        self._lengths: list[int] = []
        self._chunks: list[bytes] = []
        self.blocks = 0
        self.data_blocks = 0

    def add(self, blocks: int, chunk: bytes) -> None:
        """The next `blocks` blocks are this chunk, or zeros."""
        self.blocks += blocks
        if chunk != ZEROS:
            self._lengths.append(blocks)
            self._chunks.append(chunk)
            self.data_blocks += blocks
        elif self._lengths and self._lengths[-1] & _HOLE_BIT:
            self._lengths[-1] += blocks
        else:
            self._lengths.append(blocks | _HOLE_BIT)

    @property
    def chunks(self) -> int:
        """How many entries are chunks."""
        return len(self._chunks)

    def encode(self) -> bytes | None:
        """The region map; None when all is zeros."""
        if not self._chunks:
            return None
        lengths = np.array(self._lengths, dtype="<u2").tobytes()
        return _REGION_MAGIC + len(self._lengths).to_bytes(4, "little") + lengths + b"".join(self._chunks)


def decode_region(encoded: Buffer, blocks: int) -> list[Entry]:
    """The entries of a region map that covers `blocks` blocks. Raises Damaged."""
    lengths, chunks = region_columns(encoded, blocks)
    return list(_entries(lengths.tolist(), chunks))


def region_columns(encoded: Buffer, blocks: int) -> tuple[Lengths, bytes]:
    """The same, as it is stored: lengths, with the bit of a hole, and the chunks joined. Raises Damaged."""
    view = memoryview(encoded)
    if len(view) < 8 or bytes(view[:4]) != _REGION_MAGIC:
        raise Damaged("a region map does not start with its magic")
    count = int.from_bytes(view[4:8], "little")
    if len(view) < 8 + 2 * count:
        raise Damaged("a region map is cut short")
    if count > blocks:  # told before the entries take many times the memory of the map
        raise Damaged("a region map has more entries than its region has blocks")
    lengths: Lengths = np.frombuffer(view[8 : 8 + 2 * count], dtype="<u2")
    chunks = bytes(view[8 + 2 * count :])
    covered, is_chunk = lengths & np.uint16(_HOLE_BIT - 1), lengths & _HOLE_BIT == 0
    if len(chunks) != REFERENCE * int(np.count_nonzero(is_chunk)):
        raise Damaged("a region map names more or fewer chunks than it has entries for")
    if int(covered.sum(dtype=np.int64)) != blocks or not covered.all():
        raise Damaged("a region map does not cover its region")
    longest = int(covered[is_chunk].max(initial=0))
    if longest * BLOCK > CHUNK_LIMIT:
        raise Damaged(f"a region map names a chunk of {longest} blocks")
    if not np.frombuffer(chunks, np.uint64).reshape(-1, 2).any(axis=1).all():
        raise Damaged("a region map lacks the name of a chunk")
    return lengths, chunks


def _entries(lengths: list[int], chunks: bytes) -> Iterator[Entry]:
    start = position = 0
    for length in lengths:
        blocks = length & ~_HOLE_BIT
        if length & _HOLE_BIT:
            yield Entry(start, blocks, ZEROS)
        else:
            yield Entry(start, blocks, chunks[position : position + REFERENCE])
            position += REFERENCE
        start += blocks


def hole_region(blocks: int) -> list[Entry]:
    """The entries of a region that has no map."""
    return [Entry(0, blocks, ZEROS)]


def encode_page(references: Sequence[bytes]) -> bytes | None:
    """The page that refers to these region maps; None when all are zeros."""
    return _encode_references(_PAGE_MAGIC, references)


def encode_top(references: Sequence[bytes]) -> bytes | None:
    """The top map that refers to these pages; None when all are zeros."""
    return _encode_references(_TOP_MAGIC, references)


def _encode_references(magic: bytes, references: Sequence[bytes]) -> bytes | None:
    joined = b"".join(references)
    end = len(joined)
    while end and joined[end - REFERENCE : end] == ZEROS:
        end -= REFERENCE
    return magic + joined[:end] if end else None


def decode_page(encoded: Buffer, regions: int) -> list[bytes]:
    """The references of a page of `regions` regions. Raises Damaged."""
    return _decode_references(_PAGE_MAGIC, encoded, regions, "page")


def decode_top(encoded: Buffer, pages: int) -> list[bytes]:
    """The references of a top map of `pages` pages. Raises Damaged."""
    return _decode_references(_TOP_MAGIC, encoded, pages, "top map")


def _decode_references(magic: bytes, encoded: Buffer, count: int, what: str) -> list[bytes]:
    view = memoryview(encoded)
    body = bytes(view[4:])
    if bytes(view[:4]) != magic or len(body) % REFERENCE or len(body) > count * REFERENCE:
        raise Damaged(f"a {what} is damaged")
    references = [body[at : at + REFERENCE] for at in range(0, len(body), REFERENCE)]
    return references + [ZEROS] * (count - len(references))


def references(encoded: Buffer) -> bytes:
    """What any map names, joined, zeros left out: of a top its pages, of a page its regions, of a region its chunks.

    Raises Damaged when it is no map.
    """
    view = memoryview(encoded)
    magic = bytes(view[:4])
    if magic == _REGION_MAGIC and len(view) >= 8:
        start = 8 + 2 * int.from_bytes(view[4:8], "little")
    elif magic in (_PAGE_MAGIC, _TOP_MAGIC):
        start = 4
    else:
        raise Damaged("a map does not start with its magic")
    body = bytes(view[start:])
    if len(view) < start or len(body) % REFERENCE:
        raise Damaged("a map is cut short")
    if ZEROS not in body:
        return body
    return b"".join(
        body[at : at + REFERENCE] for at in range(0, len(body), REFERENCE) if body[at] or any(body[at : at + REFERENCE])
    )


def region_chunks(encoded: Buffer) -> tuple[bytes, Lengths]:
    """The chunks that a region map names, joined, and the length of each in blocks; zeros left out. Raises Damaged."""
    chunks, view = references(encoded), memoryview(encoded)
    if bytes(view[:4]) != _REGION_MAGIC:
        raise Damaged("a region map does not start with its magic")
    lengths: Lengths = np.frombuffer(view[8 : 8 + 2 * int.from_bytes(view[4:8], "little")], dtype="<u2")
    lengths = lengths[lengths & _HOLE_BIT == 0]
    if len(chunks) != REFERENCE * len(lengths):
        raise Damaged("a region map names more or fewer chunks than it has entries for")
    return chunks, lengths


def region_count(size: int) -> int:
    """How many regions a volume of `size` bytes has."""
    return -(-size // REGION)


def page_count(size: int) -> int:
    """How many pages a volume of `size` bytes has."""
    return -(-size // PAGE)


def page_regions(size: int, page: int) -> int:
    """How many regions the page of that number has."""
    return min(PAGE_REGIONS, region_count(size) - page * PAGE_REGIONS)


def region_blocks(size: int, region: int) -> int:
    """How many blocks the region of that number has; a last short block counts."""
    return min(REGION_BLOCKS, -(-(size - region * REGION) // BLOCK))
