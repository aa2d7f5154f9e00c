"""What credentials a node needs: reading takes none to write, pushing none to overwrite or delete."""

import random
from dataclasses import replace

import pytest

from engine.errors import Failed, Refused, Unreachable
from engine.repo.session import LEASE_SECONDS, Purpose, session_of
from engine.store.faulty import CRASH_AFTER, Crashed, Fault, Faulty, Moment
from engine.store.memory import MemoryStore
from engine.units import MIB
from tests.manual_clock import ManualClock
from tests.repositories import (
    CLOCK,
    OBJECT,
    content,
    findings,
    new_pool,
    new_repository,
    push_snapshots,
    reopen,
    restore,
    snapshot,
    write,
)
from tests.rights import append_only, read_only

pytestmark = pytest.mark.slow


def two_snapshots(clock=None):
    pool = new_pool(clock=clock)
    pool.create_volume("volume", 66 * MIB)
    write(pool, "volume", (0, random.Random(7).randbytes(MIB)))
    first = snapshot(pool, "a", "volume")
    write(pool, "volume", (2 * MIB, random.Random(8).randbytes(MIB)))
    return pool, first, snapshot(pool, "b", "volume")


def test_listing_checking_and_restoring_write_nothing():
    store, (pool, first, second) = MemoryStore(CLOCK), two_snapshots()
    owner = new_repository(store, encrypted=True)
    for taken in (first, second):
        push_snapshots(owner, taken)

    reader = reopen(read_only(store))

    for manifest, name in zip(reader.versions(), "ab", strict=True):
        restore(reader, manifest, pool, f"restored-{name}")
        assert content(pool, f"restored-{name}") == content(pool, "volume", name)
    assert findings(reader, read_data=True) == ()
    assert reader.status().versions == 2


def test_a_push_with_read_only_rights_is_refused_and_leaves_nothing():
    store, (_, first, _) = MemoryStore(CLOCK), two_snapshots()
    new_repository(store)
    before = [blob.key for blob in store.list("")]
    with pytest.raises(Refused, match="AccessDenied"):
        push_snapshots(reopen(read_only(store)), first)
    assert [blob.key for blob in store.list("")] == before


def test_a_node_that_may_only_create_pushes_first_and_again():
    store, (pool, first, second) = MemoryStore(CLOCK), two_snapshots()
    new_repository(store)
    node = reopen(append_only(store))

    for taken in (first, second):
        assert push_snapshots(node, taken).stored > 0

    assert [manifest.base is not None for manifest in node.versions()] == [False, True]
    assert findings(reopen(store)) == ()
    restore(node, node.versions()[1], pool, "restored")
    assert content(pool, "restored") == content(pool, "volume", "b")
    assert len(list(store.list("pending/"))) == 2, "the records stay for a collector"
    assert node.status().open_sessions == 0, "and are known to be of sessions that have ended"


def test_a_long_push_of_a_node_that_may_only_create_keeps_its_session_alive():
    clock = ManualClock()
    store = MemoryStore(clock)
    repository = reopen(append_only(new_repository(store, clock=clock).store), clock=clock)

    with repository.session(Purpose(OBJECT, None, "node"), threads=1, writers=1) as session:
        for _ in range(100):
            clock.advance(LEASE_SECONDS / 4)
            session.keep_alive()
        records = list(store.list("pending/"))
        assert {session_of(blob.key) for blob in records} == {session.version} == repository.open_sessions()
        newest = max(blob.modified for blob in records)
        assert (clock.now() - newest).total_seconds() < LEASE_SECONDS / 2, "a session is as old as its newest record"


@pytest.mark.parametrize("rights", [lambda store: store, append_only], ids=["all rights", "append only"])
def test_a_long_session_commits_and_removes_all_its_records_where_it_may(rights):
    clock = ManualClock()
    store, (_, first, _) = MemoryStore(clock), two_snapshots(clock)
    owner = new_repository(store, clock=clock)
    push_snapshots(owner, first)
    repository = reopen(rights(store), clock=clock)

    with repository.session(Purpose(OBJECT, None, "node"), threads=1, writers=1) as session:
        for _ in range(3):
            clock.advance(LEASE_SECONDS / 2)
            session.keep_alive()
        records = [blob.key for blob in store.list("pending/")]
        session.commit(lambda: replace(owner.versions()[0], version=session.version))

    assert len(records) == 4
    assert [blob.key for blob in store.list("pending/")] == ([] if rights is not append_only else records)
    assert len(owner.versions()) == 2
    assert owner.open_sessions() == set()


def test_a_push_that_fails_on_a_node_that_may_only_create_still_ends_its_session():
    store, (pool, first, _) = MemoryStore(CLOCK), two_snapshots()
    node = reopen(append_only(new_repository(store).store))
    pool.break_reads("volume", MIB // 2, snapshot="a")
    with pytest.raises(Failed):
        push_snapshots(node, first)
    assert node.open_sessions() == set()
    assert node.versions() == []


@pytest.mark.parametrize("error", [Refused("no"), Unreachable("gone")], ids=["refused", "unreachable"])
def test_a_push_that_is_committed_has_not_failed_when_its_record_cannot_be_removed(error):
    store, (_, first, _) = MemoryStore(CLOCK), two_snapshots()
    new_repository(store)
    ends = Faulty(store, lambda call: Fault(Moment.BEFORE, error) if call.operation == "delete" else None)
    report = push_snapshots(reopen(ends), first)
    assert [manifest.version for manifest in reopen(store).versions()] == [report.version]


def test_what_a_dead_push_leaves_is_an_open_session():
    store, (_, first, _) = MemoryStore(CLOCK), two_snapshots()
    new_repository(store)
    dying = Faulty(store, lambda call: CRASH_AFTER if call.writes and call.key.startswith("pack/") else None)
    with pytest.raises(Crashed):
        push_snapshots(reopen(dying), first)
    assert len(reopen(store).open_sessions()) == 1
    assert reopen(store).status().open_sessions == 1


@pytest.mark.parametrize("key", ["pending/x", f"pending/{'A' * 32}", f"pending/{'a' * 32}-1", f"versions/{'a' * 32}"])
def test_a_key_that_is_no_session_s_is_not_taken_for_one(key):
    assert session_of(key) is None
