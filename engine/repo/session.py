"""A session: how one push writes to a repository (rok-repository(5), ORDER).

    pending -> base; gc, index -> pack list           `open_session`
    packs -> segment, again and again                 `writer`, `put_map`, `keep_alive`
    versions/<id> if absent -> pending removed        `commit`

and where another version is to be written after it, by an *heir* that takes over its index:

    pending, gc of the heir -> versions/<id> if absent -> base of the heir

Whatever happens, nothing that was sent is deleted: only collectors delete packs. Nothing is written over either, and what
cannot be removed stays for a collector, so that a node which may only create blobs can push.
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final, Protocol, TypeVar

from blake3 import blake3

from engine.clock import Clock
from engine.errors import Damaged, Failed, NotFound, RokError, Unreachable
from engine.repo import catalog
from engine.repo.catalog import Catalog
from engine.repo.condemnation import read_condemnations
from engine.repo.document import Fields, open_document, seal_document
from engine.repo.index import Index
from engine.repo.manifest import BROKEN, FORGOTTEN, Manifest, seal_manifest
from engine.repo.map import REFERENCE
from engine.repo.naming import ObjectName
from engine.repo.pack import ChunkId, Directory, PackBuilder, PackKind, PackName
from engine.repo.reader import Reader
from engine.repo.seal import Entropy, Keyring
from engine.repo.segment import PackFacts, facts_of, segments_of
from engine.store.base import BlobExists, Buffer, NoSuchBlob, Unknown
from engine.units import MIB
from engine.values import dataclass
from engine.writebehind import WriteBehind

Seen = TypeVar("Seen")
Result = TypeVar("Result")
Other = TypeVar("Other")

LEASE_SECONDS: Final = 30 * 60
PACK_TARGET: Final = 16 * MIB
SEGMENT_PACKS: Final = 64
HEIRLOOM: Final = 1 << 17  # packs and records that heirs may be told of; after that the index is loaded again
_PARTING: Final = 5.0  # seconds for a request under way when all is stopped: a pack that arrives later does no harm
_MAGIC: Final = b"ROKSESS\x01"
_RECORD_KEY: Final = re.compile(r"pending/([0-9a-f]{32})(?:-[0-9a-f]{8})?")


def session_of(key: str) -> str | None:
    """The version id of the session that a blob under `pending/` is a record of; None for a blob that is none.

    A session is as old as the newest of its records.
    """
    match = _RECORD_KEY.fullmatch(key)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What a record of a session says."""

    version: str
    base: str | None
    node: str


def open_record(name: str, blob: Buffer, keyring: Keyring) -> SessionRecord:
    """What the blob `pending/<name>` says. Raises Damaged."""
    what = f"session record {name}"
    fields = Fields(open_document(_MAGIC, keyring.cipher("pending", name), blob, what), what)
    return SessionRecord(fields.take("version", str), fields.take("base", (str, type(None))), fields.take("node", str))


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a session says of itself in its record."""

    object: ObjectName
    base: str | None
    node: str


Follow = Callable[[Manifest], Purpose | None]


class Grounds(catalog.Grounds, Protocol):
    """What a session needs of its repository."""

    @property
    def clock(self) -> Clock:
        """The node's clock."""
        ...

    @property
    def entropy(self) -> Entropy:
        """Random bytes."""
        ...

    def manifest(self, version: str) -> Manifest:
        """A committed version. Raises NotFound."""
        ...

    @property
    def catalog(self) -> Catalog:
        """What is in the packs."""
        ...


@contextmanager
def open_session(
    grounds: Grounds, purpose: Purpose, *, threads: int, writers: int, pack_size: int
) -> "Iterator[Session]":
    """A session for the time of the block. Left without a commit, it gives itself up."""
    session = Session(grounds, purpose, threads=threads, writers=writers, pack_size=pack_size)
    with _lifetime(session):
        session._open()
        yield session


@contextmanager
def open_heir(heir: "Session") -> "Iterator[Session]":
    """A session that was begun when another one committed, for the time of the block, as any other."""
    with _lifetime(heir):
        heir._take_over()
        yield heir


@contextmanager
def _lifetime(session: "Session") -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        session._stop()
        if not isinstance(error, Unknown):  # then the store does not answer, and the version may come to be yet
            session.give_up()
            if session.heir is not None:
                session.heir.give_up()
        raise
    session._stop()


