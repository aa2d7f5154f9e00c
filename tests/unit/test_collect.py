"""Collection: what is dead goes, in its time; what lives stays, whatever happens on the way."""

import random
from datetime import timedelta

import pytest

from engine.errors import Damaged, OutOfSpace
from engine.progress import Silent
from engine.repo.collect import CollectOptions, Reason, collect
from engine.repo.condemnation import seal_condemnation
from engine.repo.look import look_into
from engine.repo.manifest import BROKEN
from engine.repo.map import REGION
from engine.repo.marks import Marks
from engine.repo.pack import parse_pack_key
from engine.repo.session import LEASE_SECONDS, Purpose
from engine.store.faulty import CRASH_AFTER, CRASH_BEFORE, Crashed, Fault, Faulty, Moment, at
from engine.store.memory import MemoryStore
from engine.units import MIB
from tests.repositories import (
    OBJECT,
    TickingClock,
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

NOW = CollectOptions(grace=timedelta(0), dangling_share=0.0)


@pytest.fixture
def clock():
    return TickingClock()


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


@pytest.fixture
def repository(store, clock):
    return new_repository(store, clock=clock)


@pytest.fixture
def story(repository, rnd):
    return Story(repository, rnd)


class Story:
    """A volume that is written, pushed and forgotten; and what every version must hold."""

    def __init__(self, repository, rnd):
        self.repository = repository
        self._rnd = rnd
        self._pool = new_pool()
        self._pool.create_volume("v", 8 * MIB)
        self.expected = {}
        self._count = 0

    def push(self, *pieces, **options):
        """Write random bytes at these (offset, length), and push; the version."""
        write(self._pool, "v", *((offset, self._rnd.randbytes(length)) for offset, length in pieces))
        self._count += 1
        taken = snapshot(self._pool, f"s{self._count}", "v")
        version = push_snapshots(self.repository, taken, workers=1, **options).version
        self.expected[version] = content(self._pool, "v", f"s{self._count}")
        return version

    def forget(self, version):
        self.repository.forget(version)
        del self.expected[version]

    def check(self, repository=None):
        repository = repository or self.repository
        assert not findings(repository)
        assert {manifest.version for manifest in repository.versions()} == {*self.expected}
        for number, manifest in enumerate(repository.versions()):
            target = new_pool(f"back{number}")
            restore(repository, manifest, target, "v")
            assert content(target, "v") == self.expected[manifest.version]


def run(repository, options=NOW, cache=None):
    return collect(repository, options, progress=Silent(), cache=cache)


def keys(store, prefix):
    return [blob.key for blob in store.list(prefix)]


def test_a_repository_without_dead_bytes_is_left_as_it_is(story, store):
    story.push((0, 2 * MIB))
    before = keys(store, "")
    report = run(story.repository)
    assert (report.condemned_packs, report.deleted_packs, report.dead_bytes) == (0, 0, 0)
    assert keys(store, "") == before


def test_what_a_forgotten_version_alone_needed_is_deleted(story, store):
    story.forget(story.push((0, 2 * MIB)))
    before = store_size(store)
    report = run(story.repository)
    assert report.deleted_packs == report.condemned_packs > 0
    assert report.freed_bytes > 2 * MIB
    assert keys(store, "pack/") == keys(store, "index/") == keys(store, "gc/") == keys(store, "s0/") == []
    assert store_size(store) < before - 2 * MIB
    story.check()


def store_size(store):
    return sum(blob.size for blob in store.list(""))


def test_what_another_version_needs_is_copied_out_of_a_pack_that_goes(story, store):
    first = story.push((0, 3 * MIB), (6 * MIB, MIB))
    story.push((0, 3 * MIB))  # the last MiB of the first is still in it
    packs = keys(store, "pack/")
    story.forget(first)
    report = run(story.repository)
    assert MIB / 2 < report.copied_bytes < 2 * MIB
    assert not {*packs} <= {*keys(store, "pack/")}
    story.check()
    assert run(story.repository).dead_bytes == 0, "a second run finds nothing to do"


def test_a_pack_with_few_dead_bytes_is_not_worth_the_copying(story, store):
    first = story.push((0, MIB // 4), (4 * MIB, 2 * MIB))
    story.push((0, MIB // 4))
    story.forget(first)
    thrifty = CollectOptions(grace=timedelta(0), live_share=0.5)
    big = [key for key in keys(store, "pack/") if first in key and store.stat(key).size > MIB]
    report = run(story.repository, thrifty)
    assert report.dead_bytes > 0
    assert {*big} <= {*keys(store, "pack/")}
    story.check()


def test_condemned_packs_wait_out_the_grace_time_by_the_stores_clock(story, store, clock):
    story.forget(story.push((0, MIB)))
    day = CollectOptions(grace=timedelta(days=1))
    packs = keys(store, "pack/")
    report = run(story.repository, day)
    assert [waiting.reason for waiting in report.waiting] == [Reason.GRACE]
    assert report.reclaimable_later == report.condemned_bytes > MIB
    assert keys(store, "pack/") == packs
    clock.advance(12 * 3600)
    assert [waiting.reason for waiting in run(story.repository, day).waiting] == [Reason.GRACE]
    clock.advance(13 * 3600)
    assert run(story.repository, day).deleted_packs == len(packs)
    assert keys(store, "pack/") == keys(store, "gc/") == []


def test_a_session_that_was_open_holds_the_collection_back_until_it_ends(story, store):
    story.forget(story.push((0, MIB)))
    session = story.repository.session(Purpose(OBJECT, None, "n"), threads=1, writers=1)
    with session as opened:
        report = run(story.repository)
        assert [(waiting.reason, waiting.sessions) for waiting in report.waiting] == [
            (Reason.SESSIONS, (opened.version,))
        ]
        opened.give_up()
    assert run(story.repository).deleted_packs > 0


def test_a_session_that_died_is_broken_when_its_lease_is_over_and_its_packs_are_collected(story, store, clock, rnd):
    def at_the_commit(call):
        return CRASH_BEFORE if call.operation == "create" and call.key.startswith("versions/") else None

    with pytest.raises(Crashed):
        Story(reopen(Faulty(store, at_the_commit), clock=clock), rnd).push((0, MIB))
    assert keys(store, "pack/")
    clock.advance(LEASE_SECONDS - 60)
    assert run(story.repository).sessions_broken == 0
    clock.advance(120)
    assert run(story.repository).sessions_broken == 1
    assert keys(store, "pack/") == keys(store, "pending/") == []
    assert [store.get(key) for key in keys(store, "versions/")] == [BROKEN]


def test_a_dry_run_says_what_would_go_and_changes_nothing(story, store):
    story.forget(story.push((0, MIB)))
    before = {key: store.get(key) for key in keys(store, "")}
    report = run(story.repository, CollectOptions(dry_run=True))
    assert report.dry_run
    assert report.condemned_bytes > MIB
    assert {key: store.get(key) for key in keys(store, "")} == before


def test_a_push_uses_nothing_that_is_condemned(story, store, rnd):
    version = story.push((0, MIB))
    story.forget(version)
    run(story.repository, CollectOptions(grace=timedelta(days=1)))
    again = story.push((4 * MIB, 4096), full=True)  # the first MiB has not changed
    assert run(story.repository).deleted_packs > 0
    assert again in story.expected
    story.check()


def test_tombstones_go_after_their_time_and_never_where_that_is_not_bounded(story, store, clock):
    story.forget(story.push((0, MIB)))
    clock.advance(31 * 86400)
    run(story.repository)
    assert len(keys(store, "versions/")) == 1
    run(story.repository, CollectOptions(grace=timedelta(0), keep_tombstones=timedelta(days=30)))
    assert keys(store, "versions/") == []


def test_a_damaged_manifest_stops_the_collection_before_anything_is_deleted(story, store):
    kept = story.push((0, MIB))
    story.forget(story.push((0, MIB), full=True))
    store.put(f"versions/{kept}", b"x" * 100)
    before = keys(store, "pack/")
    with pytest.raises(Damaged, match="nothing was deleted"):
        run(story.repository)
    assert keys(store, "pack/") == before


def test_a_copy_that_cannot_be_read_is_no_reason_to_delete_the_other(story, store):
    first = story.push((0, MIB))
    originals = {key: store.get(key) for key in (*keys(store, "pack/"), *keys(store, "index/"))}
    for key in originals:
        store.delete(key)
    second = story.push((7 * MIB, 4096), full=True)  # it cannot see the first one's packs, and stores the same again
    for key, blob in originals.items():
        store.put(key, blob)
    story.forget(first)
    condemn(story.repository, first)
    for key in (key for key in keys(store, "pack/") if second in key and store.stat(key).size > MIB):
        rotten = bytearray(store.get(key))
        rotten[100] ^= 1  # in its first record
        store.put(key, bytes(rotten))
    assert run(story.repository).copied_bytes > 0
    damage = [finding for finding in findings(story.repository) if finding.hurt]
    assert not damage, "the good copy was kept"


def condemn(repository, owner):
    packs = [pack for pack in repository.catalog.pack_sizes() if pack.owner == owner]
    name = repository.entropy(16).hex()
    repository.store.create(f"gc/{name}", seal_condemnation(name, packs, repository.keyring, repository.entropy))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [CRASH_BEFORE, CRASH_AFTER], ids=["before", "after"])
def test_a_collection_may_die_at_any_call_and_the_next_one_finishes(story, store, clock, fault):
    first = story.push((0, MIB // 2), (MIB, 4096))
    story.push((0, MIB // 2))
    second = story.push((2 * MIB, MIB // 4))
    story.push((2 * MIB, MIB // 8))
    for version in (first, second):
        story.forget(version)
    counting = Faulty(copy_of(store, clock))
    run(reopen(counting, clock=clock))
    assert len(counting.calls) > 30
    met = set()
    for number in range(1, len(counting.calls) + 1):
        left = copy_of(store, clock)
        with pytest.raises(Crashed):
            run(reopen(Faulty(left, at(number, fault)), clock=clock))
        if not is_new(left, met):
            continue
        story.check(reopen(left, clock=clock, seed=7))
        run(reopen(left, clock=clock, seed=8))  # finds what the dead one left, as facts that nobody stated
        last = run(reopen(left, clock=clock, seed=9))
        assert (last.waiting, last.condemned_packs, last.dead_bytes) == ((), 0, 0)
        assert keys(left, "gc/") == keys(left, "s0/") == []
        assert not findings(reopen(left, clock=clock, seed=10))


@pytest.mark.slow
def test_with_its_marks_a_collection_reads_only_the_maps_of_what_changed(story, store, clock):
    versions = [story.push((number * MIB, 4096)) for number in range(6)]
    cache = MemoryStore(clock)
    assert run(story.repository, cache=cache).maps_read >= 6 * 3
    assert run(story.repository, cache=cache).maps_read == 0
    story.forget(versions[2])
    report = run(story.repository, cache=cache)
    assert 0 < report.maps_read <= 3
    story.check()


def test_of_what_is_dead_in_condemned_packs_a_look_keeps_nothing(story, store):
    story.push((0, 2 * MIB))
    packs = frozenset(parse_pack_key(key) for key in keys(store, "pack/"))

    look = look_into(story.repository, packs, packs, Marks())

    assert {one.directory.name for one in look.contents} == packs
    assert not any(one.directory.records or one.needed for one in look.contents)


def test_the_marks_are_in_memory_only_while_they_are_needed(story, store, clock):
    """A node's cache of the index takes as much while it is made, and so does a segment while it is written."""
    first = story.push((0, 2 * MIB))
    story.push((0, 4096))
    cache, calls = MemoryStore(clock), []
    run(story.repository, cache=cache)
    story.forget(first)

    def noting(call):
        calls.append((call.operation, call.key.split("/")[0]))

    run(reopen(Faulty(store, noting), clock=clock), cache=Faulty(cache, noting))

    marks = [at for at, (_, folder) in enumerate(calls) if folder == "marks"]
    assert max(at for at, call in enumerate(calls) if call == ("get", "index") and at < marks[-1]) < marks[0]
    assert calls.index(("create", "index"), calls.index(("delete", "gc"))) > marks[-1]


def test_a_cache_that_is_full_costs_a_collection_none_of_its_work(story, store, clock):
    first = story.push((0, 2 * MIB))
    story.push((0, 4096))
    story.forget(first)
    twin = copy_of(store, clock)

    def full(call):
        return Fault(Moment.BEFORE, OutOfSpace("no space left")) if call.operation == "put" else None

    run(reopen(twin, seed=5, clock=clock), cache=MemoryStore(clock))
    run(reopen(store, seed=5, clock=clock), cache=Faulty(MemoryStore(clock), full))

    assert keys(store, "") == keys(twin, "")
    story.check()


def test_a_collection_that_finds_no_map_to_read_lists_no_more_than_it_needs(story, store, clock):
    cache = MemoryStore(clock)
    for seed in (5, 6):
        run(reopen(store, seed=seed, clock=clock), cache=cache)
    faulty = Faulty(store)

    report = run(reopen(faulty, seed=7, clock=clock), cache=cache)

    listed = [call.key for call in faulty.calls if call.operation in ("list", "keys")]
    assert report.maps_read == 0
    assert (listed.count("index/"), listed.count("pack/")) == (2, 2)


def test_maps_that_lie_side_by_side_are_read_with_one_request(repository, store, clock, rnd):
    pool, regions = new_pool(), 40
    pool.create_volume("v", regions * REGION)
    write(pool, "v", *((number * REGION, rnd.randbytes(4096)) for number in range(regions)))
    push_snapshots(repository, snapshot(pool, "s", "v"), workers=1)
    faulty = Faulty(store)

    report = run(reopen(faulty, seed=5, clock=clock))

    assert report.maps_read == regions + 2
    assert [call.operation for call in faulty.calls].count("get_range") < 10


def test_marks_that_are_damaged_or_of_another_repository_are_made_anew(story, store, clock):
    story.push((0, MIB))
    cache = MemoryStore(clock)
    run(story.repository, cache=cache)
    for key in keys(cache, ""):
        whole = cache.get(key)
        for spoilt in (whole[:-1], whole[:10] + bytes([whole[10] ^ 1]) + whole[11:], b""):
            cache.put(key, spoilt)
            assert run(story.repository, cache=cache).maps_read == 3
            assert run(story.repository, cache=cache).maps_read == 0
    other = Story(new_repository(MemoryStore(clock), clock=clock, seed=99), random.Random(1))
    other.push((0, MIB))
    run(other.repository, cache=cache)
    assert run(story.repository, cache=cache).maps_read == 3
    story.check()
