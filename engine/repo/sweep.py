"""Tidying a repository: sessions whose node died are broken, and what has had its day is removed.

None of it waits for anyone, and all of it may run anywhere at any time (rok-repository(5), COLLECTION).
"""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from engine.repo.condemnation import GC_PREFIX, S0_PREFIX
from engine.repo.manifest import BROKEN, TOMBSTONE_LIMIT
from engine.repo.repository import Repository
from engine.repo.session import LEASE_SECONDS, session_of
from engine.store.base import Blob, BlobExists
from engine.values import dataclass

_PROBE_LIFE: Final = timedelta(days=1)


def break_dead_sessions(repository: Repository) -> tuple[str, ...]:
    """End the sessions whose newest record is older than the lease by the store's own clock; their version ids.

    Whether this or the session's own commit is first to create the version's key does not matter: both sides learn of it.
    """
    store = repository.store
    newest: dict[str, datetime] = {}
    for blob in store.list("pending/"):
        session = session_of(blob.key)
        if session is not None:
            newest[session] = max(newest.get(session, blob.modified), blob.modified)
    if not newest:
        return ()
    ended, now = _versions(repository), store.now()
    lease = timedelta(seconds=LEASE_SECONDS)
    dead = [session for session, seen in newest.items() if session not in ended and now - seen > lease]
    for session in dead:
        with suppress(BlobExists):
            store.create(f"versions/{session}", BROKEN)
    return tuple(dead)


@dataclass(frozen=True, slots=True)
class Sweep:
    """The keys of what may be removed."""

    keys: tuple[str, ...]

    def carry_out(self, repository: Repository) -> None:
        """Remove them. In their order: of a session the records go before the tombstone."""
        for key in self.keys:
            repository.store.delete(key)


def plan_sweep(repository: Repository, keep_tombstones: timedelta | None) -> Sweep:
    """What has had its day: records of sessions that ended, what collections left that finished, tags of versions that are
    no more and that no open session is about to make, tombstones older than `keep_tombstones` (None keeps them for ever), and
    forgotten trials.

    A tombstone is what a commit that comes late runs into, so it must outlive every request that may be under way.
    """
    store = repository.store
    awaited, beside = list(store.list(S0_PREFIX)), list(store.list("tags/"))
    # After the tags: those of a copy are there before its version is, and only its session tells that it may come to be.
    pending = list(store.list("pending/"))
    # All that follows is listed later than what is judged by it: what was created meanwhile is never taken for a leftover.
    records = {blob.key.removeprefix(GC_PREFIX) for blob in store.list(GC_PREFIX)}
    versions, now = _versions(repository), store.now()
    sessions = {session_of(blob.key) for blob in pending}
    keys = [blob.key for blob in pending if session_of(blob.key) in versions]
    keys += [blob.key for blob in awaited if blob.key.removeprefix(S0_PREFIX) not in records]
    for blob in beside:
        name = blob.key.partition("/")[2]
        if versions[name].size <= TOMBSTONE_LIMIT if name in versions else name not in sessions:
            keys.append(blob.key)
    keys += [blob.key for blob in store.list("probe/") if now - blob.modified > _PROBE_LIFE]
    if keep_tombstones is not None:
        keys += [
            blob.key
            for version, blob in versions.items()
            if blob.size <= TOMBSTONE_LIMIT and now - blob.modified > keep_tombstones and version not in sessions
        ]
    return Sweep(tuple(keys))


def _versions(repository: Repository) -> dict[str, Blob]:
    return {blob.key.removeprefix("versions/"): blob for blob in repository.store.list("versions/")}
