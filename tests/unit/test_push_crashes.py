"""A push that dies at any store call loses nothing, hides nothing, and is taken up by the next one."""

import random
from contextlib import suppress

import pytest

from engine.errors import Failed, OutOfSpace, RokError, Unreachable
from engine.repo.naming import parse_reference
from engine.repo.session import LEASE_SECONDS
from engine.store.faulty import CRASH_AFTER, CRASH_BEFORE, Crashed, Fault, Faulty, Moment, at
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.manual_clock import ManualClock
from tests.repositories import (
    CLOCK,
    content,
    copy_of,
    findings,
    is_new,
    new_pool,
    new_repository,
    push_snapshots,
    reopen,
    restore,
    snapshot,
    write,
)


def two_snapshots():
    """A volume with a snapshot `a` that is to be in the repository, and `b`, which is to be pushed."""
    pool, rnd = new_pool(), random.Random(7)
    pool.create_volume("volume", 66 * MIB)
    write(pool, "volume", (0, rnd.randbytes(900 * KIB)), (65 * MIB, rnd.randbytes(300 * KIB)))
    first = snapshot(pool, "a", "volume")
    write(pool, "volume", (500 * KIB, rnd.randbytes(200 * KIB)), (30 * MIB, rnd.randbytes(2 * MIB)))
    return pool, first, snapshot(pool, "b", "volume")


def repository_with_first(first):
    store = MemoryStore(CLOCK)
    push_snapshots(new_repository(store), first)
    return store


def calls_of_a_push():
    _, first, second = two_snapshots()
    faulty = Faulty(repository_with_first(first))
    push_snapshots(reopen(faulty), second)
    return len(faulty.calls)


CALLS = calls_of_a_push()


@pytest.mark.slow
@pytest.mark.parametrize("fault", [CRASH_BEFORE, CRASH_AFTER], ids=["before", "after"])
def test_a_push_that_dies_at_any_call_leaves_the_repository_whole(fault):
    pool, first, second = two_snapshots()
    before, met = repository_with_first(first), set()
    for number in range(1, CALLS + 1):
        store = copy_of(before)
        with pytest.raises(Crashed):
            push_snapshots(reopen(Faulty(store, at(number, fault))), second)
        if not is_new(store, met):
            continue

        repository = reopen(store, seed=number + 2)
        versions = repository.versions()
        assert findings(repository) == (), f"after a crash at call {number}"
        assert 1 <= len(versions) <= 2
        for manifest, name in zip(versions, "ab", strict=False):
            restored = new_pool("other")
            restore(repository, manifest, restored, "copy")
            assert content(restored, "copy") == content(pool, "volume", name)

        report = push_snapshots(reopen(store, seed=number + 100), second)
        repository = reopen(store)
        assert report.version == repository.resolve(parse_reference("bucket/object")).version
        assert findings(repository) == ()


@pytest.mark.slow
def test_what_a_dead_push_sent_is_not_sent_again():
    _, first, second = two_snapshots()
    undisturbed = push_snapshots(reopen(repository_with_first(first)), second)
    store, faulty = repository_with_first(first), None
    for number in range(1, CALLS + 1):
        faulty = Faulty(store, at(number, CRASH_BEFORE))
        with pytest.raises(Crashed):
            push_snapshots(reopen(faulty, seed=number + 2), second)
        if any(call.key.startswith("index/") and call.writes for call in faulty.calls):
            break  # it died when all packs were sent, and no segment told of them

    report = push_snapshots(reopen(store, seed=99), second)

    assert undisturbed.new_chunks > 0
    assert report.new_chunks == 0
    assert findings(reopen(store)) == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [Unreachable("gone"), OutOfSpace("full"), Failed("odd")], ids=lambda e: type(e).__name__
)
def test_a_push_that_fails_at_any_call_says_so_and_ends_its_session(error):
    _, first, second = two_snapshots()
    before = repository_with_first(first)
    for number in range(1, CALLS + 1):
        store = copy_of(before)
        faulty = Faulty(store, at(number, Fault(Moment.BEFORE, error)))
        with suppress(RokError):  # ending the session may fail after the version stands
            push_snapshots(reopen(faulty), second)
        committing = faulty.calls[number - 1].key.startswith("versions/") and faulty.calls[number - 1].writes
        ending = faulty.calls[number - 1].key.startswith("pending/") and faulty.calls[number - 1].operation == "delete"
        if not ending and not (committing and isinstance(error, Unreachable | Failed)):
            assert list(store.list("pending/")) == [], f"after a failure at call {number}: {faulty.calls[number - 1]}"
        assert findings(reopen(store, seed=5)) == ()


