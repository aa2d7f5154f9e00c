"""The look before packs are deleted: what in them does a version need that no other pack gives?

Everything here is read anew, in the order of rules I5 and I7 of rok-repository(5); the order is what makes it safe.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import compress
from typing import Final

from engine.errors import Damaged, NotFound
from engine.repo.manifest import FORGOTTEN, TOMBSTONE_LIMIT
from engine.repo.map import REFERENCE
from engine.repo.marks import Keys, Marks
from engine.repo.pack import Directory, PackKind, PackName, Record, read_directory
from engine.repo.repository import Repository
from engine.repo.rescue import readable
from engine.repo.session import open_record, session_of
from engine.store.base import Blob, NoSuchBlob
from engine.values import dataclass

Roots = tuple[bytes, ...]  # of the members of a version

_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions as one listing has them: the roots of those that live, those that were forgotten, and all ids."""

    live: Mapping[str, Roots]
    forgotten: frozenset[str]
    all: frozenset[str]


def list_versions(repository: Repository, known: Mapping[str, Roots]) -> Versions:
    """List the versions, and read the manifests of those that are not `known`: manifests never change.

    Raises Damaged: while it cannot be told what a version needs, nothing may be deleted.
    """
    blobs = {blob.key.removeprefix("versions/"): blob for blob in repository.store.list("versions/")}
    manifests = [version for version, blob in blobs.items() if blob.size > TOMBSTONE_LIMIT]
    unread = [version for version in manifests if version not in known]

    def read(version: str) -> Roots | None:
        try:
            return tuple(member.root for member in repository.manifest(version).members)
        except NotFound:
            return None
        except Damaged as error:
            raise Damaged(
                f"nothing was deleted: {error.message}, so it cannot be told what the version needs",
                hint="`rokctl repo check` shows what is hurt; `rokctl repo repair` says what can be done",
            ) from error

    roots = {version: known[version] for version in manifests if version in known}
    for version, found in zip(unread, repository.concurrently(read, unread), strict=True):
        if found is not None:
            roots[version] = found
    # A manifest that was listed and is gone when it is read was forgotten meanwhile.
    forgotten = {version for version, blob in blobs.items() if blob.size == len(FORGOTTEN)} | {*manifests} - {*roots}
    return Versions(roots, frozenset(forgotten), frozenset(blobs))


class Postponed(Exception):  # no error: the look is to be taken later
    """It cannot be told yet what versions will need. `sessions` hold it up; none: versions come and go too fast."""

    def __init__(self, sessions: tuple[str, ...]) -> None:
        super().__init__()
        self.sessions = sessions


def settled_versions(repository: Repository, known: Mapping[str, Roots]) -> dict[str, Roots]:
    """All versions that stand or that a session under way may still make stand, as far as packs condemned before go (I7).

    Raises Postponed.
    """
    first = list_versions(repository, known)
    for _ in range(_ATTEMPTS):
        if unsettled := tuple(_unsettled_sessions(repository, first)):
            raise Postponed(unsettled)
        second = list_versions(repository, {**known, **first.live})
        # A version that came and went between the listings may be the base of a session that neither of them shows.
        if second.forgotten <= first.all:
            return {**first.live, **second.live}
        first = second
    raise Postponed(())


def _unsettled_sessions(repository: Repository, versions: Versions) -> Iterator[str]:
    """The sessions that have not ended, and whose base is not among the versions that live."""
    records: dict[str, Blob] = {}
    for blob in repository.store.list("pending/"):
        session = session_of(blob.key)
        if session is not None and session not in versions.all:
            records.setdefault(session, blob)
    for session, blob in records.items():
        name = blob.key.removeprefix("pending/")
        try:
            base = open_record(name, repository.store.get(blob.key), repository.keyring).base
        except NoSuchBlob:
            continue  # it has ended: if it committed, the next listing shows the version
        except Damaged:
            yield session  # its base could be any
            continue
        if base is not None and base not in versions.live:
            yield session


@dataclass(frozen=True, slots=True)
class Contents:
    """A condemned pack with its live records, and those that no pack that may be relied on gives."""

    directory: Directory
    needed: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """The condemned packs that still exist: those whose contents are known, and those of which nothing is."""

    contents: tuple[Contents, ...]
    unknown: tuple[PackName, ...]


def look_into(repository: Repository, packs: frozenset[PackName], condemned: frozenset[PackName], marks: Marks) -> Look:
    """Look into condemned packs. `condemned` are all that any record names, as listed before `marks` were brought up to date.

    Memory: what is live in them; of what is dead, and is most of a large version that was forgotten, nothing is kept.
    """
    sizes = repository.catalog.pack_sizes()
    there = [(name, sizes[name]) for name in sorted(packs) if name in sizes]
    read = repository.concurrently(lambda pack: _live_part(_directory(repository, *pack), marks), there)
    directories = {name: found for (name, _), found in zip(there, read, strict=True)}
    unread = {name for name, found in directories.items() if found is None}
    # Here a segment stands in for the pack itself, and says what may be deleted: it is read now, and no cache is asked.
    for facts in repository.catalog.stated_facts() if unread else ():
        if facts.name in unread and facts.size == sizes[facts.name]:
            whole = Directory(facts.name, facts.kind, facts.size, tuple(facts.records()))
            directories[facts.name] = _live_part(whole, marks)
    known = [directory for directory in directories.values() if directory is not None]
    elsewhere = _given_elsewhere(
        repository, [record.chunk for directory in known for record in directory.records], condemned
    )
    return Look(
        tuple(
            Contents(
                directory,
                tuple(record for record in directory.records if record.chunk[:REFERENCE] not in elsewhere),
            )
            for directory in known
        ),
        tuple(name for name, found in directories.items() if found is None),
    )


def _directory(repository: Repository, name: PackName, size: int) -> Directory | None:
    def read(offset: int, length: int) -> bytes:
        return repository.store.get_range(name.key, offset, length)

    try:
        return read_directory(name, size, read, repository.keyring)
    except NoSuchBlob:
        return Directory(name, PackKind.CHUNKS, size, ())  # someone else has just deleted it
    except Damaged:
        return None


def _live_part(directory: Directory | None, marks: Marks) -> Directory | None:
    if directory is None or not directory.records:
        return directory
    _, is_live = marks.find(Keys.of(b"".join(record.chunk[:REFERENCE] for record in directory.records)))
    return replace(directory, records=tuple(compress(directory.records, is_live.tolist())))


def _given_elsewhere(repository: Repository, chunks: list[bytes], condemned: frozenset[PackName]) -> set[bytes]:
    """Those of the chunks that can be read from a pack that is listed and that no record condemns.

    The index says where to look, first, the listing of packs then which of them are there (I5). It may be the one that this
    node keeps, for that a copy is named somewhere is not enough to delete another one: each is read.
    """
    wanted = sorted({bytes(chunk[:REFERENCE]) for chunk in chunks})
    if not wanted:
        return set()
    stated = sorted(repository.catalog.index_without(condemned).holders(b"".join(wanted)))
    sizes = repository.catalog.pack_sizes()
    copies = [(name, sizes[name]) for name in stated if name in sizes]
    sought, given = frozenset(wanted), set[bytes]()
    for read in repository.concurrently(lambda pack: _directory(repository, *pack), copies):
        if read is not None:
            given |= readable(
                repository, read, [one for one in read.records if one.chunk[:REFERENCE] in sought - given]
            )
    return given
