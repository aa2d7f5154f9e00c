"""Examining packs: is each what its name, its directory, and the segments that speak of it say? (rok-repository(5), DAMAGE)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from enum import Enum

from blake3 import blake3

from engine.chunk.codec import Codec
from engine.chunk.identity import chunk_id
from engine.crew import employ
from engine.errors import Damaged
from engine.pages import Scratch
from engine.progress import Progress
from engine.repo.map import BLOCK, CHUNK_LIMIT
from engine.repo.pack import PACK_LIMIT, ChunkId, Directory, PackKind, PackName, Record, read_directory
from engine.repo.repository import Repository
from engine.repo.seal import NONCE, TAG, Keyring
from engine.repo.segment import PackFacts, facts_of
from engine.repo.stated import Believed
from engine.repo.table import said_of
from engine.store.base import Buffer, NoSuchBlob
from engine.values import dataclass


class Fault(Enum):
    """The kinds of damage; scripts go by these words, and the manual says what each breaks and costs."""

    MANIFEST = "manifest"
    TAGS = "tags"
    KEY = "key"
    SEGMENT = "segment"
    FACTS = "facts"
    DIRECTORY = "directory"
    RECORD = "record"
    PACK = "pack"
    CHUNK = "chunk"
    SESSION = "session"
    CONDEMNATION = "condemnation"
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a blob."""

    fault: Fault
    text: str


class Depth(Enum):
    """How closely a pack is looked at: its directory where no facts that fit are known; its directory; every record."""

    FACTS = 0
    DIRECTORY = 1
    RECORDS = 2


@dataclass(slots=True)
class Examined:
    """What packs were found to hold. Adds up over several looks: no pack is read twice."""

    problems: dict[str, Problem] = field(default_factory=dict)  # by blob
    said: dict[PackName, tuple[int, bytes]] = field(
        default_factory=dict
    )  # by packs whose directory was read and is whole
    facts: dict[PackName, PackFacts] = field(
        default_factory=dict
    )  # of those of them of which it was not believed already
    unreadable: set[PackName] = field(default_factory=set)  # whose directory is damaged
    bad: set[tuple[PackName, int]] = field(default_factory=set)  # records, by their offsets
    read: set[PackName] = field(default_factory=set)  # in whole
    bytes_read: int = 0

    @property
    def damaged(self) -> set[PackName]:
        """The packs that something is lost of."""
        return self.unreadable | {pack for pack, _ in self.bad}

    def include(self, other: "Examined") -> None:
        """Add what another worker found; no two look at the same pack."""
        self.problems.update(other.problems)
        self.said.update(other.said)
        self.facts.update(other.facts)
        self.unreadable |= other.unreadable
        self.bad |= other.bad
        self.read |= other.read
        self.bytes_read += other.bytes_read


def examine(
    repository: Repository,
    tasks: Mapping[PackName, tuple[int, Depth]],
    believed: Believed,
    progress: Progress,
    workers: int,
) -> Examined:
    """Look at packs: of each its size, and how closely. Memory: a pack for each worker, and little for each pack.

    With 0 workers the calling thread does it all.
    """
    crew = [_Examiner(repository, believed, progress) for _ in range(max(1, workers))]
    employ(crew, tasks.items(), inline=workers == 0)
    found = Examined()
    for worker in crew:
        found.include(worker.found)
    return found