def test_a_session_that_was_taken_for_dead_cannot_commit():
    _, first, second = two_snapshots()
    store = repository_with_first(first)

    def break_the_session(call):
        if call.operation == "create" and call.key.startswith("versions/"):
            store.create(call.key, b"broken")
        return None

    with pytest.raises(Failed, match="broken"):
        push_snapshots(reopen(Faulty(store, break_the_session)), second)
    assert len(reopen(store).versions()) == 1


def test_a_read_error_in_the_middle_of_a_volume_ends_the_push_without_a_version():
    pool, first, second = two_snapshots()
    store = repository_with_first(first)
    pool.break_reads("volume", 31 * MIB, snapshot="b")

    with pytest.raises(Failed, match="volume"):
        push_snapshots(reopen(store), second)

    assert len(reopen(store).versions()) == 1
    assert list(store.list("pending/")) == []


def test_a_source_that_shrinks_ends_the_push_without_a_version():
    pool, first, second = two_snapshots()
    store = repository_with_first(first)
    pool.cut("volume", 20 * MIB, snapshot="b")

    with pytest.raises(Failed, match="shorter"):
        push_snapshots(reopen(store), second)

    assert len(reopen(store).versions()) == 1


def test_a_base_that_is_forgotten_while_the_session_opens_is_no_base():
    pool, first, second = two_snapshots()
    store = repository_with_first(first)
    base = reopen(store).versions()[0].version

    def forget_the_base(call):
        if call.operation == "create" and call.key.startswith("pending/"):
            store.put(f"versions/{base}", b"forgotten")
        return None

    undisturbed = push_snapshots(new_repository(MemoryStore(CLOCK)), second)
    report = push_snapshots(reopen(Faulty(store, forget_the_base)), second)

    assert report.base is None
    assert report.read == undisturbed.read, "what is inherited unread must come from a base"
    (only,) = reopen(store).versions()
    restored = new_pool("other")
    restore(reopen(store), only, restored, "copy")
    assert content(restored, "copy") == content(pool, "volume", "b")


def push_while_time_passes(seconds):
    """Push by a clock that goes on by so much whenever a pack is sent; gives the store's calls, and what was raised."""
    _, first, second = two_snapshots()
    store, clock = repository_with_first(first), ManualClock()

    def pass_time(call):
        if call.operation == "create" and call.key.startswith("pack/"):
            clock.advance(seconds)
        return None

    faulty = Faulty(store, pass_time)
    try:
        push_snapshots(reopen(faulty, clock=clock), second)
    except Failed as error:
        return faulty.calls, error, store
    return faulty.calls, None, store


def test_a_long_push_keeps_its_session_alive():
    calls, error, store = push_while_time_passes(LEASE_SECONDS / 4 + 1)
    assert error is None
    records = [call.key for call in calls if call.operation == "create" and call.key.startswith("pending/")]
    assert len(records) == len(set(records)) > 1
    assert len(reopen(store).versions()) == 2


def test_a_push_that_stood_still_beyond_its_lease_does_not_commit():
    _, error, store = push_while_time_passes(LEASE_SECONDS)
    assert "stood still" in error.message
    assert len(reopen(store).versions()) == 1
    assert list(store.list("pending/")) == []
