"""A check finds what is wrong and nothing else, whatever others do to the repository while it looks."""

from datetime import timedelta
from fractions import Fraction

import pytest

from engine.errors import Refused
from engine.progress import Silent
from engine.repo.check import Leftover, check
from engine.repo.collect import CollectOptions, collect
from engine.repo.condemnation import seal_condemnation
from engine.repo.manifest import FORGOTTEN
from engine.repo.pack import Directory, PackBuilder, PackKind, PackName
from engine.repo.sample import Part, Share
from engine.repo.segment import encode_segment, facts_of
from engine.repo.session import LEASE_SECONDS, PACK_TARGET, Purpose
from engine.store.memory import MemoryStore
from tests.manual_clock import ManualClock
from tests.repositories import (
    OBJECT,
    copy_of,
    findings,
    new_pool,
    new_repository,
    packs,
    push_snapshots,
    reopen,
    snapshot,
    two_versions,
    write,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def story():
    return two_versions()


class Interrupted:
    """A store before whose call of a certain number something happens."""

    def __init__(self, store, number, happen):
        self._store, self._left, self._happen = store, number, happen
        self.calls = 0

    def __getattr__(self, name):
        def call(*arguments):
            self.calls += 1
            if self.calls == self._left:
                self._happen(self._store)
            return getattr(self._store, name)(*arguments)

        return getattr(self._store, name) if name in ("url", "close") else call


def move_all_packs(store):
    """What a collection does at the worst: everything that lives is copied out, and the old packs go."""
    repository = reopen(store, seed=40)
    owner = repository.entropy(16).hex()
    made = []
    for number, (key, directory) in enumerate(
        [*packs(store, repository, PackKind.CHUNKS), *packs(store, repository, PackKind.MAPS)]
    ):
        old = repository.keyring.cipher("pack", key.removeprefix("pack/"))
        new = PackBuilder(
            PackName(owner, number), directory.kind, bytearray(PACK_TARGET), repository.keyring, repository.entropy
        )
        for record in directory.records:
            payload = old.open(record.chunk[:12], store.get_range(key, record.offset, record.length))
            new.add(record.chunk, payload, raw=record.raw, blocks=record.blocks)
        blob = new.finish()
        store.create(new.name.key, blob)
        made.append((key, facts_of(Directory(new.name, new.kind, len(blob), tuple(new.records)))))
    name = repository.entropy(16).hex()
    segment = encode_segment(name, [facts for _, facts in made], repository.keyring, repository.entropy)
    store.create(f"index/{name}", segment)
    for key, _ in made:
        store.delete(key)
    for blob in list(store.list("index/")):
        if blob.key != f"index/{name}":
            store.delete(blob.key)


def forget_all_and_collect(store):
    for blob in list(store.list("versions/")):
        store.put(blob.key, FORGOTTEN)
    for prefix in ("pack/", "index/", "tags/"):
        for blob in list(store.list(prefix)):
            store.delete(blob.key)


def forget_one_and_collect(store):
    """What a collection really does, as fast as it can."""
    repository = reopen(store, seed=42)
    repository.forget(repository.versions()[0].version)
    collect(repository, CollectOptions(grace=timedelta(0), dangling_share=0.0, live_share=1.0), progress=Silent())


@pytest.mark.parametrize(
    ("happen", "read_data"),
    [
        (move_all_packs, False),
        (move_all_packs, True),
        (forget_all_and_collect, True),
        (forget_one_and_collect, False),
        (forget_one_and_collect, True),
    ],
)
def test_whatever_happens_between_two_calls_of_a_check_it_finds_no_damage(story, happen, read_data):
    _, store, _ = story
    undisturbed = Interrupted(copy_of(store), 0, happen)
    check(reopen(undisturbed), read_data=read_data, progress=Silent(), workers=0)
    assert undisturbed.calls > 10
    for number in range(1, undisturbed.calls + 1):
        disturbed = Interrupted(copy_of(store), number, happen)
        report = check(reopen(disturbed), read_data=read_data, progress=Silent(), workers=0)
        assert report.findings == (), f"before call {number}"


def test_a_push_that_commits_meanwhile_is_no_damage(story):
    pool, store, _ = story
    write(pool, "volume", (30 * 2**20, b"new" * 100_000))
    taken = snapshot(pool, "during-a-check", "volume")
    calls = Interrupted(copy_of(store), 0, None)
    check(reopen(calls), read_data=True, progress=Silent(), workers=0)
    for number in range(1, calls.calls + 1, 3):
        disturbed = Interrupted(copy_of(store), number, lambda store: push_snapshots(reopen(store, seed=41), taken))
        report = check(reopen(disturbed), read_data=True, progress=Silent(), workers=0)
        assert report.findings == (), f"before call {number}"


@pytest.mark.parametrize("read_data", [False, True, Share(Fraction(1, 2))])
def test_who_may_only_read_a_store_that_keeps_its_clock_to_writers_can_check(story, read_data):
    _, store, _ = story

    class Reader:
        def now(self):
            raise Refused("cannot read the clock")

        def __getattr__(self, name):
            assert name in ("url", "get", "get_range", "read_into", "list", "stat"), f"{name} writes"
            return getattr(store, name)

    report = check(reopen(Reader()), read_data=read_data, progress=Silent())
    assert (report.findings, report.notes) == ((), ())


def leftovers(repository):
    return {(note.leftover, note.blob) for note in check(repository, read_data=False, progress=Silent()).notes}


def test_a_session_that_nobody_ended_is_noted_when_its_lease_is_over():
    clock = ManualClock()
    store = MemoryStore(clock)
    repository = new_repository(store, clock=clock)
    with repository.session(Purpose(OBJECT, None, "node"), threads=1, writers=1) as session:
        assert leftovers(repository) == set(), "it lives"
        clock.advance(LEASE_SECONDS + 1)
        assert leftovers(repository) == {(Leftover.SESSION, f"pending/{session.version}")}


def test_the_record_of_a_session_that_has_ended_is_noted(story):
    _, store, repository = story
    version = repository.versions()[0].version
    store.put(f"pending/{version}", b"left over")
    found = check(repository, read_data=False, progress=Silent())
    assert (Leftover.RECORD, f"pending/{version}") in {(note.leftover, note.blob) for note in found.notes}


def test_condemned_packs_and_packs_that_no_segment_states_are_noted(story):
    _, store, repository = story
    assert leftovers(repository) == set()
    (key, directory), *_ = packs(store, repository, PackKind.CHUNKS)
    store.put("gc/" + "1" * 32, seal_condemnation("1" * 32, [directory.name], repository.keyring, repository.entropy))
    assert leftovers(repository) == {(Leftover.CONDEMNED, key)}
    assert findings(repository) == (), "while it stands it can be read"
    for blob in list(store.list("index/")):
        store.delete(blob.key)
    assert {(Leftover.ORPHAN, blob.key) for blob in store.list("pack/")} <= leftovers(repository)


def test_samples_add_up_to_all_packs(story):
    _, store, repository = story
    reports = [check(repository, read_data=Part(n, 7), progress=Silent()) for n in range(1, 8)]
    assert sum(report.bytes_read for report in reports) == sum(blob.size for blob in store.list("pack/"))
    assert sum(report.packs_read for report in reports) == len(list(store.list("pack/")))
    assert [report.part for report in reports] == [f"{n}/7" for n in range(1, 8)]


def test_a_check_every_day_comes_to_find_a_damaged_record():
    clock = ManualClock()
    store, pool = MemoryStore(clock), new_pool(clock=clock)
    pool.create_volume("volume", 8 * 2**20)
    write(pool, "volume", (0, b"content" * 10_000))
    repository = new_repository(store, clock=clock)
    push_snapshots(repository, snapshot(pool, "a", "volume"))
    (key, directory), *_ = packs(store, repository, PackKind.CHUNKS)
    blob = bytearray(store.get(key))
    blob[directory.records[0].offset] ^= 1
    store.put(key, blob)

    found = []
    for _ in range(23):
        sample = Share(Fraction(1, 20))
        found += check(repository, read_data=sample, progress=Silent()).findings
        clock.advance(24 * 3600)

    assert [(finding.blob, finding.code.value) for finding in found] == [(key, "record")]
