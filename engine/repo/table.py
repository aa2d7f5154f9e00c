"""A table: what segments of the index state, sorted for look-up, in one file that never changes (rok-design(7), CACHE).

The file is mapped, so that what is looked at alone takes memory. It may be one in memory (memfd_create(2)). Numbers are in
the order of the machine's bytes, because no other machine reads it. After a header come these columns:

    highs    u64 x entries        the first halves of the prefixes, sorted
    lows     u64 x entries        the other halves
    records  u32 x entries        which record it is
    starts   u32 x (entries+packs)  of each record, pack after pack, where it starts, bit 31 set where it is raw; after the
                                  records of a pack one more: where the last ends
    fan      u32 x (2^bits + 1)   see `keys`
    segments S200 x segments      their names
    packs    row x packs          name, kind, number of the segment, size, number of the first record, a hash of what is stated

A pack has a row for each segment that states it, and each row has records of its own. That costs nothing while packs are
stated once, and makes forgetting a segment a matter of its rows alone.
"""

import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from sys import intern
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xxhash
from blake3 import blake3

from engine.errors import Damaged
from engine.repo.cache import Mask, Part
from engine.repo.keys import (
    Longs,
    Positions,
    SortedKeys,
    Words,
    add_to_fan,
    all_halves,
    fan_bits,
    fan_of,
    range_bits,
    view,
)
from engine.repo.pack import HEADER, RAW_BIT, PackKind, PackName
from engine.repo.segment import PackFacts
from engine.store.base import KEY_LIMIT
from engine.units import MIB
from engine.values import dataclass

Rows = npt.NDArray[np.void]

_MAGIC: Final = b"ROKTABL\x01"
_HEAD: Final = struct.Struct("=8s16s4Q7QQ8x")  # magic, repository, shape, a checksum for each column, one of all this
_ROW: Final = np.dtype(
    [("name", "S41"), ("kind", "u1"), ("segment", "u4"), ("size", "u4"), ("first", "u4"), ("said", "V16")]
)
_HIGHS, _LOWS, _RECORDS, _STARTS, _FAN, _SEGMENTS, _PACKS = range(7)
_TYPES: Final[tuple[np.dtype[Any], ...]] = (
    *[np.dtype("u8")] * 2,
    *[np.dtype("u4")] * 3,
    np.dtype(f"S{KEY_LIMIT}"),
    _ROW,
)
_RELEASE_EVERY: Final = 16  # ranges
_ROWS_AT_ONCE: Final = 1 << 12
_PLAIN: Final = RAW_BIT - 1
_NO_REPOSITORY: Final = bytes(16).hex()


@dataclass(frozen=True, slots=True)
class _Shape:
    """How much there is of everything."""

    entries: int
    packs: int
    segments: int
    bits: int

    def extents(self) -> list[tuple[int, int]]:
        """Where each column starts, and of how many bytes it is."""
        counts = [self.entries] * 3 + [self.entries + self.packs, (1 << self.bits) + 1, self.segments, self.packs]
        sizes = [count * kind.itemsize for count, kind in zip(counts, _TYPES, strict=True)]
        return list(zip(accumulate(sizes[:-1], initial=_HEAD.size), sizes, strict=True))

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        start, length = self.extents()[-1]
        return start + length


