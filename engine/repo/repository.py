"""A repository: versions of objects, in chunks, in a store.

`initialise` makes one, `open_repository` opens one. What is in it is listed by `versions`, found by `resolve`, read through a
`reader` and written through a `session`.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from engine.clock import Clock
from engine.crew import concurrently
from engine.errors import Damaged, NotFound, Refused
from engine.hand import both
from engine.repo.cache import CacheFolder, Mask
from engine.repo.condemnation import given_up, read_condemnations, survey_condemnations
from engine.repo.descriptor import (
    DESCRIPTOR_KEY,
    DESCRIPTOR_LIMIT,
    Descriptor,
    make_descriptor,
    parse_descriptor,
)
from engine.repo.document import DOCUMENT_LIMIT
from engine.repo.factcache import FactCache, Read
from engine.repo.index import Index, trust
from engine.repo.keyblob import KEYS_PREFIX, Secret, new_key_name, wrap_master
from engine.repo.manifest import BROKEN, FORGOTTEN, TOMBSTONE_LIMIT, Manifest, open_manifest
from engine.repo.manifestcache import ManifestCache
from engine.repo.naming import VersionReference
from engine.repo.pack import PackName, parse_pack_key, read_directory
from engine.repo.paper import PaperKey
from engine.repo.reader import Reader
from engine.repo.seal import Entropy, Keyring
from engine.repo.segment import SEGMENT_LIMIT, PackFacts, decode_segment, facts_of
from engine.repo.session import PACK_TARGET, Purpose, Session, open_session, session_of
from engine.repo.stated import UNTOLD, Stated
from engine.repo.table import Table
from engine.repo.unlock import Unlocked, unlock
from engine.store.base import Blob, BlobExists, NoSuchBlob, Store
from engine.units import MIB
from engine.values import dataclass

CONNECTIONS: Final = 8
_BATCH_LIMIT: Final = 4 * MIB
_PACK_PREFIX: Final = len("pack/")

Item = TypeVar("Item")
Result = TypeVar("Result")
Other = TypeVar("Other")


@dataclass(frozen=True, slots=True)
class RepositoryStatus:
    """A repository at a glance. Sizes in bytes."""

    url: str
    id: str
    format: int
    created: datetime
    encrypted: bool
    keys: int
    objects: int
    versions: int
    packs: int
    pack_bytes: int
    index_segments: int
    index_bytes: int
    chunks: int
    open_sessions: int


@dataclass(frozen=True, slots=True)
class Survey:
    """All versions of a repository: those that can be read, oldest first, and those that cannot, by id; and the ids of
    those that were forgotten.
    """

    manifests: tuple[Manifest, ...]
    damaged: Mapping[str, Damaged]
    forgotten: frozenset[str]


def initialise(store: Store, secret: Secret | None, *, clock: Clock, entropy: Entropy) -> "Repository":
    """Make a repository in an empty store, with one key, for `secret`; without one it is not encrypted.

    Raises Refused when something is there already, or when the store does not keep its promise of create-if-absent.
    """
    _refuse_occupied(store)
    _probe_create_if_absent(store, entropy)
    repository_id, keyring, created = entropy(16).hex(), Keyring(entropy(32), encrypted=secret is not None), clock.now()
    name = None
    if secret is not None:
        # The key stands before the descriptor: a repository that can be seen can be opened.
        name = new_key_name(secret, entropy)
        blob = wrap_master(
            keyring, secret, name=name, label="", repository_id=repository_id, created=created, entropy=entropy
        )
        store.create(f"{KEYS_PREFIX}{name}", blob)
    blob = make_descriptor(repository_id, created, keyring)
    try:
        store.create(DESCRIPTOR_KEY, blob)
    except BlobExists:
        raise Refused(f"someone else has just created a repository at {store.url}") from None
    return Repository(store, parse_descriptor(blob, store.url), keyring, clock, entropy, key=name)


def _refuse_occupied(store: Store) -> None:
    for blob in store.list(""):
        if blob.key == DESCRIPTOR_KEY:
            parse_descriptor(store.get_range(DESCRIPTOR_KEY, 0, DESCRIPTOR_LIMIT + 1), store.url)
            raise Refused(f"there is a repository at {store.url} already", hint="use it, or choose another place")
        if not blob.key.startswith((KEYS_PREFIX, "probe/")):  # those may be left by an interrupted creation
            raise Refused(
                f"{store.url} is not empty: it holds {blob.key!r}", hint="choose an empty directory or another prefix"
            )


def _probe_create_if_absent(store: Store, entropy: Entropy) -> None:
    key = f"probe/{entropy(16).hex()}"
    store.create(key, b"first")
    try:
        store.create(key, b"second")
    except BlobExists:
        return
    finally:
        store.delete(key)
    raise Refused(
        f"the store {store.url} ignores create-if-absent (it let a second write through)",
        hint="two nodes could overwrite each other's versions there; use another store, or upgrade this one",
    )


def open_repository(
    store: Store,
    ask: Callable[[], Secret | PaperKey],
    *,
    clock: Clock,
    entropy: Entropy,
    caches: Path | None = None,
    likely: str | None = None,
) -> "Repository":
    """Open the repository in a store, without writing to it. The arguments and errors are those of `unlock` and `work_with`."""
    return work_with(store, unlock(store, ask, likely), clock=clock, entropy=entropy, caches=caches)


def work_with(
    store: Store, unlocked: Unlocked, *, clock: Clock, entropy: Entropy, caches: Path | None = None
) -> "Repository":
    """The repository in a store that was unlocked.

    `caches` is where this node keeps what it has read, in a folder for each repository; without it, that is in memory.
    """
    descriptor = unlocked.descriptor
    cache = None if caches is None else caches / descriptor.id
    return Repository(store, descriptor, unlocked.keyring, clock, entropy, key=unlocked.key, cache=cache)


class Repository:
    """An open repository. Any number of threads and nodes may use it at once.

    `key` names the key that it was opened by; None where it took none, or a paper copy. `connections` is how many requests
    `concurrently` has under way at a time. `cache` is the folder of what this node has read of it; None to keep that in memory.
    """

    def __init__(
        self,
        store: Store,
        descriptor: Descriptor,
        keyring: Keyring,
        clock: Clock,
        entropy: Entropy,
        *,
        key: str | None = None,
        connections: int = CONNECTIONS,
        cache: Path | None = None,
    ) -> None:
        self.store = store
        self.descriptor = descriptor
        self.keyring = keyring
        self.clock = clock
        self.entropy = entropy
        self.key = key
        self.connections = connections
        folder = CacheFolder(cache)
        self._facts = FactCache(folder, descriptor.id)
        self._manifests = ManifestCache(folder, descriptor.id, keyring)

    @property
    def id(self) -> str:
        """128 random bits, hexadecimal."""
        return self.descriptor.id

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return self.store.url

    @property
    def encrypted(self) -> bool:
        """Is it encrypted?"""
        return self.descriptor.encrypted

    def survey(self) -> Survey:
        """Read every manifest that is listed, from the store itself."""
        everything = list(self.store.list("versions/"))
        listed = [blob for blob in everything if blob.size > TOMBSTONE_LIMIT]
        read = self.concurrently(self._open_listed, listed)
        damaged = {blob: entry for blob, entry in zip(listed, read, strict=True) if isinstance(entry, Damaged)}
        self._manifests.forget(damaged)
        by_version = {blob.key.removeprefix("versions/"): error for blob, error in damaged.items()}
        return _survey(everything, (entry for entry in read if isinstance(entry, Manifest)), by_version)

    def _open_listed(self, blob: Blob) -> Manifest | Damaged | None:
        if blob.size > DOCUMENT_LIMIT:
            return _too_large(blob)
        try:
            return self.manifest(blob.key.removeprefix("versions/"))
        except NotFound:
            return None  # forgotten between the listing and now
        except Damaged as error:
            return error

    def recall(self, bucket: str | None = None, name: str | None = None) -> Survey:
        """The same for one object, for a bucket or for all, reading only manifests that this node has not read before.

        A manifest that was damaged in the store since then is not told of: `survey` finds it.
        """
        everything = list(self.store.list("versions/"))
        listed = [blob for blob in everything if TOMBSTONE_LIMIT < blob.size <= DOCUMENT_LIMIT]
        manifests, damaged = self._manifests.manifests(listed, bucket, name, self._sealed_manifests)
        large = {
            blob.key.removeprefix("versions/"): _too_large(blob) for blob in everything if blob.size > DOCUMENT_LIMIT
        }
        return _survey(everything, manifests, damaged | large)

    def _sealed_manifests(self, versions: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        return zip(versions, self.concurrently(self._sealed_manifest, versions), strict=True)

    def _sealed_manifest(self, version: str) -> bytes | None:
        try:
            blob = self.store.get(f"versions/{version}")
        except NoSuchBlob:
            return None
        return None if blob in (BROKEN, FORGOTTEN) else blob

    def versions(self, bucket: str | None = None, name: str | None = None) -> list[Manifest]:
        """The committed versions of one object, of a bucket, or of all, oldest first, by `recall`. Damaged ones are left out."""
        return list(self.recall(bucket, name).manifests)

    def manifest(self, version: str) -> Manifest:
        """The manifest of a version by its full id. Raises NotFound, Damaged."""
        try:
            blob = self.store.get(f"versions/{version}")
        except NoSuchBlob:
            raise NotFound(f"there is no version {version} in {self.url}") from None
        if blob in (BROKEN, FORGOTTEN):
            raise NotFound(f"version {version} in {self.url} is {blob.decode()}")
        return open_manifest(version, blob, self.keyring)

    def resolve(self, reference: VersionReference, survey: Survey | None = None) -> Manifest:
        """The version that is meant, by the given survey or by what can be recalled now.

        Raises NotFound, with near names; Refused when a prefix fits several; Damaged when the one meant cannot be read.
        """
        everything = survey
        survey = survey or self.recall(reference.object.bucket, reference.object.name)
        found = [manifest for manifest in survey.manifests if manifest.object == reference.object]
        wanted = reference.version
        if wanted is not None:
            for version, error in survey.damaged.items():
                if version.startswith(wanted):
                    raise error
        if not found:
            names = {str(manifest.object) for manifest in (everything or self.recall()).manifests}
            hint = near(str(reference.object), names)
            raise NotFound(f"there is no object {reference.object} in {self.url}", hint=hint)
        if wanted is None:
            return found[-1]
        matching = [manifest for manifest in found if manifest.version.startswith(wanted)]
        if not matching:
            newest = ", ".join(manifest.version[:8] for manifest in reversed(found[-5:]))
            raise NotFound(f"{reference.object} has no version {wanted}", hint=f"its newest versions are {newest}")
        if len(matching) > 1:
            raise Refused(
                f"{len(matching)} versions of {reference.object} start with {wanted}", hint="give more of the id"
            )
        return matching[0]

    def forget(self, version: str) -> bool:
        """Put a tombstone in the place of a version's manifest; False when one stood there before.

        That the version was the base of an open session does no harm (rule I7). Raises NotFound when it never was.
        """
        key = f"versions/{version}"
        try:
            blob = self.store.get(key)
        except NoSuchBlob:
            blob = BROKEN
        if blob == BROKEN:
            raise NotFound(f"there is no version {version} in {self.url}")
        if blob == FORGOTTEN:
            return False
        self.store.put(key, FORGOTTEN)
        return True

    def wrote_segment(self, name: str, blob: bytes) -> None:
        """A segment stands in the store, by us: this node need not read it."""
        self._facts.add(name, lambda: decode_segment(name, blob, self.keyring))

    def load_index(self) -> tuple[Index, list[PackFacts]]:
        """The index over all packs, and the facts that packs state but no segment does.

        In the order of rule I4: condemnations, and the segments beside them, then the packs. A writer relies on no pack but
        those that were listed last of all and that no record condemns; nor on one that was cut short: where the listing tells
        no sizes, the index asks for those of the packs that claims come upon.
        """
        records, stated = self.both(lambda: read_condemnations(self), self.stated)
        listed = self.store.keys("pack/").items()
        sizes = {key[_PACK_PREFIX:]: UNTOLD if size is None else size for key, size in listed}
        is_whole = self._is_of_size if UNTOLD in sizes.values() else trust
        tables, unstated = self._contents(stated, sizes, given_up(records))
        condemned = {pack for record in records for pack in record.packs}
        index = Index.over(tables, unstated, condemned, is_whole)
        return index, [facts for facts in unstated if facts.name not in condemned]

    def _is_of_size(self, pack: PackName, size: int) -> bool:
        return self._size(pack) == size

    def _size(self, pack: PackName) -> int | None:
        """As it is now, in bytes; None for a pack that is gone."""
        try:
            return self.store.stat(pack.key).size
        except NoSuchBlob:
            return None

    def reading_index(self) -> Index:
        """The index over all packs that can be read: what a collector has condemned, too, while it stands."""
        (records, _), stated = self.both(lambda: survey_condemnations(self), self.stated)
        return self._index_without(given_up(records), stated)

    def index_without(self, packs: Collection[PackName]) -> Index:
        """The index over all other packs, listed after the segments, with their sizes: what was cut short is not in it."""
        return self._index_without(packs, self.stated())

    def _index_without(self, packs: Collection[PackName], stated: Stated) -> Index:
        sizes = {key[_PACK_PREFIX:]: size for key, size, _ in self.store.list("pack/")}
        return Index.over(*self._contents(stated, sizes, packs))

    def _contents(
        self, stated: Stated, sizes: dict[str, int], left_out: Collection[PackName]
    ) -> tuple[Sequence[tuple[Table, Mask]], list[PackFacts]]:
        """What is in all other packs: what segments say of it that can be believed, and the rest.

        The packs that are listed come by name and not by PackName, which takes ten times as long to make: there may be many
        thousands.
        """
        for name in {str(pack) for pack in left_out} & sizes.keys():
            del sizes[name]
        believed = stated.believed(sizes)
        others = [
            (pack, sizes[name])
            for name in sorted(sizes.keys() - believed.packs)
            if (pack := parse_pack_key(f"pack/{name}")) is not None
        ]
        unstated = [facts for facts in self.concurrently(self._read_untold, others) if facts is not None]
        return believed.tables, unstated

    def _read_untold(self, pack: tuple[PackName, int]) -> PackFacts | None:
        name, listed = pack
        size = self._size(name) if listed == UNTOLD else listed
        return None if size is None else self.read_facts((name, size))

    def stated(self) -> Stated:
        """What the segments state that are listed now. Those that this node has read or written before are not read."""
        return self._stated(self._facts.stated)

    def verified_statements(self) -> Stated:
        """The same, and every segment is read from the store itself; so pushes, too, come to know of those that are damaged."""
        return self._stated(self._facts.verified)

    def _stated(self, recall: Callable[[Sequence[str], Read], Stated]) -> Stated:
        segments = {blob.key.removeprefix("index/"): blob for blob in self.store.list("index/")}
        return recall(list(segments), lambda names: self._read_segments([segments[name] for name in names]))

    def index_facts(self) -> Iterator[PackFacts]:
        """What all index segments state. A damaged segment is passed over: packs describe themselves."""
        for _, facts in self.index_segments():
            if facts is not None:
                yield from facts

    def index_segments(self) -> Iterator[tuple[str, list[PackFacts] | None]]:
        """Each segment's name and facts, read from the store itself; None for one that is damaged.

        Memory: a few small segments at a time, or one large.
        """
        for name, facts in self._read_segments(self.store.list("index/")):
            if facts is None:
                self._facts.forget(name)  # so that the next push of this node does without it
            yield name, facts

    def _read_segments(self, blobs: Iterable[Blob]) -> Iterator[tuple[str, list[PackFacts] | None]]:
        for batch in _batches(blobs, self.connections):
            yield from (entry for entry in self.concurrently(self._read_segment, batch) if entry is not None)

    def _read_segment(self, listed: Blob) -> tuple[str, list[PackFacts] | None] | None:
        name = listed.key.removeprefix("index/")
        if listed.size > SEGMENT_LIMIT:
            return name, None
        try:
            blob = self.store.get(listed.key)
        except NoSuchBlob:
            return None  # consolidated since it was listed: its facts are in another segment, and in the packs
        try:
            return name, decode_segment(name, blob, self.keyring)
        except Damaged:
            return name, None

    def segment(self, name: str) -> list[PackFacts]:
        """The facts of one segment; none when it is gone. Raises Damaged."""
        try:
            blob = self.store.get(f"index/{name}")
        except NoSuchBlob:
            return []
        return decode_segment(name, blob, self.keyring)

    def pack_facts(self) -> Iterator[PackFacts]:
        """What is in each pack that is listed, condemned or not. Those that no segment states are asked themselves."""
        sizes = self.pack_sizes()
        for facts in self.index_facts():
            if sizes.get(facts.name) == facts.size:
                del sizes[facts.name]  # several segments may state one pack
                yield facts
        yield from (facts for facts in self.concurrently(self.read_facts, sizes.items()) if facts is not None)

    def pack_sizes(self) -> dict[PackName, int]:
        """All packs that the store lists."""
        listed = ((parse_pack_key(blob.key), blob.size) for blob in self.store.list("pack/"))
        return {name: size for name, size in listed if name is not None}

    def read_facts(self, pack: tuple[PackName, int]) -> PackFacts | None:
        """What a listed pack of that name and size says of itself; None when it is gone or damaged."""
        name, size = pack
        try:
            return facts_of(read_directory(name, size, lambda o, n: self.store.get_range(name.key, o, n), self.keyring))
        except (NoSuchBlob, Damaged):
            return None  # not to be relied on; `check` names it

    def session(
        self, purpose: Purpose, *, threads: int, writers: int, pack_size: int = PACK_TARGET
    ) -> AbstractContextManager[Session]:
        """Begin to write a version, with so many upload threads, for so many writing threads, in packs up to that size."""
        return open_session(self, purpose, threads=threads, writers=writers, pack_size=pack_size)

    def reader(self, index: Index | None = None) -> Reader:
        """A reader of maps and chunks, over the given index or the present one."""
        return Reader(self.store, self.keyring, self.reading_index() if index is None else index, self.reading_index)

    def open_sessions(self) -> set[str]:
        """The version ids of the sessions that have not ended. A session ends when its version exists, or its tombstone."""
        opened = {session for blob in self.store.list("pending/") if (session := session_of(blob.key)) is not None}
        # Listed after: one that ends in between has ended.
        ended = {blob.key.removeprefix("versions/") for blob in self.store.list("versions/")}
        return opened - ended

    def status(self) -> RepositoryStatus:
        """Count what is there. Reads the listings, the index and the manifests."""
        versions, index = self.versions(), self.reading_index()
        packs, segments = self.pack_sizes(), list(self.store.list("index/"))
        return RepositoryStatus(
            url=self.url,
            id=self.id,
            format=self.descriptor.format,
            created=self.descriptor.created,
            encrypted=self.encrypted,
            keys=len(list(self.store.list(KEYS_PREFIX))),
            objects=len({manifest.object for manifest in versions}),
            versions=len(versions),
            packs=len(packs),
            pack_bytes=sum(packs.values()),
            index_segments=len(segments),
            index_bytes=sum(blob.size for blob in segments),
            chunks=index.chunks,
            open_sessions=len(self.open_sessions()),
        )

    def concurrently(self, call: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Call for every item, several at once: stores answer slowly, and many at a time."""
        listed = list(items)
        threads = min(self.connections, len(listed))
        if threads < 2:
            return [call(item) for item in listed]
        return concurrently(call, listed, threads)

    def both(self, one: Callable[[], Result], other: Callable[[], Other]) -> tuple[Result, Other]:
        """Two calls at once that do not wait for each other, as `hand.both` has it; one after the other for one connection."""
        return both(one, other) if self.connections > 1 else (one(), other())


