"""A repository: versions of objects, in chunks, in a store.

`initialise` makes one, `open_repository` opens one. What is in it is listed by `versions`, found by `resolve`, read through a
`reader` and written through a `session`.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from engine.clock import Clock
from engine.crew import concurrently
from engine.errors import Damaged, NotFound, Refused
from engine.hand import both
from engine.repo.cache import CacheFolder
from engine.repo.catalog import Catalog
from engine.repo.descriptor import (
    DESCRIPTOR_KEY,
    DESCRIPTOR_LIMIT,
    Descriptor,
    make_descriptor,
    parse_descriptor,
)
from engine.repo.document import DOCUMENT_LIMIT
from engine.repo.factcache import FactCache
from engine.repo.index import Index
from engine.repo.keyblob import KEYS_PREFIX, Secret
from engine.repo.manifest import BROKEN, FORGOTTEN, TOMBSTONE_LIMIT, Manifest, open_manifest
from engine.repo.manifestcache import ManifestCache
from engine.repo.naming import VersionReference
from engine.repo.paper import PaperKey
from engine.repo.reader import Reader
from engine.repo.seal import Entropy, Keyring
from engine.repo.session import PACK_TARGET, Purpose, Session, open_session, session_of
from engine.repo.unlock import Unlocked, create_key, unlock
from engine.store.base import Blob, BlobExists, NoSuchBlob, Store
from engine.values import dataclass

CONNECTIONS: Final = 8

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
        name, _ = create_key(
            store, keyring, secret, label="", repository_id=repository_id, created=created, entropy=entropy
        )
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
    `catalog` tells what is in its packs.
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
        self.catalog = Catalog(self, FactCache(folder, descriptor.id))
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

    def session(
        self, purpose: Purpose, *, threads: int, writers: int, pack_size: int = PACK_TARGET
    ) -> AbstractContextManager[Session]:
        """Begin to write a version, with so many upload threads, for so many writing threads, in packs up to that size."""
        return open_session(self, purpose, threads=threads, writers=writers, pack_size=pack_size)

    def reader(self, index: Index | None = None) -> Reader:
        """A reader of maps and chunks, over the given index or the present one."""
        return Reader(
            self.store,
            self.keyring,
            self.catalog.index_for_reading() if index is None else index,
            self.catalog.index_for_reading,
        )

    def open_sessions(self) -> set[str]:
        """The version ids of the sessions that have not ended. A session ends when its version exists, or its tombstone."""
        opened = {session for blob in self.store.list("pending/") if (session := session_of(blob.key)) is not None}
        # Listed after: one that ends in between has ended.
        ended = {blob.key.removeprefix("versions/") for blob in self.store.list("versions/")}
        return opened - ended

    def status(self) -> RepositoryStatus:
        """Count what is there. Reads the listings, the index and the manifests."""
        versions, index = self.versions(), self.catalog.index_for_reading()
        packs, segments = self.catalog.pack_sizes(), list(self.store.list("index/"))
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


def near(wanted: str, names: Iterable[str]) -> str:
    """The hint for a name that does not exist."""
    similar = difflib.get_close_matches(wanted, sorted(names), n=3)
    return f"did you mean {' or '.join(similar)}?" if similar else "`rokctl version list` shows what is there"
