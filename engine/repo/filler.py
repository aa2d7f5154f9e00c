"""Filling packs with records that others have opened, and sending each when it is full."""

from engine.pages import pages
from engine.repo.pack import ChunkId, Directory, PackBuilder, PackKind, PackName
from engine.repo.repository import Repository
from engine.repo.segment import PackFacts, facts_of
from engine.repo.session import PACK_TARGET
from engine.store.base import Buffer


class PackFiller:
    """Packs of one owner, a number for each. One thread; `finish` belongs at the end. `facts` tells of those that were sent.

    Memory: a pack of each kind.
    """

    def __init__(self, repository: Repository, owner: str, pack_size: int = PACK_TARGET) -> None:
        self._repository, self._owner, self._pack_size = repository, owner, pack_size
        self._next_number = 0
        self._packs: dict[PackKind, PackBuilder] = {}
        self._buffers: dict[PackKind, memoryview] = {}
        self.facts: list[PackFacts] = []

    def add(self, kind: PackKind, chunk: ChunkId, payload: Buffer, *, raw: bool, blocks: int) -> None:
        """Put a record into the present pack of its kind. No chunk may come twice."""
        if kind in self._packs and not self._packs[kind].fits(len(payload)):
            self._send(kind)
        if kind not in self._packs:
            self._packs[kind] = self._new_pack(kind)
        self._packs[kind].add(chunk, payload, raw=raw, blocks=blocks)

    def finish(self) -> None:
        """Send the packs that are not full."""
        for kind in list(self._packs):
            self._send(kind)

    def _new_pack(self, kind: PackKind) -> PackBuilder:
        if kind not in self._buffers:
            self._buffers[kind] = memoryview(pages(self._pack_size))
        name = PackName(self._owner, self._next_number)
        self._next_number += 1
        return PackBuilder(name, kind, self._buffers[kind], self._repository.keyring, self._repository.entropy)

    def _send(self, kind: PackKind) -> None:
        pack = self._packs.pop(kind)
        blob = pack.finish()
        self._repository.store.create(pack.name.key, blob)
        self.facts.append(facts_of(Directory(pack.name, kind, len(blob), tuple(pack.records))))
