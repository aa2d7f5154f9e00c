"""Versions copied to another repository, with another key: their content, what travels with them, and what is not done twice."""

import random
from datetime import UTC, datetime

import pytest

from engine.errors import Damaged, Failed, NotFound, Refused
from engine.ops.copy import CopyOutcome, copy, plan_copy
from engine.ops.intake import Effort
from engine.ops.scope import Scope
from engine.progress import Silent
from engine.repo.manifest import VersionIdentity
from engine.repo.map import REGION
from engine.repo.naming import ObjectName, parse_reference
from engine.repo.pack import PackKind, parse_pack_key, read_directory
from engine.repo.repository import open_repository
from engine.repo.session import LEASE_SECONDS
from engine.repo.sweep import break_dead_sessions, plan_sweep
from engine.repo.tags import TagChange, Tags, change_tags, tags_of
from engine.store.base import Unknown
from engine.store.faulty import Fault, Faulty, Moment
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.counting_entropy import CountingEntropy
from tests.repositories import (
    CLOCK,
    OBJECT,
    content,
    discard,
    findings,
    new_pool,
    new_repository,
    push_snapshots,
    restore,
    snapshot,
    write,
)
from tests.rights import append_only, read_only

pytestmark = pytest.mark.slow

SIZE = 66 * MIB + 512


def copy_all(source, destination, *references, scopes=None):
    """Copy the scopes (all, if nothing is named); gives the report and what was told of each version."""
    told = []
    scopes = ([] if references else [Scope()]) if scopes is None else scopes
    plan = plan_copy(source, destination, scopes, [parse_reference(text) for text in references])
    report = copy(
        source, destination, plan, Effort(workers=2), node="copier", tool="test", progress=Silent(), listen=told.append
    )
    return report, told


def other_repository(seed=50):
    return new_repository(MemoryStore(CLOCK), seed=seed)


@pytest.fixture
def pool():
    """Snapshots a, b and c of one volume of two regions."""
    pool, rnd = new_pool(), random.Random(3)
    pool.create_volume("volume", SIZE)
    write(pool, "volume", (MIB, rnd.randbytes(900 * KIB)), (65 * MIB, rnd.randbytes(300 * KIB)))
    pool.create_snapshots({"volume": "a"})
    write(pool, "volume", (65 * MIB, rnd.randbytes(8 * KIB)), (SIZE - 512, b"end"))
    discard(pool, "volume", MIB, 128 * KIB)
    pool.create_snapshots({"volume": "b"})
    pool.resize_volume("volume", SIZE + 3 * MIB)
    write(pool, "volume", (SIZE, rnd.randbytes(50 * KIB)))
    pool.create_snapshots({"volume": "c"})
    return pool


@pytest.fixture
def source(pool):
    """A repository with the versions a, b, c."""
    repository = new_repository(MemoryStore(CLOCK))
    for name in "abc":
        push_snapshots(
            repository, [(pool, pool.snapshot("volume", name))], message=f"it is {name}", labels={"name": name}
        )
    return repository


def content_of(repository, manifest):
    pool = new_pool("restored")
    restore(repository, manifest, pool, "copy")
    return content(pool, "copy")


def test_every_version_comes_back_from_the_copy_as_it_was(source, pool):
    destination = other_repository()

    report, told = copy_all(source, destination)

    assert (report.created, report.damaged, report.tags_damaged) == (3, 0, 0)
    assert [one.version for one in told] == [manifest.version for manifest in source.versions()]
    copies = destination.versions()
    assert [one.copied_as for one in told] == [manifest.version for manifest in copies]
    for name, manifest in zip("abc", copies, strict=True):
        assert content_of(destination, manifest) == content(pool, "volume", name)
    assert findings(destination) == ()


def test_all_that_is_known_of_a_version_travels(source):
    first = source.versions()[0].version
    end = datetime(2040, 1, 1, tzinfo=UTC)
    change_tags(source, first, TagChange(add=frozenset({"release"}), pin=True, until=end))
    destination = other_repository()

    copy_all(source, destination)

    for old, new in zip(source.versions(), destination.versions(), strict=True):
        for kept in ("object", "created", "store_time", "node", "message", "labels", "extra"):
            assert getattr(old, kept) == getattr(new, kept)
        assert [m.origin for m in old.members] == [m.origin for m in new.members]
        assert (old.totals.size, old.totals.data) == (new.totals.size, new.totals.data)
        assert new.copied_from == VersionIdentity(source.id, old.version)
        assert tags_of(source, old.version) == tags_of(destination, new.version)
    assert tags_of(destination, destination.versions()[0].version) == Tags(frozenset({"release"}), True, end)