class Table:
    """A table to look things up in. Entries are told by their position, packs by their row."""

    def __init__(self, mapped: mmap.mmap, shape: _Shape) -> None:
        columns = [
            np.frombuffer(mapped, kind, length // kind.itemsize, start)
            for kind, (start, length) in zip(_TYPES, shape.extents(), strict=True)
        ]
        self._map = mapped
        self.keys = SortedKeys(columns[_HIGHS], columns[_LOWS], columns[_FAN])
        self._records: Words = columns[_RECORDS]
        self._starts: Words = columns[_STARTS]
        self.names: list[str] = columns[_SEGMENTS].astype(f"U{KEY_LIMIT}").tolist()
        self._rows: Rows = columns[_PACKS]
        self.firsts: Words = np.array(self._rows["first"], np.uint32)  # aligned
        # Memoryviews of the same, for one look-up at a time.
        self._record, self._start, self._first = map(view, (self._records, self._starts, self.firsts))

    @cached_property
    def packs(self) -> list[str]:
        """The packs' names, row after row."""
        names: list[str] = self._rows["name"].astype("U41").tolist()
        return names

    @property
    def sizes(self) -> Words:
        """Of the packs, in bytes."""
        sizes: Words = self._rows["size"]
        return sizes

    @cached_property
    def said(self) -> list[bytes]:
        """Of the packs: a hash of what is stated."""
        said: list[bytes] = self._rows["said"].tolist()
        return said

    @property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """Of the packs: values of PackKind."""
        kinds: npt.NDArray[np.uint8] = self._rows["kind"]
        return kinds

    @property
    def counts(self) -> Positions:
        """How many entries each pack has."""
        return np.diff(self.firsts, append=np.uint32(len(self._starts))).astype(np.int64) - 1

    @property
    def slots(self) -> int:
        """Records are numbered below this; one number after the last record of each pack is of none."""
        return len(self._starts)

    def records(self, start: int, end: int) -> Words:
        """The records of the entries from one position to another."""
        return self._records[start:end]

    def records_in(self, rows: Mask) -> Mask:
        """Of each number below `slots`, whether it is of a pack in these rows."""
        return np.repeat(rows, self.counts + 1)

    def record_bytes(self, chosen: Mask | None = None) -> Positions:
        """Of each pack, how many bytes its records take: all of them, or the chosen ones. Nothing stays mapped in."""
        counts, sums = self.counts, [np.empty(0, np.int64)]
        for row in range(0, len(counts), _ROWS_AT_ONCE):
            firsts, some = self.firsts[row : row + _ROWS_AT_ONCE].astype(np.int64), counts[row : row + _ROWS_AT_ONCE]
            start, end = int(firsts[0]), int(firsts[-1] + some[-1])
            starts = self._starts[start : end + 1] & np.uint32(_PLAIN)
            if chosen is None:
                sums.append(starts[firsts - start + some].astype(np.int64) - HEADER)
            else:
                lengths = np.where(chosen[start : end + 1], np.diff(starts, append=np.uint32(0)), 0)
                sums.append(np.add.reduceat(lengths, firsts - start, dtype=np.int64))
            self.release()
        return np.concatenate(sums)

    def weigh(self, chosen: Mask) -> int:
        """How many entries the chosen segments state."""
        return int(self.counts[self.rows_by(chosen)].sum())

    def rows_by(self, chosen: Mask) -> Mask:
        """The packs that the chosen segments state."""
        rows: Mask = chosen[self._rows["segment"]]
        return rows

    def pack(self, row: int) -> PackName:
        """The name of one pack."""
        owner, _, number = self._rows["name"][row].decode().partition("-")
        return PackName(intern(owner), int(number, 16))  # one string for all packs of a session

    def facts(self, row: int) -> PackFacts:
        """All that is stated of one pack. It takes a look at every entry."""
        first, count = int(self.firsts[row]), int(self.counts[row])
        at = np.flatnonzero((self._records >= first) & (self._records < first + count))
        at = at[np.argsort(self._records[at])]
        both = np.stack([self.keys.highs[at], self.keys.lows[at]], axis=1)
        _, lengths, raw = self.places(at)
        lengths |= raw.astype(np.uint32) << np.uint32(31)
        kind, size = PackKind(int(self.kinds[row])), int(self.sizes[row])
        return PackFacts(self.pack(row), kind, size, both.astype(">u8").tobytes(), lengths)

    def rows_of_segment(self, segment: int) -> range:
        """The packs that one segment, by its number, states, in its order."""
        first, end = np.searchsorted(self._rows["segment"], [segment, segment + 1]).tolist()
        return range(first, end)

    def row(self, at: int) -> int:
        """The pack of an entry."""
        return bisect_right(self._first, self._record[at]) - 1

    def place(self, at: int) -> tuple[int, int, bool]:
        """Where an entry's record is: offset, length, whether it is raw."""
        record = self._record[at]
        word = self._start[record]
        offset = word & _PLAIN
        return offset, (self._start[record + 1] & _PLAIN) - offset, bool(word & RAW_BIT)

    def records_of(self, at: Positions) -> Words:
        """The records of many entries."""
        return self._records[at]

    def rows_of(self, at: Positions) -> Positions:
        """The packs of many entries."""
        return self._rows_of(self._records[at])

    def _rows_of(self, records: Words) -> Positions:
        return np.searchsorted(self.firsts, records, side="right") - 1

    def places(self, at: Positions) -> tuple[Words, Words, Mask]:
        """Where the records of many entries are."""
        records = self._records[at].astype(np.int64)
        words = self._starts[records]
        offsets = words & np.uint32(_PLAIN)
        return offsets, (self._starts[records + 1] & np.uint32(_PLAIN)) - offsets, words > np.uint32(_PLAIN)

    def release(self) -> None:
        """Let go of the memory of what was looked at; it is mapped in again when it is next needed."""
        self._map.madvise(mmap.MADV_DONTNEED)


def write_table(file: int, repository: str, segments: Sequence[tuple[str, Sequence[PackFacts]]]) -> None:
    """Write a table of what segments, by name, state. `file` is an empty file's descriptor. Raises OSError."""
    packs = [pack for _, stated in segments for pack in stated]
    counts = np.array([pack.entries for pack in packs], dtype=np.int64)
    rows = np.empty(len(packs), _ROW)
    rows["name"] = [str(pack.name).encode() for pack in packs]
    rows["kind"] = [pack.kind for pack in packs]
    rows["segment"] = np.repeat(np.arange(len(segments)), [len(stated) for _, stated in segments])
    rows["size"] = [pack.size for pack in packs]
    rows["said"] = np.frombuffer(b"".join(map(said_of, packs)), "V16")
    rows["first"] = np.cumsum(counts + 1) - (counts + 1)
    records = np.arange(counts.sum()) + np.repeat(np.arange(len(packs)), counts)
    lengths = np.concatenate([pack.lengths for pack in packs] or [np.empty(0, np.uint32)])
    highs, lows = all_halves(b"".join(pack.prefixes for pack in packs))
    order = np.argsort(highs)
    writer = _Writer(file, repository, [name for name, _ in segments], rows, len(records))
    writer.append(_STARTS, _starts(lengths, records, rows["first"], counts))
    writer.append_keys(highs[order], lows[order], records[order])
    writer.finish()


def said_of(pack: PackFacts) -> bytes:
    """By this two statements about a pack can be compared."""
    return blake3(b"".join((bytes((pack.kind,)), pack.lengths.tobytes(), pack.prefixes))).digest(length=16)


def table_in_memory(segments: Sequence[tuple[str, Sequence[PackFacts]]]) -> Table:
    """A table of what segments, by name, state, of this process alone."""
    file = os.memfd_create("table")
    try:
        write_table(file, _NO_REPOSITORY, segments)
        return open_table(file, _NO_REPOSITORY)
    finally:
        os.close(file)


def _starts(lengths: Words, records: Positions, firsts: Words, counts: Positions) -> Words:
    """The column."""
    plain = np.zeros(len(lengths) + len(counts), np.uint64)
    plain[records] = lengths & np.uint32(_PLAIN)
    before = np.cumsum(plain) - plain
    before -= np.repeat(before[firsts], counts + 1)
    assert int(before.max(initial=0)) + HEADER <= _PLAIN, (
        "neither segments nor directories state more than a pack has room for"
    )
    starts: Words = (before + np.uint64(HEADER)).astype(np.uint32)
    starts[records] |= lengths & np.uint32(RAW_BIT)
    return starts


def fold_tables(file: int, repository: str, parts: Sequence[Part[Table]]) -> None:
    """Write one table of what counts in several. Takes little memory, however large they are. Raises OSError."""
    picked = [_Picked(part) for part in parts]
    names = [name for one in picked for name in one.segments]
    segment_bases = accumulate((len(one.segments) for one in picked[:-1]), initial=0)
    record_bases = list(accumulate((one.records for one in picked[:-1]), initial=0))
    rows = np.concatenate([one.rows(*bases) for one, *bases in zip(picked, segment_bases, record_bases, strict=True)])
    entries = sum(one.records for one in picked) - len(rows)
    writer = _Writer(file, repository, names, rows, entries)
    for one in picked:
        writer.append(_STARTS, one.starts())
    bits = range_bits(entries)
    edges = [part.layer.keys.edges(bits) for part in parts]
    for number in range(1 << bits):
        slices = [
            one.keys(int(edge[number]), int(edge[number + 1]), base)
            for one, edge, base in zip(picked, edges, record_bases, strict=True)
        ]
        highs, lows, records = (np.concatenate(column) for column in zip(*slices, strict=True))
        order = np.argsort(highs)
        writer.append_keys(highs[order], lows[order], records[order])
        if number % _RELEASE_EVERY == 0:
            for part in parts:
                part.layer.release()
    writer.finish()


class _Picked:
    """What counts of one table, numbered anew."""

    def __init__(self, part: Part[Table]) -> None:
        self._table, self._chosen, self._kept = part.layer, part.chosen, part.layer.rows_by(part.chosen)
        self._all = bool(self._kept.all())
        slots = part.layer.counts + 1  # in the column of starts
        self._slots = slots
        self._new_firsts = np.cumsum(slots * self._kept) - slots * self._kept
        self._shifts = self._new_firsts - part.layer.firsts
        self.segments = [name for name, chosen in zip(part.layer.names, part.chosen, strict=True) if chosen]
        self.records = int((slots * self._kept).sum())

    def rows(self, segment_base: int, record_base: int) -> Rows:
        """Its packs."""
        rows = self._table._rows[self._kept].copy()
        rows["segment"] = (np.cumsum(self._chosen) - 1)[rows["segment"]] + segment_base
        rows["first"] = self._new_firsts[self._kept] + record_base
        return rows

    def starts(self) -> Words:
        """Its part of that column."""
        starts = self._table._starts
        return starts if self._all else starts[np.repeat(self._kept, self._slots)]

    def keys(self, start: int, end: int, record_base: int) -> tuple[Longs, Longs, Positions]:
        """Those entries of the positions [start, end) that count."""
        highs, lows = self._table.keys.highs[start:end], self._table.keys.lows[start:end]
        records = self._table._records[start:end].astype(np.int64)
        if self._all:
            return highs, lows, records + record_base
        rows = self._table._rows_of(self._table._records[start:end])
        kept = self._kept[rows]
        return highs[kept], lows[kept], (records + self._shifts[rows] + record_base)[kept]


class _Writer:
    """Writes the columns of a table, each piece by piece, and the header last: a file that was not finished has none."""

    def __init__(self, file: int, repository: str, segments: Sequence[str], rows: Rows, entries: int) -> None:
        assert entries + len(rows) < 1 << 32, "records are numbered by 32 bits"
        self._file, self._repository = file, repository
        self._shape = _Shape(entries, len(rows), len(segments), fan_bits(entries))
        self._ends = [start for start, _ in self._shape.extents()]
        self._sums = [xxhash.xxh3_64() for _ in _TYPES]
        self._counts = np.zeros(1 << self._shape.bits, np.int64)
        self.append(_SEGMENTS, np.array([name.encode() for name in segments], dtype=_TYPES[_SEGMENTS]))
        self.append(_PACKS, rows)

    def append(self, column: int, piece: npt.NDArray[Any]) -> None:
        """Write the next piece of a column."""
        if piece.size:
            rest = np.ascontiguousarray(piece.astype(_TYPES[column], copy=False)).view(np.uint8).data
            self._sums[column].update(rest)
            while rest:
                written = os.pwrite(self._file, rest, self._ends[column])
                self._ends[column] += written
                rest = rest[written:]

    def append_keys(self, highs: Longs, lows: Longs, records: Positions) -> None:
        """Write the next entries, which are sorted and come after all before them."""
        add_to_fan(self._counts, highs)
        for column, piece in ((_HIGHS, highs), (_LOWS, lows), (_RECORDS, records)):
            self.append(column, piece)

    def finish(self) -> None:
        """Write what comes last."""
        self.append(_FAN, fan_of(self._counts))
        assert self._ends == [start + length for start, length in self._shape.extents()]
        shape = self._shape
        fields = (
            bytes.fromhex(self._repository),
            *(shape.entries, shape.packs, shape.segments, shape.bits),
            *(total.intdigest() for total in self._sums),
        )
        head = _HEAD.pack(_MAGIC, *fields, 0)
        os.pwrite(self._file, _HEAD.pack(_MAGIC, *fields, xxhash.xxh3_64_intdigest(head)), 0)


def open_table(file: int, repository: str) -> Table:
    """Map the table in a file, after reading all of it once to compare its checksums; the descriptor may be closed then.

    Raises Damaged when it is no whole table of that repository, and OSError.
    """
    head = os.pread(file, _HEAD.size, 0)
    if len(head) != _HEAD.size:
        raise Damaged("it is cut short")
    magic, owner, *numbers, total = _HEAD.unpack(head)
    if magic != _MAGIC or owner != bytes.fromhex(repository):
        raise Damaged("it is no table of this repository")
    if total != xxhash.xxh3_64_intdigest(_HEAD.pack(magic, owner, *numbers, 0)):
        raise Damaged("its header is damaged")
    shape, sums = _Shape(*numbers[:4]), numbers[4:]
    if os.fstat(file).st_size != shape.size:
        raise Damaged("it is of the wrong length")
    for (start, length), expected in zip(shape.extents(), sums, strict=True):
        if _sum_of(file, start, length) != expected:
            raise Damaged("its bytes are not what was written")
    return Table(mmap.mmap(file, shape.size, mmap.MAP_SHARED, mmap.PROT_READ), shape)


def _sum_of(file: int, start: int, length: int) -> int:
    """Read through a buffer and not through the mapping, which would count all of it to our memory."""
    buffer = memoryview(bytearray(min(MIB, length)))
    total, end = xxhash.xxh3_64(), start + length
    while start < end:
        read = os.preadv(file, [buffer[: end - start]], start)
        if not read:
            raise Damaged("it is cut short")
        total.update(buffer[:read])
        start += read
    return total.intdigest()
