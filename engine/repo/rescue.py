"""Copying chunks and maps out of packs that are to go, into new ones."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from blake3 import blake3

from engine.chunk.codec import expand_frame
from engine.chunk.identity import chunk_id
from engine.errors import Damaged
from engine.repo.filler import PackFiller
from engine.repo.map import BLOCK, CHUNK_LIMIT, REFERENCE
from engine.repo.pack import ID, ChunkId, Directory, PackKind, Record
from engine.repo.repository import Repository
from engine.repo.seal import NONCE
from engine.repo.segment import segments_of
from engine.repo.session import PACK_TARGET, SEGMENT_PACKS
from engine.repo.span import spans
from engine.store.base import Buffer, NoSuchBlob


class Rescue:
    """Writes what it is given into packs of an owner that nobody had before. One thread; `finish` belongs at the end.

    Memory: two packs.
    """

    def __init__(self, repository: Repository, pack_size: int = PACK_TARGET) -> None:
        self._repository = repository
        self._filler = PackFiller(repository, repository.entropy(16).hex(), pack_size)
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
        self._filler.add(kind, record.chunk, payload, raw=record.raw, blocks=record.blocks)
        self.taken.add(bytes(record.chunk[:REFERENCE]))
        self.copied += record.length
        if len(self._filler.facts) >= SEGMENT_PACKS:
            self._state()

    def finish(self) -> None:
        """Send what is left, and state the facts: from here on the copies are as good as the originals."""
        self._filler.finish()
        self._state()

    def _state(self) -> None:
        repository, facts = self._repository, self._filler.facts
        for name, blob in segments_of(facts, repository.keyring, repository.entropy):
            repository.store.create(f"index/{name}", blob)
        facts.clear()


def readable(repository: Repository, pack: Directory, records: Sequence[Record]) -> set[bytes]:
    """The references of those of these records of a pack that can be read as they were written; of none when it is gone."""
    with suppress(NoSuchBlob):
        return {bytes(record.chunk[:REFERENCE]) for record, _ in _payloads(repository, pack, records)}
    return set()


def _payloads(repository: Repository, pack: Directory, records: Iterable[Record]) -> Iterator[tuple[Record, Buffer]]:
    """What the records hold, opened; damaged ones are left out. Raises NoSuchBlob."""
    cipher = repository.keyring.cipher("pack", str(pack.name))
    ordered = sorted(records, key=lambda record: record.offset)
    for span in spans(ordered, lambda record: (pack.name, record.offset, record.length)):
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