def test_the_copy_has_the_maps_that_a_push_to_the_destination_makes(source, pool):
    destination = other_repository()
    copy_all(source, destination)
    for name, copied in zip("abc", destination.versions(), strict=True):
        pushed = push_snapshots(
            destination, [(pool, pool.snapshot("volume", name))], ObjectName("other", name), full=True
        )
        assert pushed.new_chunks == 0
        assert destination.manifest(pushed.version).members[0].root == copied.members[0].root


def listings(source, *, heirloom, monkeypatch):
    """How often a copy of the source to an empty repository lists packs, and condemnations."""
    monkeypatch.setattr("engine.repo.session.HEIRLOOM", heirloom)
    store = Faulty(other_repository().store)
    destination = open_repository(store, pytest.fail, clock=CLOCK, entropy=CountingEntropy(91))
    plan = plan_copy(source, destination, [Scope()], [])
    before = len(store.calls)
    report = copy(source, destination, plan, Effort(workers=2), node="n", tool="t", progress=Silent())
    assert report.created == len(source.versions())
    listed = [call.key for call in store.calls[before:] if call.operation in ("list", "keys")]
    assert findings(destination) == ()
    return listed.count("pack/"), listed.count("gc/")


def test_the_index_of_the_destination_is_loaded_once_for_many_versions(source, monkeypatch):
    assert listings(source, heirloom=1 << 17, monkeypatch=monkeypatch) == (1, 3)
    assert listings(source, heirloom=0, monkeypatch=monkeypatch) == (3, 3), "when more was sent than is worth telling"


def test_a_session_begun_for_a_version_that_is_not_copied_is_given_up(source):
    destination = other_repository()

    def stop(copied):
        raise KeyboardInterrupt

    plan = plan_copy(source, destination, [Scope()], [])
    with pytest.raises(KeyboardInterrupt):
        copy(source, destination, plan, Effort(workers=2), node="n", tool="t", progress=Silent(), listen=stop)

    assert len(destination.versions()) == 1
    assert list(destination.store.list("pending/")) == []
    assert copy_all(source, destination)[0].created == 2


def test_a_store_that_is_silent_at_a_commit_is_asked_nothing_more(source):
    """Each further question would be asked for minutes, while whoever waits has been told nothing yet."""
    silent = False

    def fail(call):
        nonlocal silent
        silent = silent or (call.operation == "create" and call.key.startswith("versions/"))
        return Fault(Moment.BEFORE, Unknown("no answer")) if silent else None

    store = Faulty(other_repository().store, fail)
    destination = open_repository(store, pytest.fail, clock=CLOCK, entropy=CountingEntropy(91))

    with pytest.raises(Unknown):
        copy_all(source, destination)

    assert (store.calls[-1].operation, store.calls[-1].key.partition("/")[0]) == ("create", "versions")
    assert sum(call.key.startswith("versions/") for call in store.calls if call.operation == "create") == 1


def test_a_store_that_is_silent_when_an_heir_is_begun_is_asked_for_the_commit_next(source):
    begun = []

    def fail(call):
        if call.operation == "create" and call.key.startswith("pending/"):
            begun.append(call.number)
        heir = len(begun) > 1 and call.number == begun[1]
        return Fault(Moment.BEFORE, Unknown("no answer")) if heir else None

    store = Faulty(other_repository().store, fail)
    destination = open_repository(store, pytest.fail, clock=CLOCK, entropy=CountingEntropy(91))

    assert copy_all(source, destination)[0].created == 3

    (after,) = [call for call in store.calls if call.number == begun[1] + 1]
    assert (after.operation, after.key.partition("/")[0]) == ("create", "versions")
    assert after.key.removeprefix("versions/") in {manifest.version for manifest in destination.versions()}
    assert findings(destination) == ()


def test_of_a_version_after_another_only_the_difference_is_read():
    pool, rnd, source = new_pool(), random.Random(4), new_repository(MemoryStore(CLOCK))
    pool.create_volume("volume", 16 * MIB)
    write(pool, "volume", (0, rnd.randbytes(12 * MIB)))
    push_snapshots(source, snapshot(pool, "a", "volume"))
    write(pool, "volume", (6 * MIB, rnd.randbytes(4 * KIB)))
    push_snapshots(source, snapshot(pool, "b", "volume"))

    report, (first, second) = copy_all(source, other_repository())

    assert (first.base, second.base) == (None, first.copied_as)
    assert first.read == 12 * MIB
    assert 4 * KIB <= second.read < 3 * MIB, "a chunk, and what is cut anew around it"
    assert report.read == first.read + second.read


