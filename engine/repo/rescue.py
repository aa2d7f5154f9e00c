"""Copying chunks and maps out of packs that are to go, into new ones."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from blake3 import blake3

from engine.chunk.identity import chunk_id
from engine.errors import Damaged
from engine.repo.document import expand_frame
from engine.repo.map import BLOCK, CHUNK_LIMIT, REFERENCE
from engine.repo.pack import ID, ChunkId, Directory, PackBuilder, PackKind, PackName, Record
from engine.repo.repository import Repository
from engine.repo.seal import NONCE
from engine.repo.segment import PackFacts, encode_segment, facts_of
from engine.repo.session import PACK_TARGET, SEGMENT_PACKS
from engine.store.base import Buffer, NoSuchBlob
from engine.units import KIB, MIB

_SPAN_LIMIT: Final = 4 * MIB
_SPAN_GAP: Final = 64 * KIB


class Rescue:
    """Writes what it is given into packs of an owner that nobody had before. One thread; `finish` belongs at the end.

    Memory: two packs.
    """

    def __init__(self, repository: Repository, pack_size: int = PACK_TARGET) -> None:
        self._repository, self._pack_size = repository, pack_size
        self._owner = repository.entropy(16).hex()
        self._count = 0
        self._packs: dict[PackKind, PackBuilder] = {}
        self._buffers: dict[PackKind, bytearray] = {}
        self._facts: list[PackFacts] = []
        self._chunk_key = repository.keyring.subkey("chunk id")
        self._map_key = repository.keyring.subkey("map id")
        self.taken: set[bytes] = set()  # references of what was copied
        self.copied = 0  # bytes of sealed records

    def copy(self, source: Directory, records: Sequence[Record]) -> None:
        """Copy those of these records of a pack that can be read as they were written, and that were not copied before.

        Raises NoSuchBlob when the pack is gone.
        """
        wanted = [record for record in records if record.chunk[:REFERENCE] not in self.taken]
        for record, payload in _payloads(self._repository, source, wanted):
            self._add(source.kind, self._completed(source.kind, record, payload), payload)

    def _completed(self, kind: PackKind, record: Record, payload: Buffer) -> Record:
        """The record as a directory has it, where only an index segment told of it."""
        if len(record.chunk) == ID:
            return record
        if kind is PackKind.MAPS:
            return replace(record, chunk=ChunkId(blake3(payload, key=self._map_key).digest()))
        body = payload if record.raw else expand_frame(payload, CHUNK_LIMIT)
        return replace(record, chunk=ChunkId(chunk_id(self._chunk_key, body)), blocks=len(body) // BLOCK)

    def _add(self, kind: PackKind, record: Record, payload: Buffer) -> None:
        pack = self._packs.get(kind)
        if pack is not None and not pack.fits(len(payload)):
            self._send(kind)
            pack = None
        if pack is None:
            pack = self._packs[kind] = self._new_pack(kind)
        pack.add(record.chunk, payload, raw=record.raw, blocks=record.blocks)
        self.taken.add(bytes(record.chunk[:REFERENCE]))
        self.copied += record.length

    def finish(self) -> None:
        """Send what is left, and state the facts: from here on the copies are as good as the originals."""
        for kind in list(self._packs):
            self._send(kind)
        self._state()

    def _new_pack(self, kind: PackKind) -> PackBuilder:
        buffer = self._buffers.setdefault(kind, bytearray(self._pack_size))
        name, repository = PackName(self._owner, self._count), self._repository
        self._count += 1
        return PackBuilder(name, kind, buffer, repository.keyring, repository.entropy)

    def _send(self, kind: PackKind) -> None:
        pack = self._packs.pop(kind)
        blob = pack.finish()
        self._repository.store.create(pack.name.key, blob)
        self._facts.append(facts_of(Directory(pack.name, kind, len(blob), tuple(pack.records))))
        if len(self._facts) >= SEGMENT_PACKS:
            self._state()

    def _state(self) -> None:
        if self._facts:
            repository, name = self._repository, self._repository.entropy(16).hex()
            segment = encode_segment(name, self._facts, repository.keyring, repository.entropy)
            repository.store.create(f"index/{name}", segment)
            self._facts = []


def readable(repository: Repository, pack: Directory, records: Sequence[Record]) -> set[bytes]:
    """The references of those of these records of a pack that can be read as they were written; of none when it is gone."""
    with suppress(NoSuchBlob):
        return {bytes(record.chunk[:REFERENCE]) for record, _ in _payloads(repository, pack, records)}
    return set()


def _payloads(repository: Repository, pack: Directory, records: Iterable[Record]) -> Iterator[tuple[Record, Buffer]]:
    """What the records hold, opened; damaged ones are left out. Raises NoSuchBlob."""
    cipher = repository.keyring.cipher("pack", str(pack.name))
    for span in _spans(records):
        start = span[0].offset
        length = span[-1].offset + span[-1].length - start
        sealed = memoryview(repository.store.get_range(pack.name.key, start, length))
        for record in span:
            at = record.offset - start
            try:
                payload = cipher.open(record.chunk[:NONCE], sealed[at : at + record.length])
            except Damaged:
                continue
            yield record, payload


def _spans(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Runs of records that one range read serves: close together, and not too long."""
    span: list[Record] = []
    for record in sorted(records, key=lambda one: one.offset):
        if span:
            gap = record.offset - (span[-1].offset + span[-1].length)
            if gap > _SPAN_GAP or record.offset + record.length - span[0].offset > _SPAN_LIMIT:
                yield span
                span = []
        span.append(record)
    if span:
        yield span
