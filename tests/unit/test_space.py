"""Space by object and bucket, and growth: what the property of figures does not show."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from engine.ops.growth import Growth, Period, growth
from engine.ops.space import Grouping, space
from engine.progress import Silent
from engine.repo.naming import ObjectName
from engine.repo.pack import PackKind, parse_pack_key, read_directory
from engine.store.faulty import Faulty
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import CLOCK, new_pool, new_repository, push_snapshots, reopen, write

FIRST, SECOND = ObjectName("bucket", "first"), ObjectName("bucket", "second")


@pytest.fixture
def pool():
    """Snapshots a and b: 1 MiB that does not compress, and 512 KiB more."""
    pool, rnd = new_pool(), random.Random(5)
    pool.create_volume("volume", 4 * MIB)
    write(pool, "volume", (0, rnd.randbytes(MIB)))
    pool.create_snapshots({"volume": "a"})
    write(pool, "volume", (2 * MIB, rnd.randbytes(512 * KIB)))
    pool.create_snapshots({"volume": "b"})
    return pool


@pytest.fixture
def store(pool):
    """Two objects of one bucket, of which each has one of the snapshots."""
    store = MemoryStore(CLOCK)
    push_both(new_repository(store), pool, FIRST, SECOND)
    return store


def push_both(repository, pool, *destinations):
    for name, destination in zip("ab", destinations, strict=True):
        push_snapshots(repository, [(pool, pool.snapshot("volume", name))], destination, full=True)


def test_an_object_has_for_itself_what_no_other_needs(store):
    first, second = (group.usage for group in space(reopen(store), Grouping.OBJECT, Silent()).groups)
    assert (first.versions, first.logical, first.data) == (1, 4 * MIB, MIB)
    assert MIB <= first.shared == second.shared < MIB + 10 * KIB
    assert first.unique < 10 * KIB, "only maps"
    assert 512 * KIB <= second.unique < 522 * KIB
    assert second.dedup_ratio == 1.0
    assert second.compression_ratio == pytest.approx(1.0, abs=0.01)


def test_a_bucket_shares_nothing_with_itself(store):
    report = space(reopen(store), Grouping.BUCKET, Silent())
    [bucket] = report.groups
    assert (bucket.bucket, bucket.object, bucket.usage.shared) == ("bucket", None, 0)
    assert bucket.usage == report.total
    assert bucket.usage.dedup_ratio == pytest.approx(2.5 / 1.5, abs=0.01)


def test_what_was_forgotten_is_needed_by_nobody(store):
    repository = reopen(store)
    repository.forget(repository.versions()[-1].version)
    report = space(repository, Grouping.OBJECT, Silent())
    assert 512 * KIB <= report.unneeded < 530 * KIB
    assert [group.object for group in report.groups] == ["first"]


def test_an_empty_repository_takes_nothing():
    report = space(new_repository(MemoryStore(CLOCK)), Grouping.OBJECT, Silent())
    assert (report.groups, report.packs, report.unneeded, report.overhead, report.lost) == ((), 0, 0, 0, 0)
    assert (report.total.dedup_ratio, report.total.compression_ratio) == (None, None)


def test_no_content_is_read(store):
    faulty = Faulty(store)
    space(reopen(faulty), Grouping.OBJECT, Silent())
    chunk_packs = set()
    repository = reopen(store)
    for blob in store.list("pack/"):
        name = parse_pack_key(blob.key)
        directory = read_directory(
            name, blob.size, lambda o, n, key=blob.key: store.get_range(key, o, n), repository.keyring
        )
        if directory.kind is PackKind.CHUNKS:
            chunk_packs.add(blob.key)
    assert chunk_packs
    assert [call for call in faulty.calls if call.key in chunk_packs] == []


@pytest.mark.parametrize("folder", ["pack/", "versions/"])
def test_what_is_lost_is_counted(store, folder):
    for blob in list(store.list(folder))[:1]:
        store.put(blob.key, store.get(blob.key)[:-1])
    assert space(reopen(store), Grouping.OBJECT, Silent()).lost > 0


def pushed_at(store, *times):
    [manifest] = reopen(store).versions("bucket", "first")
    return [
        replace(manifest, store_time=time, totals=replace(manifest.totals, stored=10**number, read=1, data=2))
        for number, time in enumerate(times)
    ]


def test_growth_is_what_was_sent_in_each_period_that_has_a_version(store):
    manifests = pushed_at(
        store,
        datetime(2026, 12, 31, 23, 59, tzinfo=UTC),
        datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))),  # still the old year in UTC
        datetime(2027, 1, 2, tzinfo=UTC),
        datetime(2027, 1, 4, tzinfo=UTC),
    )

    def stored(period):
        return [(step.period, step.versions, step.stored, step.stored_so_far) for step in growth(manifests, period)]

    assert stored(Period.DAY) == [
        ("2026-12-31", 2, 11, 11),
        ("2027-01-02", 1, 100, 111),
        ("2027-01-04", 1, 1000, 1111),
    ]
    assert stored(Period.WEEK) == [("2026-W53", 3, 111, 111), ("2027-W01", 1, 1000, 1111)]
    assert stored(Period.MONTH) == [("2026-12", 2, 11, 11), ("2027-01", 2, 1100, 1111)]
    assert growth(manifests, Period.YEAR)[0] == Growth("2026", versions=2, data=4, read=2, stored=11, stored_so_far=11)
    assert growth([], Period.DAY) == []


def test_maps_that_a_collection_moved_meanwhile_are_found(store, pool):
    undisturbed, moved = space(reopen(store), Grouping.BUCKET, Silent()), []

    def move(call):
        if call.operation == "get_range" and call.key.startswith("pack/") and not moved:
            moved.append(call)
            for blob in [*store.list("pack/"), *store.list("index/")]:
                store.delete(blob.key)
            # the same chunks and maps come into packs of other names
            push_both(reopen(store, seed=20), pool, ObjectName("again", "first"), ObjectName("again", "second"))
        return None

    report = space(reopen(Faulty(store, move)), Grouping.BUCKET, Silent())

    assert moved
    assert report.lost == 0
    assert report.groups == undisturbed.groups