def test_asked_again_it_copies_what_is_new_and_nothing_else(source, pool):
    destination = other_repository()
    copy_all(source, destination, f"bucket/object@{source.versions()[0].version}")
    before = destination.status()

    report, told = copy_all(source, destination)
    again, _ = copy_all(source, destination)

    assert [one.outcome for one in told] == [CopyOutcome.ALREADY_THERE, *[CopyOutcome.CREATED] * 2]
    assert told[1].base == told[0].copied_as
    assert (again.created, again.already_there, again.stored) == (0, 3, 0)
    assert destination.status().versions == before.versions + 2
    assert (report.created, report.already_there) == (2, 1)


def test_a_copy_is_known_by_whichever_way_it_came(source):
    second, third = other_repository(50), other_repository(60)
    copy_all(source, second)
    copy_all(second, third)
    for here, there in ((source, third), (third, source), (second, source), (third, second)):
        report, _ = copy_all(here, there)
        assert (report.created, report.already_there) == (0, 3)
    assert {m.copied_from for m in third.versions()} == {
        VersionIdentity(source.id, m.version) for m in source.versions()
    }


def test_a_push_goes_on_from_a_version_that_was_copied(source, pool):
    destination = other_repository()
    _, told = copy_all(source, destination)
    write(pool, "volume", (2 * MIB, b"new" * 1000))
    report = push_snapshots(destination, snapshot(pool, "d", "volume"))
    assert report.base == told[-1].copied_as
    assert content_of(destination, destination.manifest(report.version)) == content(pool, "volume", "d")


def test_one_bucket_one_object_or_one_version_is_copied(source, pool):
    push_snapshots(source, snapshot(pool, "d", "volume"), ObjectName("bucket", "second"))
    push_snapshots(source, snapshot(pool, "e", "volume"), ObjectName("other", "third"))
    newest = source.versions("bucket", "object")[-1].version

    def objects(*references, scopes=()):
        return [(one.bucket, one.object) for one in copy_all(source, other_repository(), *references, scopes=scopes)[1]]

    assert objects(scopes=[Scope("bucket")]) == [("bucket", "object")] * 3 + [("bucket", "second")]
    assert objects(scopes=[Scope("other", "third")]) == [("other", "third")]
    assert objects("other/third", f"bucket/object@{newest}", scopes=[]) == [("bucket", "object"), ("other", "third")]
    with pytest.raises(NotFound, match="bucket buckte"):
        objects(scopes=[Scope("buckte")])
    with pytest.raises(NotFound):
        objects("bucket/object@0000")


def test_groups_are_copied_whole_and_a_member_that_shrank_is_read_in_full():
    pool, rnd, source = new_pool(), random.Random(9), new_repository(MemoryStore(CLOCK))
    for volume in ("data", "log"):
        pool.create_volume(volume, 4 * MIB)
        write(pool, volume, (0, rnd.randbytes(MIB)))
    push_snapshots(source, snapshot(pool, "a", "data", "log"))
    pool.remove_snapshot("log", "a")
    pool.remove_volume("log")
    pool.create_volume("log", 2 * MIB)
    write(pool, "log", (MIB, rnd.randbytes(MIB)))
    write(pool, "data", (0, rnd.randbytes(8 * KIB)))
    push_snapshots(source, snapshot(pool, "b", "data", "log"))
    destination = other_repository()

    _, (first, second) = copy_all(source, destination)

    assert second.base == first.copied_as
    assert MIB <= second.read < MIB + 600 * KIB, "all of log, and what changed of data"
    newest = destination.versions()[-1]
    for member in newest.members:
        restored = new_pool("restored")
        restore(destination, newest, restored, "copy", member=member.name)
        assert content(restored, "copy") == content(pool, member.name, "b")


def test_a_repository_is_not_copied_to_itself(source):
    again = open_repository(source.store, pytest.fail, clock=CLOCK, entropy=CountingEntropy(7))
    with pytest.raises(Refused, match="one and the same"):
        plan_copy(source, again, [Scope()], [])


