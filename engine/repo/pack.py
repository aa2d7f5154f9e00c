"""Packs: many chunks in one blob, and a directory of them (rok-repository(5), PACKS)."""

import re
import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final, NewType

import numpy as np

from engine.errors import Damaged
from engine.repo.seal import NONCE, TAG, Entropy, Keyring, open_box, seal_box
from engine.store.base import Buffer
from engine.units import MIB
from engine.values import dataclass

PACK_LIMIT: Final = 64 * MIB
HEADER: Final = 32
TRAILER: Final = 16
RAW_BIT: Final = 1 << 31
ID: Final = 32

ChunkId = NewType("ChunkId", bytes)

_MAGIC: Final = b"ROKPACK\x01"
_TAIL_MAGIC: Final = b"ROKTAIL\x01"
_HEADER: Final = struct.Struct("<8sB3x16sI")
_TRAILER: Final = struct.Struct("<8sII")
_PER_ENTRY: Final = ID + 4 + 2
_KEY: Final = re.compile(r"pack/([0-9a-f]{32})-([0-9a-f]{8})")


class PackKind(IntEnum):
    """What a pack holds."""

    CHUNKS = 1
    MAPS = 2


@dataclass(frozen=True, slots=True, order=True)
class PackName:
    """`<owner>-<number>`: the session that wrote it, and a count from 0."""

    owner: str
    number: int

    def __str__(self) -> str:
        return f"{self.owner}-{self.number:08x}"

    @property
    def key(self) -> str:
        """Where the store keeps it."""
        return f"pack/{self}"


