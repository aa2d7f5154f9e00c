"""What runs beside a collection: a check at each of its calls, a second collection at each of its calls, a full store."""

import random
from datetime import timedelta

import pytest

from engine.errors import OutOfSpace
from engine.progress import Silent
from engine.repo.collect import CollectOptions, collect
from engine.store.faulty import Fault, Faulty, Moment
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import (
    TickingClock,
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

pytestmark = pytest.mark.slow

NOW = CollectOptions(grace=timedelta(0), live_share=1.0)


@pytest.fixture
def clock():
    return TickingClock()


@pytest.fixture
def store(clock):
    """A repository of one object, some of whose versions were forgotten: packs to delete, and packs to copy from."""
    store = MemoryStore(clock)
    repository = new_repository(store, clock=clock)
    pool, rnd = new_pool(), random.Random(5)
    pool.create_volume("v", 4 * MIB)
    versions = []
    for number in range(5):
        write(pool, "v", (number * 256 * KIB, rnd.randbytes(384 * KIB)))
        versions.append(push_snapshots(repository, snapshot(pool, f"s{number}", "v"), workers=1).version)
    for version in versions[:3]:
        repository.forget(version)
    store.wanted = {version: content(pool, "v", f"s{number}") for number, version in enumerate(versions)}
    for version in versions[:3]:
        del store.wanted[version]
    return store


def copy_of(store, clock):
    copy = MemoryStore(clock)
    for blob in store.list(""):
        copy.put(blob.key, store.get(blob.key))
    copy.wanted = store.wanted
    return copy


def gc(store, clock, seed=2):
    return collect(reopen(store, clock=clock, seed=seed), NOW, progress=Silent())


def verify(store, clock):
    repository = reopen(store, clock=clock, seed=9)
    assert findings(repository) == ()
    assert {manifest.version for manifest in repository.versions()} == set(store.wanted)
    for number, manifest in enumerate(repository.versions()):
        target = new_pool(f"back{number}")
        restore(repository, manifest, target, "v")
        assert content(target, "v") == store.wanted[manifest.version]


def calls_of(store, clock):
    counting = Faulty(copy_of(store, clock))
    report = gc(counting, clock)
    assert report.deleted_packs
    assert report.copied_bytes
    return counting.calls


def test_a_check_at_any_call_of_a_collection_finds_nothing(store, clock):
    checked = []

    def check(call):
        checked.append(call)
        assert findings(reopen(store, clock=clock, seed=100 + call.number)) == (), call
        return None

    gc(Faulty(store, check), clock)

    assert len(checked) > 30
    verify(store, clock)


def test_a_second_collection_in_the_midst_of_the_first_loses_nothing(store, clock):
    for number in range(1, len(calls_of(store, clock)) + 1, 3):
        left = copy_of(store, clock)

        def second(call, number=number, left=left):
            if call.number == number:
                gc(left, clock, seed=3)
            return None

        gc(Faulty(left, second), clock)
        verify(left, clock)
        gc(left, clock, seed=4)  # of what both have copied one copy goes
        assert gc(left, clock, seed=5).dead_bytes == 0, number


def test_a_store_that_is_full_from_any_call_of_a_collection_on_loses_nothing(store, clock):
    writes = [call.number for call in calls_of(store, clock) if call.operation in ("put", "create")]
    assert len(writes) >= 4
    for number in writes:
        left = copy_of(store, clock)
        with pytest.raises(OutOfSpace):
            gc(Faulty(left, full_from(number)), clock)
        verify(left, clock)
        gc(left, clock, seed=4)
        verify(left, clock)
        assert gc(left, clock, seed=5).dead_bytes == 0, number


def full_from(number):
    fault = Fault(Moment.BEFORE, OutOfSpace("the store is full"))
    return lambda call: fault if call.number >= number and call.operation in ("put", "create") else None
