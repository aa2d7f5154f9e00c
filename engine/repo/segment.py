"""Index segments: facts of which chunk is in which pack, where (rok-repository(5), INDEX SEGMENTS)."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import zstandard

from engine.chunk.codec import expand_frame
from engine.errors import Damaged
from engine.repo.map import REFERENCE
from engine.repo.pack import HEADER, PACK_LIMIT, RAW_BIT, ChunkId, Directory, PackKind, PackName, Record
from engine.repo.seal import Entropy, Keyring, open_box, seal_box
from engine.store.base import Buffer
from engine.units import MIB
from engine.values import dataclass

ENTRY_LIMIT: Final = 1 << 20
SEGMENT_LIMIT: Final = 64 * MIB  # of the blob: twice what so many entries take if each has a pack of its own
_MAGIC: Final = b"ROKINDX\x01"
_COUNTS: Final = struct.Struct("<II")
_PACK: Final = struct.Struct("<16sIB3xII")

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class PackFacts:
    """What a segment says of one pack: prefixes (16 bytes each, joined) and lengths with the raw bit, in record order."""

    name: PackName
    kind: PackKind
    size: int
    prefixes: bytes
    lengths: Words

    @property
    def entries(self) -> int:
        """How many records."""
        return len(self.lengths)

    def offsets(self) -> Words:
        """Where each record starts."""
        plain = self.lengths & np.uint32(RAW_BIT - 1)
        ends = np.cumsum(plain, dtype=np.uint64) + HEADER
        return (ends - plain).astype(np.uint32)

    def agrees_with(self, other: "PackFacts") -> bool:
        """Is the same said there?"""
        mine, theirs = (
            (self.name, self.kind, self.size, self.prefixes),
            (other.name, other.kind, other.size, other.prefixes),
        )
        return mine == theirs and np.array_equal(self.lengths, other.lengths)

    def records(self) -> Iterator[Record]:
        """The records, their ids cut to references; the lengths of chunks are not known here."""
        for at, (offset, length) in enumerate(zip(self.offsets().tolist(), self.lengths.tolist(), strict=True)):
            chunk = ChunkId(self.prefixes[at * REFERENCE : (at + 1) * REFERENCE])
            yield Record(chunk, offset, length & ~RAW_BIT, bool(length & RAW_BIT), 0)


def facts_of(directory: Directory) -> PackFacts:
    """The facts that a pack's own directory gives."""
    return PackFacts(
        directory.name,
        directory.kind,
        directory.size,
        b"".join(record.chunk[:REFERENCE] for record in directory.records),
        np.array([record.length_word for record in directory.records], dtype=np.uint32),
    )


def in_batches(packs: Iterable[PackFacts]) -> Iterator[list[PackFacts]]:
    """The facts in as many lists as there must be segments."""
    batch: list[PackFacts] = []
    entries = 0
    for pack in packs:
        if batch and entries + pack.entries > ENTRY_LIMIT:
            yield batch
            batch, entries = [], 0
        batch.append(pack)
        entries += pack.entries
    if batch:
        yield batch


def segments_of(packs: Iterable[PackFacts], keyring: Keyring, entropy: Entropy) -> Iterator[tuple[str, bytes]]:
    """The facts as segments, as many as there must be: of each a name that nobody had before, and its blob."""
    for batch in in_batches(packs):
        name = entropy(16).hex()
        yield name, encode_segment(name, batch, keyring, entropy)


def encode_segment(name: str, packs: Sequence[PackFacts], keyring: Keyring, entropy: Entropy) -> bytes:
    """The blob `index/<name>`."""
    entries = sum(pack.entries for pack in packs)
    assert entries <= ENTRY_LIMIT
    lengths = np.concatenate([pack.lengths for pack in packs] or [np.empty(0, np.uint32)]).astype("<u4")
    shuffled = np.ascontiguousarray(lengths.view(np.uint8).reshape(-1, 4).T).tobytes()
    plaintext = b"".join(
        (
            _COUNTS.pack(len(packs), entries),
            *(
                _PACK.pack(bytes.fromhex(pack.name.owner), pack.name.number, pack.kind, pack.entries, pack.size)
                for pack in packs
            ),
            *(pack.prefixes for pack in packs),
            zstandard.ZstdCompressor(level=3).compress(shuffled),
        )
    )
    return _MAGIC + seal_box(keyring.cipher("index", name), plaintext, entropy)


def decode_segment(name: str, blob: Buffer, keyring: Keyring) -> list[PackFacts]:
    """The facts in the blob `index/<name>`. Raises Damaged."""
    what = f"index segment {name}"
    view = memoryview(blob)
    if bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise Damaged(f"{what} does not start with its magic")
    try:
        plaintext = memoryview(open_box(keyring.cipher("index", name), view[len(_MAGIC) :]))
        return _parse(plaintext)
    except Damaged as error:
        raise Damaged(f"{what} is damaged: {error.message}") from error


def _parse(plaintext: memoryview) -> list[PackFacts]:
    if len(plaintext) < _COUNTS.size:
        raise Damaged("it is cut short")
    packs, entries = _COUNTS.unpack(plaintext[: _COUNTS.size])
    prefixes_start = _COUNTS.size + packs * _PACK.size
    lengths_start = prefixes_start + entries * REFERENCE
    if entries > ENTRY_LIMIT or len(plaintext) < lengths_start:
        raise Damaged("it is cut short")
    shuffled = expand_frame(plaintext[lengths_start:], 4 * entries)
    if len(shuffled) != 4 * entries:
        raise Damaged("it lacks lengths")
    lengths = np.ascontiguousarray(np.frombuffer(shuffled, np.uint8).reshape(4, entries).T).view("<u4").reshape(-1)
    found, first = [], 0
    for at in range(_COUNTS.size, prefixes_start, _PACK.size):
        owner, number, kind, count, size = _PACK.unpack(plaintext[at : at + _PACK.size])
        if kind not in list(PackKind) or first + count > entries:
            raise Damaged("its packs do not add up to its entries")
        _check_room(lengths[first : first + count], size)
        prefixes = bytes(plaintext[prefixes_start + first * REFERENCE : prefixes_start + (first + count) * REFERENCE])
        found.append(
            PackFacts(PackName(owner.hex(), number), PackKind(kind), size, prefixes, lengths[first : first + count])
        )
        first += count
    if first != entries:
        raise Damaged("its packs do not add up to its entries")
    return found


def _check_room(lengths: Words, size: int) -> None:
    """Whoever reads a record takes memory for what is stated of it."""
    if size > PACK_LIMIT or HEADER + int(np.sum(lengths & np.uint32(RAW_BIT - 1), dtype=np.uint64)) > size:
        raise Damaged("it states records beyond the end of their pack")
