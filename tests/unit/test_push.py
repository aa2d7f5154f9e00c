"""What a push promises beyond its bytes: idempotence, groups, bases, and what the manifest says."""

import random

import pytest

from engine.device.base import Filesystem, Outcome
from engine.errors import Refused
from engine.repo.naming import ObjectName
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import (
    CLOCK,
    OBJECT,
    content,
    findings,
    new_pool,
    new_repository,
    push_snapshots,
    restore,
    snapshot,
    write,
)


@pytest.fixture
def pool():
    pool = new_pool()
    for volume in ("data", "log"):
        pool.create_volume(volume, 66 * MIB)
        write(pool, volume, (MIB, random.Random(volume).randbytes(400 * KIB)))
    return pool


@pytest.fixture
def repository():
    return new_repository(MemoryStore(CLOCK))


def test_a_snapshot_pushed_twice_makes_one_version(pool, repository):
    taken = snapshot(pool, "a", "data")
    first = push_snapshots(repository, taken)

    again = push_snapshots(repository, taken)

    assert (first.outcome, again.outcome) == (Outcome.CREATED, Outcome.ALREADY_THERE)
    assert (again.version, again.read, again.stored, again.new_chunks) == (first.version, 0, 0, 0)
    assert len(repository.versions()) == 1


def test_a_full_push_reads_everything_and_stores_nothing_twice(pool, repository):
    taken = snapshot(pool, "a", "data")
    first = push_snapshots(repository, taken)

    again = push_snapshots(repository, taken, full=True)

    assert again.outcome is Outcome.CREATED
    assert again.base is None
    assert again.read == first.read
    assert again.new_chunks == 0


def test_an_unchanged_volume_costs_no_reading(pool, repository):
    push_snapshots(repository, snapshot(pool, "a", "data"))
    report = push_snapshots(repository, snapshot(pool, "b", "data"))
    assert (report.read, report.stored, report.new_chunks) == (0, 0, 0)
    assert report.data == repository.versions()[0].totals.data > 0


def test_a_group_is_one_version_and_each_member_restores(pool, repository):
    report = push_snapshots(repository, snapshot(pool, "a", "data", "log"))

    (manifest,) = repository.versions()
    assert [member.name for member in manifest.members] == ["data", "log"]
    assert report.size == 2 * 66 * MIB
    for name in ("data", "log"):
        restore(repository, manifest, pool, f"copy-of-{name}", member=name)
        assert content(pool, f"copy-of-{name}") == content(pool, name, "a")
    with pytest.raises(Refused, match="holds 2 volumes: data, log"):
        manifest.member(None)
    with pytest.raises(Refused, match="no member 'logs'"):
        manifest.member("logs")


def test_a_member_that_was_not_in_the_base_is_read_in_full(pool, repository):
    push_snapshots(repository, snapshot(pool, "a", "data"))
    write(pool, "data", (2 * MIB, b"new" * 1000))

    report = push_snapshots(repository, snapshot(pool, "b", "data", "log"))

    assert report.base is not None
    assert report.read > 400 * KIB
    assert findings(repository) == ()
    (_, group) = repository.versions()
    for name in ("data", "log"):
        restore(repository, group, pool, f"copy-of-{name}", member=name)
        assert content(pool, f"copy-of-{name}") == content(pool, name, "b")


def test_without_its_snapshot_on_the_node_a_version_is_no_base(pool, repository):
    push_snapshots(repository, snapshot(pool, "a", "data"))
    later = snapshot(pool, "b", "data")
    pool.remove_snapshot("data", "a")

    report = push_snapshots(repository, later)

    assert report.base is None
    assert report.new_chunks == 0


def test_the_newest_version_that_can_be_a_base_is_the_base(pool, repository):
    versions = [push_snapshots(repository, snapshot(pool, name, "data")).version for name in "abc"]
    pool.remove_snapshot("data", "c")
    assert push_snapshots(repository, snapshot(pool, "d", "data")).base == versions[1]


def test_another_object_has_bases_of_its_own(pool, repository):
    push_snapshots(repository, snapshot(pool, "a", "data"))
    report = push_snapshots(repository, snapshot(pool, "b", "data"), ObjectName("bucket", "other"))
    assert report.base is None
    assert report.new_chunks == 0


def test_snapshots_of_different_moments_are_no_version(pool, repository):
    taken = snapshot(pool, "a", "data") + snapshot(pool, "b", "log")
    with pytest.raises(Refused, match="not taken together"):
        push_snapshots(repository, taken)
    assert repository.versions() == []


def test_the_manifest_says_where_a_version_comes_from(pool, repository):
    pool.set_filesystem("data", Filesystem("ext4", "root", "1234"))
    (taken,) = snapshot(pool, "a", "data")
    push_snapshots(repository, [taken], labels={"app": "shop"}, message="before the upgrade")

    (manifest,) = repository.versions(OBJECT.bucket, OBJECT.name)

    (member,) = manifest.members
    assert (manifest.node, manifest.tool, manifest.message) == ("node", "test", "before the upgrade")
    assert manifest.labels == {"app": "shop"}
    assert (member.filesystem_type, member.filesystem_label, member.filesystem_uuid) == ("ext4", "root", "1234")
    assert (member.origin.snapshot_uuid, member.origin.volume_uuid) == (taken[1].uuid, taken[1].volume_uuid)
    assert (member.size, member.logical_block_size) == (66 * MIB, 512)
    assert manifest.store_time.tzinfo is not None


def test_two_pushes_at_once_both_commit(pool, repository):
    from concurrent.futures import ThreadPoolExecutor

    taken = [snapshot(pool, "a", name) for name in ("data", "log")]
    with ThreadPoolExecutor(2) as both:
        reports = list(
            both.map(lambda one: push_snapshots(repository, one, ObjectName("bucket", one[0][1].volume)), taken)
        )
    assert len({report.version for report in reports}) == 2
    assert len(repository.versions()) == 2
    assert findings(repository) == ()


def test_an_empty_volume_is_a_version_without_a_chunk(repository):
    pool = new_pool()
    pool.create_volume("empty", 5 * MIB)
    report = push_snapshots(repository, snapshot(pool, "a", "empty"))
    assert (report.read, report.data, report.chunks) == (0, 0, 0)
    restore(repository, repository.versions()[0], pool, "copy")
    assert content(pool, "copy") == content(pool, "empty", "a")
