"""Whatever is damaged, check finds it and says what it costs, and no restore ever gives other bytes for good."""

import pytest

from engine.errors import Damaged, NotFound
from engine.extent import Extent
from engine.repo.manifest import FORGOTTEN
from engine.repo.map import REGION
from engine.repo.naming import ObjectName, parse_reference
from engine.repo.pack import PackKind
from engine.store.memory import MemoryStore
from engine.units import MIB
from tests.repositories import (
    CLOCK,
    content,
    findings,
    flip,
    new_pool,
    packs,
    push_snapshots,
    reopen,
    restorable,
    restore,
    snapshot,
    two_versions,
    write,
)

pytestmark = pytest.mark.slow


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["clear", "encrypted"])
def story(request):
    """A repository with two versions of one volume, and the pool they came from."""
    return two_versions(encrypted=request.param)


def test_a_whole_repository_has_no_findings(story):
    pool, store, repository = story
    assert findings(repository, read_data=False) == findings(repository) == ()
    assert restorable(store, pool) == 2


def test_a_flipped_record_is_found_with_the_versions_and_extents_it_hurts(story):
    pool, store, repository = story
    key, directory = next(iter(packs(store, repository, PackKind.CHUNKS)))
    record = next(r for r in directory.records if r.blocks)
    flip(store, key, record.offset + record.length // 2)

    assert findings(repository, read_data=False) == (), "a flipped byte shows only when data is read"
    (finding,) = findings(repository)

    assert finding.blob == key
    assert finding.hurt
    for hurt in finding.hurt:
        assert hurt.object == ObjectName("bucket", "object")
        assert hurt.member == "volume"
        assert sum(extent.length for extent in hurt.extents) == record.blocks * 4096
        assert all(8 * MIB <= extent.start < 9 * MIB or extent.start >= 66 * MIB for extent in hurt.extents)
    assert restorable(store, pool) == 2 - len(finding.hurt)


@pytest.mark.parametrize("kind", list(PackKind), ids=["chunks", "maps"])
def test_a_lost_pack_is_found_without_reading_data(story, kind):
    pool, store, repository = story
    key, _ = next(iter(packs(store, repository, kind)))
    store.delete(key)

    found = findings(repository, read_data=False)

    assert [finding.blob for finding in found] == [key]
    assert found[0].hurt
    hurt = {one.version for finding in found for one in finding.hurt}
    assert restorable(store, pool) == 2 - len(hurt)


def test_a_lost_map_hurts_its_region_and_no_more(story):
    _, store, repository = story
    newest = repository.versions()[-1]
    regions = list(repository.reader().all_regions(newest.members[0].root, 70 * MIB))
    for key, directory in packs(store, repository, PackKind.MAPS):
        for record in directory.records:
            if record.chunk[:16] == regions[1]:
                flip(store, key, record.offset)

    extents = {hurt.extents for finding in findings(repository) for hurt in finding.hurt}

    assert extents == {(Extent(REGION, 70 * MIB - REGION),)}


@pytest.mark.parametrize("keep", [0, 31, 1000])
def test_a_truncated_pack_is_found_without_reading_data(story, keep):
    pool, store, repository = story
    # Not just any: which worker gets which region is chance, and a pack of the text alone is shorter than 1000 bytes.
    key, _ = max(packs(store, repository, PackKind.CHUNKS), key=lambda pack: pack[1].size)
    store.put(key, store.get(key)[:keep])

    for read_data in (False, True):
        (finding,) = findings(repository, read_data=read_data)
        assert finding.blob == key
        assert finding.hurt
    assert restorable(store, pool) < 2


def test_damaged_and_lost_segments_cost_nothing(story):
    pool, store, repository = story
    segments = [blob.key for blob in store.list("index/")]
    flip(store, segments[0], 40)
    assert [finding.blob for finding in findings(repository)] == [segments[0]]
    for key in segments:
        store.delete(key)

    assert findings(repository) == ()
    assert restorable(store, pool) == 2
    write(pool, "volume", (0, b"y" * MIB))
    push_snapshots(reopen(store), snapshot(pool, "c", "volume"))
    assert list(store.list("index/")), "the next push states the facts anew"
    assert restorable(store, pool) == 3


def test_a_damaged_manifest_costs_that_version_only(story):
    pool, store, repository = story
    lost, kept = repository.versions()
    flip(store, f"versions/{lost.version}", 30)

    (finding,) = findings(repository)

    assert finding.blob == f"versions/{lost.version}"
    assert [manifest.version for manifest in repository.versions()] == [kept.version]
    assert restorable(store, pool) == 1
    with pytest.raises(Damaged):
        repository.resolve(parse_reference(f"bucket/object@{lost.version[:8]}"))


def test_a_forgotten_version_is_gone_and_no_finding(story):
    pool, store, repository = story
    lost = repository.versions()[0]
    store.put(f"versions/{lost.version}", FORGOTTEN)

    assert findings(repository) == ()
    assert restorable(store, pool) == 1
    with pytest.raises(NotFound):
        repository.manifest(lost.version)


def test_a_manifest_moved_to_another_name_is_refused(story):
    _, store, repository = story
    first, second = repository.versions()
    store.put(f"versions/{second.version}", store.get(f"versions/{first.version}"))

    assert [finding.blob for finding in findings(repository)] == [f"versions/{second.version}"]


def test_a_copy_in_another_pack_stands_in_for_a_damaged_record(story):
    pool, store, repository = story
    key, directory = next(iter(packs(store, repository, PackKind.CHUNKS)))
    other = MemoryStore(CLOCK)
    for blob in store.list(""):
        if blob.key != key and not blob.key.startswith("versions/"):
            other.put(blob.key, store.get(blob.key))
    push_snapshots(reopen(other, seed=77), [(pool, pool.snapshot("volume", "b"))])
    for blob in other.list(""):
        store.put(blob.key, other.get(blob.key))
    for record in directory.records:
        flip(store, key, record.offset)

    newest = reopen(store).versions()[-1]
    elsewhere = new_pool("elsewhere")
    restore(reopen(store), newest, elsewhere, "copy")
    assert content(elsewhere, "copy") == content(pool, "volume", "b")
