"""Two versions compared, and one verified, without a pool."""

import random

import pytest

from engine.device.base import ChangeKind
from engine.extent import Extent, normalise
from engine.ops.versions import verify, version_diff
from engine.progress import Silent
from engine.repo.map import REGION
from engine.repo.pack import PackKind, parse_pack_key, read_directory
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import CLOCK, discard, new_pool, new_repository, push_snapshots, snapshot, write

SIZE = 66 * MIB + 512


@pytest.fixture
def store():
    return MemoryStore(CLOCK)


@pytest.fixture
def repository(store):
    """Version 0 of one volume; version 1 of it, changed, with a second volume beside it."""
    pool, rnd, repository = new_pool(), random.Random(6), new_repository(store)
    for volume in ("data", "log"):
        pool.create_volume(volume, SIZE)
        write(pool, volume, (MIB, rnd.randbytes(900 * KIB)), (65 * MIB, rnd.randbytes(300 * KIB)))
    push_snapshots(repository, snapshot(pool, "a", "data"))
    write(pool, "data", (65 * MIB, rnd.randbytes(8 * KIB)))
    discard(pool, "data", MIB, 128 * KIB)
    push_snapshots(repository, snapshot(pool, "b", "data", "log"))
    return repository


def test_a_diff_tells_what_changed_and_what_became_zeros(repository):
    old, new = repository.versions()
    told = []

    data, log = version_diff(repository, old, new, listen=lambda member, change: told.append((member, change)))

    assert (data.member, data.old_size, data.size) == ("data", SIZE, SIZE)
    of_data = [change for member, change in told if member == "data"]
    holes = normalise(change.extent for change in of_data if change.kind is ChangeKind.HOLE)
    changed = normalise(change.extent for change in of_data if change.kind is ChangeKind.CHANGED)
    assert holes == [Extent(MIB, 128 * KIB)]
    assert any(e.start <= 65 * MIB and e.end >= 65 * MIB + 8 * KIB for e in changed)
    assert all(e.start >= MIB and e.end <= 66 * MIB + 512 for e in changed)
    assert data.changed == sum(extent.length for extent in changed) < 1300 * KIB
    assert (log.member, log.old_size) == ("log", None)
    assert log.changed >= 1200 * KIB


def test_a_version_does_not_differ_from_itself(repository):
    _, new = repository.versions()
    assert {(diff.changed, diff.holes) for diff in version_diff(repository, new, new)} == {(0, 0)}


def test_a_whole_version_verifies_in_whole(repository):
    for manifest in repository.versions():
        report = verify(repository, manifest, progress=Silent())
        assert (report.losses, report.lost) == ((), 0)
        assert report.chunks == manifest.totals.chunks
        assert report.verified == manifest.totals.data


@pytest.mark.parametrize("kind", list(PackKind))
def test_what_is_lost_is_named_and_the_rest_is_verified(repository, store, kind):
    old, _ = repository.versions()
    for blob in [blob for blob in store.list("pack/") if old.version in blob.key]:
        name = parse_pack_key(blob.key)
        directory = read_directory(
            name, blob.size, lambda o, n, key=blob.key: store.get_range(key, o, n), repository.keyring
        )
        if directory.kind is kind:
            body = bytearray(store.get(blob.key))
            body[directory.records[0].offset + 20] ^= 1
            store.put(blob.key, body)

    report = verify(repository, old, progress=Silent())

    (loss,) = report.losses
    assert loss.member == "data"
    assert 0 < report.lost == sum(extent.length for extent in loss.extents)
    assert all(extent.end <= SIZE for extent in loss.extents)
    assert kind is PackKind.MAPS or 0 < report.verified < old.totals.data
    assert kind is PackKind.CHUNKS or report.lost >= min(REGION, SIZE - REGION)