class _Examiner:
    """One worker: looks at packs, and notes what it finds."""

    def __init__(self, repository: Repository, believed: Believed, progress: Progress) -> None:
        self._store, self._keyring, self._progress = repository.store, repository.keyring, progress
        self._believed = believed
        self._room = RecordRoom()
        self._blob = Scratch(PACK_LIMIT)
        self.found = Examined()

    def do(self, task: tuple[PackName, tuple[int, Depth]]) -> None:
        name, (size, depth) = task
        try:
            if depth is Depth.RECORDS and size <= PACK_LIMIT:
                self._check_records(name, size)
                self._progress.advance(size)
            else:
                self._check_directory(name, size, lambda at, n: self._store.get_range(name.key, at, n))
        except NoSuchBlob:
            return  # a collector has removed it since it was listed

    def finish(self) -> None:
        pass

    def _check_directory(self, name: PackName, size: int, read: Callable[[int, int], Buffer]) -> Directory | None:
        try:
            directory = read_directory(name, size, read, self._keyring)
        except Damaged as error:
            self.found.problems[name.key] = Problem(Fault.DIRECTORY, error.message)
            self.found.unreadable.add(name)
            return None
        facts = facts_of(directory)
        said = self.found.said[name] = size, said_of(facts)
        if self._believed.said(name) != said:
            self.found.facts[name] = facts
        return directory

    def _check_records(self, name: PackName, size: int) -> None:
        memory = self._blob.first(size)
        blob = memory[: self._store.read_into(name.key, 0, memory)]
        self.found.read.add(name)
        self.found.bytes_read += len(blob)
        directory = self._check_directory(name, len(blob), lambda at, n: blob[at : at + n])
        if directory is not None:
            bad = self._bad_records(name, directory.kind, directory.records, blob)
        elif (believed := self._believed.facts(name)) is not None:
            # The records may be good even where the directory is not: a segment says where they are.
            bad = self._bad_records(name, believed.kind, believed.records(), blob)
        else:
            return
        if bad:
            self.found.bad.update((name, record.offset) for record in bad)
            text = f"{len(bad)} of its records are damaged"
            before = self.found.problems.get(name.key)
            problem = Problem(before.fault, f"{before.text}; {text}") if before else Problem(Fault.RECORD, text)
            self.found.problems[name.key] = problem

    def _bad_records(self, name: PackName, kind: PackKind, records: Iterable[Record], blob: memoryview) -> list[Record]:
        opener, bad = RecordOpener(self._keyring, name, kind, self._room), []
        for record in records:
            try:
                opener.check(record, blob)
            except Damaged:
                bad.append(record)
        return bad


@dataclass(frozen=True, slots=True)
class Opened:
    """A record that is what its id says, with the whole id, as a pack takes it."""

    chunk: ChunkId
    payload: Buffer
    raw: bool
    blocks: int


class RecordRoom:
    """Where one thread opens records, each where the one before was."""

    def __init__(self) -> None:
        self.codec = Codec()
        self.payload = Scratch(CHUNK_LIMIT)  # for what a record holds, until the next


class RecordOpener:
    """Opens the records of one pack, whose whole blob is at hand, and compares each with its id. One thread.

    `room` is the thread's, for all of its packs.
    """

    def __init__(self, keyring: Keyring, name: PackName, kind: PackKind, room: RecordRoom) -> None:
        self._cipher = keyring.cipher("pack", str(name))
        self._key = keyring.subkey("chunk id" if kind is PackKind.CHUNKS else "map id")
        self._kind = kind
        self._room = room

    def open(self, record: Record, blob: memoryview) -> Opened:
        """The record at its place in the blob. Raises Damaged."""
        sealed = _sealed(record, blob)
        payload = memoryview(bytearray(len(sealed) - TAG))
        identity, blocks = self._identity(record, sealed, payload)
        return Opened(identity, payload, record.raw, blocks)

    def check(self, record: Record, blob: memoryview) -> None:
        """The same, and nothing is kept of it."""
        sealed = _sealed(record, blob)
        self._identity(record, sealed, self._room.payload.first(len(sealed) - TAG))

    def _identity(self, record: Record, sealed: memoryview, payload: memoryview) -> tuple[ChunkId, int]:
        """Open the record into `payload`; its id, and how many blocks its content has. Raises Damaged."""
        self._cipher.open_into(record.chunk[:NONCE], sealed, payload)
        if self._kind is PackKind.MAPS:
            identity, blocks = ChunkId(blake3(payload, key=self._key).digest()), 0
        else:
            content = payload if record.raw else self._room.codec.content(payload, CHUNK_LIMIT)
            identity, blocks = ChunkId(chunk_id(self._key, content)), len(content) // BLOCK
        if identity[: len(record.chunk)] != record.chunk:
            raise Damaged("its content is not what its id says")
        return identity, blocks


def _sealed(record: Record, blob: memoryview) -> memoryview:
    sealed = blob[record.offset : record.offset + record.length]
    if len(sealed) < TAG:
        raise Damaged("the pack ends before it")
    return sealed
