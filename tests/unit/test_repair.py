"""What a repair saves, what it marks as lost, and what it never does: delete what can be read."""

from datetime import timedelta

import pytest

from engine.errors import Damaged
from engine.progress import Silent
from engine.repo.collect import CollectOptions, Reason, collect
from engine.repo.condemnation import read_condemnations, seal_condemnation
from engine.repo.hurt import hurt_versions, losses_of
from engine.repo.index import Index
from engine.repo.pack import PackKind
from engine.repo.repair import RECORD_REST, Mend
from engine.repo.segment import PackFacts, encode_segment
from engine.store.faulty import CRASH_AFTER, CRASH_BEFORE, Crashed, Faulty, at
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.manual_clock import ManualClock
from tests.repositories import (
    copy_of,
    findings,
    flip,
    is_new,
    mend,
    new_pool,
    new_repository,
    packs,
    push_snapshots,
    reopen,
    restorable,
    snapshot,
    two_versions,
    write,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def story():
    return two_versions()


def keys(store, prefix=""):
    return {blob.key for blob in store.list(prefix)}


def chunks_of(repository, manifest):
    reader, member = repository.reader(), manifest.members[0]
    for number, reference in enumerate(reader.all_regions(member.root, member.size)):
        yield from (e.chunk for e in reader.region(reference, number, member.size) if not e.is_hole)


def damage_a_record(store, repository):
    """Of a chunk that both versions need; gives the key of its pack, and how many records that has."""
    shared = set.intersection(*(set(chunks_of(repository, manifest)) for manifest in repository.versions()))
    for key, directory in packs(store, repository, PackKind.CHUNKS):
        for record in directory.records:
            if record.chunk[:16] in shared:
                flip(store, key, record.offset + 20)
                return key, len(directory.records)
    raise AssertionError("the versions share nothing")


def test_of_a_whole_repository_nothing_is_touched(story):
    _, store, repository = story
    before = {key: store.get(key) for key in keys(store)}
    steps, report = mend(repository, from_packs=True)
    assert (steps, report.hurt, report.remaining) == ([], (), ())
    assert {key: store.get(key) for key in keys(store)} == before


def test_a_damaged_record_costs_its_chunk_alone(story):
    pool, store, repository = story
    key, records = damage_a_record(store, repository)
    before = keys(store)

    steps, report = mend(repository)

    assert [mend for mend, _ in steps][:3] == [Mend.SAVED, Mend.STATED, Mend.CONDEMNED]
    assert before <= keys(store), "nothing was deleted"
    (record,) = read_condemnations(repository)
    assert (record.damaged, [pack.key for pack in record.packs]) == (True, [key])
    copied = sum(len(d.records) for _, d in packs(store, repository, PackKind.CHUNKS) if d.name.owner == record.name)
    assert copied == records - 1
    hurt = {one.version for one in report.hurt}
    assert hurt == hurt_versions(repository)
    assert len(hurt) == 2
    assert restorable(store, pool) == 0


def test_what_is_lost_is_sent_again_by_the_next_push_and_then_nothing_is_hurt(story):
    pool, store, repository = story
    damage_a_record(store, repository)
    mend(repository)
    assert hurt_versions(repository)

    report = push_snapshots(reopen(store, seed=5), [(pool, pool.snapshot("volume", "b"))])
    steps, after = mend(reopen(store, seed=6))

    assert report.new_chunks == 1, "no more than what was lost"
    assert {mend for mend, _ in steps} == {Mend.LIFTED}
    assert (after.hurt, hurt_versions(repository)) == ((), frozenset())
    assert findings(repository) == ()
    assert restorable(store, pool) == 3


@pytest.mark.parametrize("kind", list(PackKind), ids=["chunks", "maps"])
def test_a_pack_that_is_gone_costs_what_was_in_it_until_it_is_sent_again(story, kind):
    pool, store, repository = story
    for key, _ in list(packs(store, repository, kind)):
        store.delete(key)

    steps, report = mend(repository, read_data=False)

    assert {mend for mend, _ in steps} == {Mend.MARKED}
    assert {one.version for one in report.hurt} == hurt_versions(repository) != set()
    assert {finding.code.value for finding in findings(repository)} == {"pack"}
    push_snapshots(reopen(store, seed=5), [(pool, pool.snapshot("volume", "a"))])
    push_snapshots(reopen(store, seed=6), [(pool, pool.snapshot("volume", "b"))])
    assert mend(reopen(store, seed=7))[1].hurt == ()
    assert restorable(store, pool) == 4


def test_the_marks_say_which_extents_are_lost(story):
    _, store, repository = story
    damage_a_record(store, repository)
    _, report = mend(repository)
    for hurt in report.hurt:
        assert losses_of(repository, hurt.version) == {hurt.member: hurt.extents}


@pytest.mark.parametrize("keep", [0, 31, 100 * KIB])
def test_of_a_truncated_pack_the_records_before_the_cut_are_saved(story, keep):
    pool, store, repository = story
    key, directory = max(packs(store, repository, PackKind.CHUNKS), key=lambda pack: pack[1].size)
    whole = [record for record in directory.records if record.offset + record.length <= keep]
    store.put(key, store.get(key)[:keep])
    before = keys(store)

    mend(repository, read_data=False)

    (condemned,) = read_condemnations(repository)
    assert [pack.key for pack in condemned.packs] == [key]
    assert before <= keys(store)
    saved = [facts.entries for facts in repository.catalog.stated_facts() if facts.name.owner == condemned.name]
    assert sum(saved) == len(whole)
    assert restorable(store, pool) < 2


def test_a_damaged_directory_costs_nothing_while_a_segment_names_the_pack(story):
    pool, store, repository = story
    for key, directory in list(packs(store, repository, PackKind.CHUNKS)):
        flip(store, key, directory.size - 20)

    _, report = mend(repository)

    assert report.hurt == ()
    assert restorable(store, pool) == 2
    for blob in list(store.list("index/")):
        store.delete(blob.key)
    assert restorable(store, pool) == 2, "what was saved stands in packs that describe themselves"


def test_damaged_segments_are_made_anew_from_the_packs(story):
    pool, store, repository = story
    damaged = keys(store, "index/")
    for key in damaged:
        flip(store, key, 50)

    steps, report = mend(repository, read_data=False)

    assert [mend for mend, _ in steps] == [Mend.STATED, *[Mend.REMOVED] * len(damaged)]
    assert report.hurt == ()
    assert not damaged & keys(store, "index/")
    assert {facts.name.key for facts in repository.catalog.stated_facts()} == keys(store, "pack/")
    assert restorable(store, pool) == 2
    assert mend(reopen(store, seed=9))[0] == []


def test_lost_segments_are_made_anew_from_the_packs(story):
    _, store, repository = story
    for key in keys(store, "index/"):
        store.delete(key)
    assert [mend for mend, _ in mend(repository, read_data=False)[0]] == [Mend.STATED]
    assert {facts.name.key for facts in repository.catalog.stated_facts()} == keys(store, "pack/")


def falsify(repository, facts, name=None):
    """What a node that was taken over can do: facts of the right size that are not so."""
    false = PackFacts(facts.name, facts.kind, facts.size, facts.prefixes[16:] + facts.prefixes[:16], facts.lengths)
    name = name or repository.entropy(16).hex()
    repository.store.create(f"index/{name}", encode_segment(name, [false], repository.keyring, repository.entropy))
    return f"index/{name}"


def test_facts_in_dispute_are_not_believed_and_the_false_ones_removed(story):
    pool, store, repository = story
    facts = max(repository.catalog.stated_facts(), key=lambda facts: facts.entries)
    false = falsify(repository, facts)

    assert restorable(store, pool) == 2, "the pack itself is asked"
    assert [(finding.blob, finding.code.value) for finding in findings(repository, read_data=False)] == [
        (false, "facts")
    ]
    steps, report = mend(repository, read_data=False)

    assert (Mend.REMOVED, false) in steps
    assert false not in keys(store)
    assert (report.hurt, findings(repository)) == ((), ())


def test_a_collection_neither_settles_a_dispute_nor_states_the_pack_again_each_time(story):
    pool, store, repository = story
    facts = max(repository.catalog.stated_facts(), key=lambda facts: facts.entries)
    falsify(repository, facts, name="0" * 32)
    before = keys(store, "index/")

    collect(repository, CollectOptions(), progress=Silent())
    assert keys(store, "index/") == before

    collect(repository, CollectOptions(dangling_share=-1.0), progress=Silent())
    assert not before & keys(store, "index/"), "all segments were joined"
    assert restorable(store, pool) == 2, "the pack itself is still asked"
    assert [finding.code.value for finding in findings(repository, read_data=False)] == ["facts"]
    assert mend(repository, read_data=False)[1].hurt == ()
    assert findings(repository) == ()


def test_false_facts_that_nobody_disputes_are_found_by_reading_and_made_anew_from_the_packs(story):
    pool, store, repository = story
    facts = max(repository.catalog.stated_facts(), key=lambda facts: facts.entries)
    for key in keys(store, "index/"):
        store.delete(key)
    false = falsify(repository, facts)
    assert restorable(store, pool) < 2

    (finding,) = findings(repository)
    assert (finding.blob, finding.code.value) == (false, "facts")
    assert finding.hurt, "the false facts hide what is in the pack"
    _, report = mend(repository, from_packs=True, read_data=False)

    assert report.hurt == ()
    assert false not in keys(store)
    assert restorable(store, pool) == 2
    assert findings(repository) == ()


def test_a_dry_run_says_the_same_steps_and_takes_none(story):
    _, store, repository = story
    damage_a_record(store, repository)
    flip(store, min(keys(store, "index/")), 50)
    before = {key: store.get(key) for key in keys(store)}

    planned, report = mend(repository, dry_run=True)

    assert {key: store.get(key) for key in keys(store)} == before
    steps, done = mend(repository)
    assert [mend for mend, _ in planned] == [mend for mend, _ in steps]
    assert report.hurt == done.hurt


def test_repairing_again_finds_nothing_to_do(story):
    _, store, repository = story
    damage_a_record(store, repository)
    flip(store, min(keys(store, "index/")), 50)
    mend(repository)
    before = keys(store)

    steps, report = mend(reopen(store, seed=8))

    assert steps == []
    assert report.hurt, "the loss is still said"
    assert keys(store) == before


def test_no_push_relies_on_a_pack_that_was_given_up(story):
    pool, store, repository = story
    key, _ = damage_a_record(store, repository)
    mend(repository)
    index: Index = repository.catalog.index_for_writing()[0]
    assert key not in {name.key for name in index.packs}
    assert key not in {name.key for name in repository.catalog.index_for_reading().packs}
    write(pool, "volume", (20 * MIB, b"z" * MIB))
    push_snapshots(reopen(store, seed=5), snapshot(pool, "repair-c", "volume"))
    assert restorable(store, pool) >= 1


@pytest.mark.parametrize("fault", [CRASH_BEFORE, CRASH_AFTER], ids=["before", "after"])
def test_a_repair_may_die_at_any_call_and_the_next_one_finishes(story, fault):
    """All kinds of steps at once: records to save, a segment to make anew, versions to mark."""
    _, store, repository = story
    damage_a_record(store, repository)
    flip(store, min(keys(store, "index/")), 50)
    whole = Faulty(copy_of(store))
    _, expected = mend(quiet(reopen(whole, seed=20)))
    met = set()
    for number in range(1, len(whole.calls) + 1):
        copy = copy_of(store)
        before = {key for key in keys(copy) if not key.startswith("index/")}
        with pytest.raises(Crashed):
            mend(quiet(reopen(Faulty(copy, at(number, fault)), seed=21)))
        if not is_new(copy, met):
            continue
        assert before <= keys(copy), "nothing that can be read was deleted"
        _, report = mend(quiet(reopen(copy, seed=22)))
        assert report.hurt == expected.hurt
        assert mend(quiet(reopen(copy, seed=23)))[0] == []
        assert {finding.code.value for finding in findings(reopen(copy))} == {"pack"}


def quiet(repository):
    """One thread alone, so that the calls come in one order."""
    repository.connections = 1
    return repository


AT_ONCE = CollectOptions(grace=timedelta(0), dangling_share=0.0, live_share=1.0)


def test_what_was_given_up_is_collected_and_costs_no_more_than_was_lost(story):
    pool, store, repository = story
    key, _ = damage_a_record(store, repository)
    before = mend(repository)[1].hurt

    report = collect(reopen(store, seed=30), AT_ONCE, progress=Silent())

    assert report.waiting == ()
    assert key not in keys(store)
    assert keys(store, "gc/") == set()
    again = reopen(store, seed=31)
    after = [hurt for finding in findings(again) for hurt in finding.hurt]
    assert {(hurt.version, hurt.extents) for hurt in after} == {(hurt.version, hurt.extents) for hurt in before}
    push_snapshots(again, [(pool, pool.snapshot("volume", "a"))])
    push_snapshots(reopen(store, seed=32), [(pool, pool.snapshot("volume", "b"))])
    assert mend(reopen(store, seed=33))[1].hurt == ()
    assert restorable(store, pool) == 4


def test_a_collection_that_waits_for_damaged_chunks_finishes_after_a_repair(story):
    _, store, repository = story
    key, directory = max(packs(store, repository, PackKind.CHUNKS), key=lambda pack: pack[1].size)
    damage_a_record(store, repository)
    name = "5" * 32
    store.put(f"gc/{name}", seal_condemnation(name, [directory.name], repository.keyring, repository.entropy))
    waiting = collect(reopen(store, seed=30), AT_ONCE, progress=Silent()).waiting
    assert [one.reason for one in waiting] == [Reason.DAMAGED]

    mend(reopen(store, seed=31))

    assert collect(reopen(store, seed=32), AT_ONCE, progress=Silent()).waiting == ()
    assert key not in keys(store)


def test_a_record_of_condemnation_that_cannot_be_read_is_removed_when_no_collection_can_know_it():
    clock = ManualClock()
    store, pool = MemoryStore(clock), new_pool(clock=clock)
    pool.create_volume("volume", MIB)
    write(pool, "volume", (0, b"content" * 1000))
    repository = new_repository(store, clock=clock)
    push_snapshots(repository, snapshot(pool, "a", "volume"))
    store.put("gc/" + "1" * 32, b"rotten")
    with pytest.raises(Damaged, match="is damaged") as refused:
        push_snapshots(repository, snapshot(pool, "b", "volume"))
    assert "repo repair" in refused.value.hint
    assert len(repository.versions()) == 1

    steps, report = mend(repository)
    assert (steps, [finding.code.value for finding in report.remaining]) == ([], ["condemnation"])
    assert "repair again after" in report.remaining[0].problem
    clock.advance(RECORD_REST.total_seconds())
    steps, report = mend(repository)

    assert (steps, report.remaining) == ([(Mend.REMOVED, "gc/" + "1" * 32)], ())
    assert push_snapshots(repository, [(pool, pool.snapshot("volume", "b"))]).outcome.value == "created"


def test_the_mark_of_a_forgotten_version_is_lifted_and_a_rotten_mark_made_anew(story):
    _, store, repository = story
    damage_a_record(store, repository)
    mend(repository)
    first, second = sorted(hurt_versions(repository))
    repository.forget(first)
    flip(store, f"hurt/{second}", 20)
    assert {finding.code.value for finding in findings(repository)} == {"mark", "pack"}

    steps, report = mend(reopen(store, seed=9))

    assert steps == [(Mend.MARKED, f"hurt/{second}"), (Mend.LIFTED, f"hurt/{first}")]
    assert report.remaining == ()
    assert losses_of(repository, second)


def test_what_only_the_first_reading_got_wrong_is_left_alone(story):
    """A disk or a wire that errs once is no reason to condemn a pack."""
    _, store, repository = story
    key, directory = max(packs(store, repository, PackKind.CHUNKS), key=lambda pack: pack[1].size)
    whole = store.get(key)

    class ErringOnce:
        def __init__(self):
            self.erred = False

        def read_into(self, wanted, offset, target):
            count = store.read_into(wanted, offset, target)
            if wanted == key and not self.erred:
                self.erred = True
                target[directory.records[0].offset - offset] ^= 1
            return count

        def __getattr__(self, name):
            return getattr(store, name)

    erring = ErringOnce()
    steps, _ = mend(reopen(erring, seed=9))
    assert (erring.erred, steps, store.get(key)) == (True, [], whole)