def parse_pack_key(key: str) -> PackName | None:
    """The name in a store's key; None when the key is no pack's."""
    match = _KEY.fullmatch(key)
    return PackName(match[1], int(match[2], 16)) if match else None


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a directory. `length` is the sealed length in bytes; `blocks` is 0 for a map."""

    chunk: ChunkId
    offset: int
    length: int
    raw: bool
    blocks: int

    @property
    def length_word(self) -> int:
        """The length as directories and segments write it: bit 31 is set where the payload is raw."""
        return self.length | (RAW_BIT if self.raw else 0)


@dataclass(frozen=True, slots=True)
class Directory:
    """What a pack says of itself."""

    name: PackName
    kind: PackKind
    size: int
    records: tuple[Record, ...]


class PackBuilder:
    """Fills one buffer with sealed records. One thread at a time.

    `buffer` is the caller's, and holds the blob after `finish`.
    """

    def __init__(
        self, name: PackName, kind: PackKind, buffer: bytearray | memoryview, keyring: Keyring, entropy: Entropy
    ) -> None:
        self.name = name
        self.kind = kind
        self._entropy = entropy
        self._cipher = keyring.cipher("pack", str(name))
        self._directory_cipher = keyring.cipher("pack directory", str(name))
        self.buffer = memoryview(buffer)
        self.records: list[Record] = []
        self._end = HEADER
        self._header = _HEADER.pack(_MAGIC, kind, bytes.fromhex(name.owner), name.number)
        self.buffer[:HEADER] = self._header

    def fits(self, payload_length: int) -> bool:
        """Is there room for one more record with such a payload, and the directory after it?"""
        return self._end + payload_length + TAG + self._closing(len(self.records) + 1) <= len(self.buffer)

    @staticmethod
    def _closing(entries: int) -> int:
        return NONCE + 4 + entries * _PER_ENTRY + TAG + TRAILER

    def add(self, chunk: ChunkId, payload: Buffer, *, raw: bool, blocks: int) -> None:
        """Seal the payload of a chunk into the buffer. The chunk must not be in this pack yet: its id is its nonce."""
        length = len(payload) + TAG
        self._cipher.seal_into(chunk[:NONCE], payload, self.buffer[self._end : self._end + length])
        self.records.append(Record(chunk, self._end, length, raw, blocks))
        self._end += length

    def finish(self) -> memoryview:
        """Write the directory and give the whole blob, a view of the buffer."""
        records = self.records
        assert len({record.chunk[:NONCE] for record in records}) == len(records), "a chunk twice in one pack"
        plaintext = b"".join(
            (
                len(records).to_bytes(4, "little"),
                b"".join(record.chunk for record in records),
                np.array([record.length_word for record in records], dtype="<u4").tobytes(),
                np.array([r.blocks for r in records], dtype="<u2").tobytes(),
            )
        )
        box = seal_box(self._directory_cipher, plaintext, self._entropy, self._header)
        end = self._end
        self.buffer[end : end + len(box)] = box
        end += len(box)
        self.buffer[end : end + TRAILER] = _TRAILER.pack(_TAIL_MAGIC, len(box), 0)
        return self.buffer[: end + TRAILER]


def read_directory(name: PackName, size: int, read: Callable[[int, int], Buffer], keyring: Keyring) -> Directory:
    """The directory of a pack of `size` bytes, by two or three small reads `read(offset, length)`. Raises Damaged."""
    what = f"pack {name}"
    if not HEADER + BOX_MINIMUM + TRAILER <= size <= PACK_LIMIT:
        raise Damaged(f"{what} has an impossible size of {size} bytes")
    tail_length = min(size, _TAIL_READ)
    tail = memoryview(read(size - tail_length, tail_length))
    if len(tail) != tail_length:
        raise Damaged(f"{what} is cut short")
    magic, box_length, zero = _TRAILER.unpack(tail[-TRAILER:])
    if magic != _TAIL_MAGIC or zero or not BOX_MINIMUM <= box_length <= size - HEADER - TRAILER:
        raise Damaged(f"{what} does not end as a pack does")
    box_start = size - TRAILER - box_length
    if box_start >= size - tail_length:
        box = tail[tail_length - TRAILER - box_length : -TRAILER]
    else:
        box = memoryview(read(box_start, box_length))
    header = bytes(read(0, HEADER))
    kind = _check_header(name, header)
    try:
        plaintext = open_box(keyring.cipher("pack directory", str(name)), box, header)
    except Damaged as error:
        raise Damaged(f"the directory of {what} is damaged: {error.message}") from error
    return Directory(name, kind, size, _parse_directory(what, plaintext, box_start))


BOX_MINIMUM: Final = NONCE + 4 + TAG
_TAIL_READ: Final = 64 * 1024


def _check_header(name: PackName, header: bytes) -> PackKind:
    if len(header) != HEADER:
        raise Damaged(f"pack {name} is cut short")
    magic, kind, owner, number = _HEADER.unpack(header)
    if magic != _MAGIC or (owner.hex(), number) != (name.owner, name.number) or kind not in list(PackKind):
        raise Damaged(f"pack {name} does not start as that pack does")
    return PackKind(kind)


def _parse_directory(what: str, plaintext: Buffer, records_end: int) -> tuple[Record, ...]:
    view = memoryview(plaintext)
    count = int.from_bytes(view[:4], "little")
    if len(view) != 4 + count * _PER_ENTRY:
        raise Damaged(f"the directory of {what} is of the wrong length")
    ids = bytes(view[4 : 4 + count * ID])
    lengths_end = 4 + count * (ID + 4)
    lengths = np.frombuffer(view[4 + count * ID : lengths_end], dtype="<u4").tolist()
    blocks = np.frombuffer(view[lengths_end:], dtype="<u2").tolist()
    if any(length & ~RAW_BIT <= TAG for length in lengths):
        raise Damaged(f"the directory of {what} has a record that is shorter than its tag")
    records = tuple(_records(ids, lengths, blocks))
    if (records[-1].offset + records[-1].length if records else HEADER) != records_end:
        raise Damaged(f"the directory of {what} does not add up to its records")
    return records


def _records(ids: bytes, lengths: Sequence[int], blocks: Sequence[int]) -> list[Record]:
    records, offset = [], HEADER
    for number, (length, count) in enumerate(zip(lengths, blocks, strict=True)):
        sealed = length & ~RAW_BIT
        chunk = ChunkId(ids[number * ID : (number + 1) * ID])
        records.append(Record(chunk, offset, sealed, bool(length & RAW_BIT), count))
        offset += sealed
    return records