def test_a_source_that_may_only_be_read_and_a_destination_that_may_only_be_added_to_are_enough(source):
    change_tags(source, source.versions()[0].version, TagChange(pin=True))
    destination = other_repository()
    reader = open_repository(read_only(source.store), pytest.fail, clock=CLOCK, entropy=CountingEntropy(7))
    adder = open_repository(append_only(destination.store), pytest.fail, clock=CLOCK, entropy=CountingEntropy(90))
    report, told = copy_all(reader, adder)
    assert (report.created, report.damaged, report.tags_damaged) == (3, 0, 0)
    assert tags_of(destination, told[0].copied_as).pinned
    assert copy_all(reader, adder)[0].already_there == 3


def hurt(repository, version, kind):
    """Damage the first record of each pack of a kind that a version's push wrote."""
    for blob in [blob for blob in repository.store.list("pack/") if version in blob.key]:
        name = parse_pack_key(blob.key)

        def read(offset, length, key=blob.key):
            return repository.store.get_range(key, offset, length)

        directory = read_directory(name, blob.size, read, repository.keyring)
        if directory.kind is kind:
            body = bytearray(repository.store.get(blob.key))
            body[directory.records[0].offset + 20] ^= 1
            repository.store.put(blob.key, body)


@pytest.mark.parametrize("kind", list(PackKind))
def test_a_hurt_version_is_named_and_the_others_are_copied(source, pool, kind):
    _, second, third = source.versions()
    hurt(source, second.version, kind)
    destination = other_repository()

    report, told = copy_all(source, destination)

    outcomes = {one.version: one for one in told}
    assert outcomes[second.version].outcome is CopyOutcome.DAMAGED
    assert f"bucket/object@{second.version}" in outcomes[second.version].problem
    assert report.damaged >= 1
    copies = destination.versions()
    assert len(copies) == report.created >= 1
    for manifest in copies:
        assert content_of(destination, manifest) == content(pool, "volume", manifest.labels["name"])
    assert findings(destination) == ()
    assert third.version in outcomes


def test_a_base_whose_maps_were_lost_since_costs_a_full_read_and_no_version(source, pool):
    first = source.versions()[0]
    destination = other_repository()
    copy_all(source, destination, f"bucket/object@{first.version}")
    lost = first.members[0].root
    for blob in [*source.store.list("pack/")]:
        name = parse_pack_key(blob.key)
        directory = read_directory(
            name, blob.size, lambda o, n, key=blob.key: source.store.get_range(key, o, n), source.keyring
        )
        for record in directory.records:
            if record.chunk[: len(lost)] == lost:
                body = bytearray(source.store.get(blob.key))
                body[record.offset + 20] ^= 1
                source.store.put(blob.key, body)

    report, told = copy_all(source, destination)

    assert [one.outcome for one in told] == [CopyOutcome.ALREADY_THERE, *[CopyOutcome.CREATED] * 2]
    assert told[1].base is None
    assert told[1].read >= 900 * KIB
    assert report.damaged == 0
    assert content_of(destination, destination.versions()[-1]) == content(pool, "volume", "c")


def test_a_manifest_that_cannot_be_read_is_counted_as_damaged(source):
    first = source.versions()[0].version
    body = bytearray(source.store.get(f"versions/{first}"))
    body[-1] ^= 1
    source.store.put(f"versions/{first}", body)
    plan = plan_copy(source, other_repository(), [Scope()], [])
    assert plan.unreadable == (first,)
    report, _ = copy_all(source, other_repository())
    assert (report.created, report.damaged) == (2, 1)
    with pytest.raises(Damaged):
        plan_copy(source, other_repository(), [], [parse_reference(f"bucket/object@{first}")])


def test_damaged_tags_become_a_pin_and_are_named(source):
    first = source.versions()[0].version
    change_tags(source, first, TagChange(add=frozenset({"release"})))
    source.store.put(f"tags/{first}", source.store.get(f"tags/{first}")[:-1])
    destination = other_repository()

    report, told = copy_all(source, destination)

    assert (report.created, report.damaged, report.tags_damaged) == (3, 0, 1)
    assert first in told[0].problem
    assert tags_of(destination, told[0].copied_as) == Tags(pinned=True)