def _too_large(blob: Blob) -> Damaged:
    return Damaged(f"the manifest {blob.key} has {blob.size} bytes, more than any can have")


def _survey(everything: Iterable[Blob], manifests: Iterable[Manifest], damaged: Mapping[str, Damaged]) -> Survey:
    # S3 tells whole seconds; within one, the nodes' own clocks are the better guess
    in_order = sorted(manifests, key=lambda manifest: (manifest.store_time, manifest.created, manifest.version))
    tombstones = (blob.key.removeprefix("versions/") for blob in everything if blob.size == len(FORGOTTEN))
    return Survey(tuple(in_order), damaged, frozenset(tombstones))


def _batches(blobs: Iterable[Blob], count: int) -> Iterator[list[Blob]]:
    """Runs of so many blobs, or fewer where they are large, to be read at once."""
    batch: list[Blob] = []
    for blob in blobs:
        if batch and (len(batch) == count or sum(one.size for one in batch) + blob.size > _BATCH_LIMIT):
            yield batch
            batch = []
        batch.append(blob)
    if batch:
        yield batch


def near(wanted: str, names: Iterable[str]) -> str:
    """The hint for a name that does not exist."""
    similar = difflib.get_close_matches(wanted, sorted(names), n=3)
    return f"did you mean {' or '.join(similar)}?" if similar else "`rokctl version list` shows what is there"