class Session:
    """One push in progress. `writer` objects are for one thread each; the rest serves any thread."""

    def __init__(self, grounds: Grounds, purpose: Purpose, *, threads: int, writers: int, pack_size: int) -> None:
        self._grounds = grounds
        self.purpose = purpose
        self.version = grounds.entropy(16).hex()
        self.base: Manifest | None = None
        self.index = Index([])
        self._reader = Reader(grounds.store, grounds.keyring, self.index)
        self.opened: datetime = grounds.clock.now()
        self.stored = 0  # bytes sent, all blobs counted
        self._threads, self._writers, self._pack_size = threads, writers, pack_size
        self._uploads: WriteBehind[PackBuilder] | None = None
        self._lock = threading.Lock()
        self._map_lock = threading.Lock()
        self._maps: PackWriter | None = None
        self._map_key = grounds.keyring.subkey("map id")
        self._next_pack = 0
        self._facts: list[PackFacts] = []
        self._refreshed = 0.0
        self._records: list[str] = []  # names under pending/, those included that may not have arrived
        self._is_open = False
        self._loaded = self.index  # the index, without what this session and those that it is an heir of have sent
        self._sent: list[PackFacts] = []  # by these, up to a limit
        self._entries_sent = 0
        self.heir: Session | None = None

    def _open(self) -> None:
        self._announce(self._look)
        self._begin()

    def _take_over(self) -> None:
        self._read_base()
        self._begin()

    def _announce(self, look: Callable[[], Seen]) -> Seen:
        """Say that this session lives, and give what `look` finds after that."""
        begun = self._grounds.clock.monotonic()
        self._is_open = True  # from here on it may exist, even if the next call never answers
        record = self._write_record()
        self.opened, seen = self._grounds.both(lambda: self._time_of(record), look)
        self._refreshed = begun
        return seen

    def _time_of(self, record: str) -> datetime:
        try:
            return self._grounds.store.stat(record).modified
        except NoSuchBlob:
            raise Failed(
                f"the session of version {self.version} was given up for dead before it began",
                hint="run the push again",
            ) from None

    def _look(self) -> None:
        """What is there, after our record stands: the base, as rule I7 has it, and beside it the index, as I4 has that."""
        _, (self.index, self._facts) = self._grounds.both(self._read_base, self._grounds.catalog.index_for_writing)
        self._loaded = self.index

    def _read_base(self) -> None:
        if self.purpose.base is not None:
            # Forgotten meanwhile, or damaged: then there is no base, and every chunk is looked up.
            with suppress(NotFound, Damaged):
                self.base = self._grounds.manifest(self.purpose.base)  # seen committed after our record stands: I7

    def _begin(self) -> None:
        self._reader = Reader(self._grounds.store, self._grounds.keyring, self.index)
        self._uploads = WriteBehind(
            self._send, threads=self._threads, buffers=self._writers + self._threads + 1, size=self._pack_size
        )

    def _write_record(self) -> str:
        """Say that this session lives, by a record under a name of its own; the record's key."""
        count = len(self._records)
        name = f"{self.version}-{count:08x}" if count else self.version
        self._records.append(name)
        self._grounds.store.create(f"pending/{name}", self._record(name))
        return f"pending/{name}"

    def _record(self, name: str) -> bytes:
        keyring, purpose = self._grounds.keyring, self.purpose
        document = {
            "version": self.version,
            "kind": "push",
            "base": purpose.base,
            "node": purpose.node,
            "bucket": purpose.object.bucket,
            "object": purpose.object.name,
            "opened": self.opened.isoformat(),
        }
        return seal_document(_MAGIC, keyring.cipher("pending", name), document, self._grounds.entropy)

    def writer(self) -> "PackWriter":
        """A writer of chunks for one thread."""
        return PackWriter(self, PackKind.CHUNKS)

    def put_map(self, encoded: bytes | None) -> bytes:
        """Store a map unless the repository has it, and give its reference; None, all zeros, needs no map.

        Without a base, having it means that it can be read: so a push that reads everything mends every map that it needs.
        """
        if encoded is None:
            return bytes(REFERENCE)
        chunk = ChunkId(blake3(encoded, key=self._map_key).digest())
        if self.index.claim(chunk[:REFERENCE]) or self._must_replace(chunk[:REFERENCE]):
            with self._map_lock:
                if self._maps is None:
                    self._maps = PackWriter(self, PackKind.MAPS)
                self._maps.add(chunk, encoded, raw=True, blocks=0)
        return chunk[:REFERENCE]

    def _must_replace(self, reference: bytes) -> bool:
        """Is the map that the repository should have unreadable, and this the first to find out?"""
        if self.base is not None or self.index.find(reference) is None or self._reader.has_map(reference):
            return False
        return self.index.reclaim(reference)

    def keep_alive(self) -> None:
        """To be called every few seconds: write the next record of the session in time. Raises Failed when it was too late."""
        now = self._grounds.clock.monotonic()
        if now - self._refreshed < LEASE_SECONDS / 4:
            return
        self._check_lease(now)
        self._write_record()
        self._refreshed = now

    def _check_lease(self, now: float) -> None:
        if now - self._refreshed > LEASE_SECONDS * 3 / 4:
            minutes = (now - self._refreshed) / 60
            raise Failed(
                f"the push stood still for {minutes:.0f} minutes, and its session may have been given up for dead",
                hint="run it again; what was sent is not sent twice",
            )

    def commit(self, build: Callable[[], Manifest], follow: Follow = lambda _: None) -> Manifest:
        """Send what is left, then make the version exist. `build` is called last, when all figures are known.

        `follow` says what else is to be written then, where that is known: a session for it is begun before this one ends,
        and is `heir` afterwards, for `open_heir`; or None, where it has to begin as any other.
        Raises Failed when the session was broken by someone who took it for dead; Unknown when the store did not say.
        """
        uploads = self._running()
        with self._map_lock:
            if self._maps is not None:
                self._maps.close()
        uploads.drain(self.keep_alive)
        self._write_segment()
        self._check_lease(self._grounds.clock.monotonic())
        manifest = build()
        blob = seal_manifest(manifest, self._grounds.keyring, self._grounds.entropy)
        self._begin_heir(follow(manifest))
        self._create_version(blob)
        self._remove_records()
        self._is_open = False
        return manifest

    def _begin_heir(self, purpose: Purpose | None) -> None:
        """Begin a session that relies on what this one does, but for what has been condemned since (I4).

        This one is open while the other lists the records, which its commit proves: so none of what it relies on has gone yet,
        and whatever condemns it still stands and is listed, or is written later and waits for the other.
        """
        if purpose is None or self._entries_sent > HEIRLOOM:
            return
        heir = Session(self._grounds, purpose, threads=self._threads, writers=self._writers, pack_size=self._pack_size)
        self.heir = heir
        try:
            records = heir._announce(lambda: read_condemnations(self._grounds))
        except RokError as error:  # no reason to lose this version; the next one says it, if it is lasting
            self.heir = None
            if not isinstance(error, Unreachable):  # then to give it up would take minutes, and the commit would wait
                heir.give_up()
            return
        heir._sent, heir._entries_sent = self._sent, self._entries_sent
        heir._loaded = self._loaded.without(pack for record in records for pack in record.packs)
        heir.index = heir._loaded.extended(heir._sent)

    def _create_version(self, blob: bytes) -> None:
        store, key = self._grounds.store, f"versions/{self.version}"
        try:
            store.create(key, blob)
        except BlobExists:
            # Either an earlier try of ours landed and its answer was lost, or the session was broken: ask.
            found = store.get(key)
            if found != blob:
                word = found.decode("ascii", "replace") if found in (BROKEN, FORGOTTEN) else "something else"
                raise Failed(
                    f"version {self.version} was not committed: its session was found {word}",
                    hint="run the push again; what was sent is not sent twice",
                ) from None

    def give_up(self) -> None:
        """End the session by the tombstone that a collector would write, unless it had come to its commit, which then stands."""
        if not self._is_open:
            return
        with suppress(RokError):  # the error that ended the push matters more; a collector ends what stays open
            with suppress(BlobExists):
                self._grounds.store.create(f"versions/{self.version}", BROKEN)
            self._remove_records()
        self._is_open = False

    def _remove_records(self) -> None:
        """Tidy up after the end of the session. It has ended all the same where this node may not delete, or cannot now."""
        with suppress(RokError):
            for name in self._records:
                self._grounds.store.delete(f"pending/{name}")

    def _stop(self) -> None:
        if self._uploads is not None:
            self._uploads.stop(_PARTING)

    def _running(self) -> WriteBehind[PackBuilder]:
        assert self._uploads is not None, "the session is not open"
        return self._uploads

    def _new_pack(self, kind: PackKind) -> PackBuilder:
        buffer = self._running().acquire()
        with self._lock:
            number = self._next_pack
            self._next_pack += 1
        return PackBuilder(PackName(self.version, number), kind, buffer, self._grounds.keyring, self._grounds.entropy)

    def _send(self, pack: PackBuilder, blob: memoryview) -> None:
        self._grounds.store.create(pack.name.key, blob)
        facts = facts_of(Directory(pack.name, pack.kind, len(blob), tuple(pack.records)))
        with self._lock:
            self.stored += len(blob)
            self._facts.append(facts)
            self._entries_sent += facts.entries + 1
            if self._entries_sent <= HEIRLOOM:
                self._sent.append(facts)
            due = len(self._facts) >= SEGMENT_PACKS
        if due:
            self._write_segment()

    def _write_segment(self) -> None:
        """State the facts about the packs sent so far, so that a later push finds them even if this one dies."""
        with self._lock:
            facts, self._facts = self._facts, []
        for name, blob in segments_of(facts, self._grounds.keyring, self._grounds.entropy):
            self._grounds.store.create(f"index/{name}", blob)
            self._grounds.catalog.wrote_segment(name, blob)
            with self._lock:
                self.stored += len(blob)


class PackWriter:
    """Fills packs of one kind, one after the other, and hands them to the uploads."""

    def __init__(self, session: Session, kind: PackKind) -> None:
        self._session = session
        self._kind = kind
        self._pack: PackBuilder | None = None

    def add(self, chunk: ChunkId, payload: Buffer, *, raw: bool, blocks: int) -> None:
        """Store a chunk that this thread has claimed."""
        if self._pack is not None and not self._pack.fits(len(payload)):
            self.close()
        if self._pack is None:
            self._pack = self._session._new_pack(self._kind)
        self._pack.add(chunk, payload, raw=raw, blocks=blocks)

    def close(self) -> None:
        """Send the last pack. The writer may be used again."""
        if self._pack is not None:
            self._session._running().submit(self._pack)
            self._pack = None