def test_chunks_that_a_collector_moved_meanwhile_are_found(source, pool):
    """The index is read once; later a collector may copy what lives in a pack to another one, and delete the first."""
    moved = []

    def move(call):
        if call.key.startswith("pack/") and not moved:
            moved.append(call)
            for blob in [*source.store.list("pack/"), *source.store.list("index/")]:
                source.store.delete(blob.key)
            for name in "abc":  # the same chunks come into packs of other names
                push_snapshots(source, [(pool, pool.snapshot("volume", name))], ObjectName("again", name), full=True)
        return None

    reader = open_repository(Faulty(source.store, move), pytest.fail, clock=CLOCK, entropy=CountingEntropy(7))
    destination = other_repository()
    plan = plan_copy(reader, destination, [Scope()], [])
    report = copy(reader, destination, plan, Effort(workers=2), node="n", tool="t", progress=Silent())

    assert moved
    assert (report.created, report.damaged) == (3, 0)
    assert content_of(destination, destination.versions()[-1]) == content(pool, "volume", "c")


def test_a_version_that_is_forgotten_while_the_copy_runs_is_no_damage(source):
    plan = plan_copy(source, other_repository(), [Scope()], [])
    for manifest in source.versions():
        source.forget(manifest.version)
    for blob in [*source.store.list("pack/")]:
        source.store.delete(blob.key)

    told = []
    report = copy(
        source,
        other_repository(),
        plan,
        Effort(workers=1),
        node="n",
        tool="t",
        progress=Silent(),
        listen=told.append,
    )

    assert (report.forgotten, report.damaged, report.created) == (3, 0, 0)


def test_damage_in_the_destination_ends_the_copy_and_says_where(source):
    destination = other_repository()
    _, told = copy_all(source, destination, f"{OBJECT}@{source.versions()[0].version}")
    hurt(destination, told[0].copied_as, PackKind.MAPS)
    with pytest.raises(Damaged, match="damaged in " + destination.url):
        copy_all(source, destination)
    assert len(destination.versions()) == 1
    assert [*destination.store.list("pending/")] == []


def test_an_empty_repository_has_nothing_to_copy():
    report, told = copy_all(other_repository(70), other_repository(80))
    assert (report.created, told) == (0, [])


def test_a_version_larger_than_a_page_of_zeros_costs_nothing():
    pool, source = new_pool(), new_repository(MemoryStore(CLOCK))
    pool.create_volume("volume", 3 * REGION)
    push_snapshots(source, snapshot(pool, "a", "volume"))
    report, _ = copy_all(source, other_repository())
    assert (report.created, report.read) == (1, 0)


def test_the_tags_of_a_copy_survive_a_sweep_before_its_commit(source):
    """They stand before the version does, and a collector that looked at versions alone would take them for leftovers."""
    first = source.versions()[0].version
    change_tags(source, first, TagChange(pin=True))
    destination = other_repository()
    swept = []

    def sweep(call):
        if call.operation == "create" and call.key.startswith("versions/"):
            looking = open_repository(destination.store, pytest.fail, clock=CLOCK, entropy=CountingEntropy(90))
            plan = plan_sweep(looking, None)
            plan.carry_out(looking)
            swept.append(plan)
        return None

    faulty = Faulty(destination.store, sweep)
    writer = open_repository(faulty, pytest.fail, clock=CLOCK, entropy=CountingEntropy(91))
    _, told = copy_all(source, writer)

    assert len(swept) == 3
    assert tags_of(destination, told[0].copied_as).pinned


def test_the_tags_of_a_copy_that_was_given_up_are_swept(source):
    change_tags(source, source.versions()[0].version, TagChange(pin=True))
    destination = other_repository()

    def fail(call):
        is_commit = call.operation == "create" and call.key.startswith("versions/")
        return Fault(Moment.BEFORE, Failed("by plan")) if is_commit and not failed.append(call) else None

    failed = []
    writer = open_repository(Faulty(destination.store, fail), pytest.fail, clock=CLOCK, entropy=CountingEntropy(91))
    with pytest.raises(Failed):
        copy_all(source, writer)
    [left] = destination.store.list("tags/")
    assert left.key not in plan_sweep(destination, None).keys, "its session is open"
    CLOCK.advance(LEASE_SECONDS + 1)
    assert len(break_dead_sessions(destination)) == 2, "and one was begun for the next version"
    assert left.key in plan_sweep(destination, None).keys


def test_a_session_that_begins_during_a_sweep_keeps_its_tags():
    store, version = other_repository().store, "ab" * 16

    def begin(call):
        if (call.operation, call.key) == ("list", "tags/"):
            for folder in ("pending", "tags"):
                store.create(f"{folder}/{version}", b"sealed")
        return None

    looking = open_repository(Faulty(store, begin), pytest.fail, clock=CLOCK, entropy=CountingEntropy(90))
    assert plan_sweep(looking, None).keys == ()
