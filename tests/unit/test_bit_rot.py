"""Bit rot: whichever byte of whichever blob turns, a check names that blob, and no restore gives a wrong byte for good."""

import random

import pytest

from engine.errors import Damaged, RokError
from engine.extent import Extent
from engine.repo.condemnation import seal_awaited, seal_condemnation
from engine.repo.hurt import mark
from engine.repo.pack import PackKind, PackName
from engine.repo.paper import PaperKey
from engine.repo.repository import open_repository
from engine.repo.session import Purpose
from engine.repo.tags import TagChange, change_tags
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.counting_entropy import CountingEntropy
from tests.repositories import (
    CLOCK,
    OBJECT,
    content,
    findings,
    flip,
    new_pool,
    new_repository,
    packs,
    push_snapshots,
    restore,
    snapshot,
    write,
)

pytestmark = pytest.mark.slow

SMALL = 240  # bytes of a blob of which each is flipped; of a larger one as many are chosen
NOWHERE = "0" * 32


@pytest.fixture(scope="module")
def everything():
    """An encrypted repository that holds a blob of each kind: the pool, the store, a key to open it, and blobs by kind."""
    pool, store = new_pool(), MemoryStore(CLOCK)
    pool.create_volume("volume", MIB)
    write(pool, "volume", (0, b"some text, " * 500), (512 * KIB, random.Random(4).randbytes(9000)))
    repository = new_repository(store, encrypted=True)
    report = push_snapshots(repository, snapshot(pool, "a", "volume"), workers=0, uploaders=0)
    change_tags(repository, report.version, TagChange(add=frozenset({"tag"}), pin=True))
    keyring, entropy = repository.keyring, repository.entropy
    with repository.session(Purpose(OBJECT, None, "node"), threads=0, writers=0) as session:
        open_record = (f"pending/{session.version}", store.get(f"pending/{session.version}"))
    store.delete(f"versions/{session.version}")
    store.put(*open_record)
    store.put(f"gc/{NOWHERE}", seal_condemnation(NOWHERE, [PackName(NOWHERE, 0)], keyring, entropy))
    store.put(f"s0/{NOWHERE}", seal_awaited(NOWHERE, [session.version], keyring, entropy))
    mark(repository, report.version, {"volume": (Extent(0, 4096),)})
    (chunks, _), (maps, _) = (next(packs(store, repository, kind)) for kind in PackKind)
    blobs = {
        "manifest": f"versions/{report.version}",
        "tags": f"tags/{report.version}",
        "key": next(store.list("keys/")).key,
        "segment": next(store.list("index/")).key,
        "session": open_record[0],
        "condemnation": f"gc/{NOWHERE}",
        "awaited": f"s0/{NOWHERE}",
        "mark": f"hurt/{report.version}",
        "chunks": chunks,
        "maps": maps,
        "descriptor": "repository",
    }
    assert {blob.key for blob in store.list("")} == set(blobs.values()), "no kind is left out"
    return pool, store, PaperKey(repository.id, keyring.master), blobs


def opened(store, paper):
    """By the paper copy: it takes no key derivation, a fifth of a second for each byte."""
    repository = open_repository(store, lambda: paper, clock=CLOCK, entropy=CountingEntropy(1))
    repository.connections = 1
    return repository


def positions(size):
    return range(size) if size <= SMALL else random.Random(size).sample(range(size), SMALL)


def rotten(store, key):
    """The store with one byte of the blob turned, again and again."""
    whole, rnd = store.get(key), random.Random(key)
    for position in positions(len(whole)):
        flip(store, key, position, 1 << rnd.randrange(8))
        yield position
        store.put(key, whole)


KINDS = ["manifest", "tags", "key", "segment", "session", "condemnation", "awaited", "mark", "chunks", "maps"]
CODES = {"awaited": {"condemnation"}, "chunks": {"directory", "record"}, "maps": {"directory", "record"}}


def test_a_whole_repository_has_no_findings(everything):
    _, store, paper, _ = everything
    assert findings(opened(store, paper), workers=0) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_whichever_byte_turns_the_blob_is_named_with_the_kind_of_damage(everything, kind):
    _, store, paper, blobs = everything
    for position in rotten(store, blobs[kind]):
        found = findings(opened(store, paper), workers=0)
        assert [finding.blob for finding in found] == [blobs[kind]], f"byte {position}"
        assert found[0].code.value in CODES.get(kind, {kind}), f"byte {position}"


@pytest.mark.parametrize("kind", ["manifest", "segment", "condemnation", "chunks", "maps"])
def test_whichever_byte_turns_no_wrong_byte_is_restored(everything, kind):
    pool, store, paper, blobs = everything
    version = blobs["manifest"].removeprefix("versions/")
    restored = 0
    for position in rotten(store, blobs[kind]):
        elsewhere, repository = new_pool("elsewhere"), opened(store, paper)
        try:
            restore(repository, repository.manifest(version), elsewhere, "copy", workers=0)
        except Damaged:
            continue
        restored += 1
        assert content(elsewhere, "copy") == content(pool, "volume", "a"), f"byte {position}"
    size = len(positions(len(store.get(blobs[kind]))))
    assert restored == size if kind in ("segment", "condemnation") else restored < size


@pytest.mark.parametrize("kind", ["chunks", "maps"])
def test_a_rotten_record_hurts_what_needs_it_and_the_report_names_that(everything, kind):
    _, store, paper, blobs = everything
    _, directory = next(packs(store, opened(store, paper), PackKind[kind.upper()]))
    for record in directory.records:
        whole = store.get(blobs[kind])
        flip(store, blobs[kind], record.offset + record.length // 2)
        (finding,) = findings(opened(store, paper), workers=0)
        store.put(blobs[kind], whole)
        (hurt,) = finding.hurt
        assert (hurt.object, f"versions/{hurt.version}", hurt.member) == (OBJECT, blobs["manifest"], "volume")
        lost = sum(extent.length for extent in hurt.extents)
        assert lost == (record.blocks * 4096 if kind == "chunks" else MIB)


def test_whichever_byte_of_the_descriptor_turns_nothing_opens(everything):
    _, store, paper, blobs = everything
    for position in rotten(store, blobs["descriptor"]):
        try:
            opened(store, paper)
        except RokError:
            continue
        pytest.fail(f"byte {position}")
