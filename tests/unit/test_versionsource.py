"""A member of a version, read as a source: anywhere, in any order, by several threads."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.ops.versionsource import MemberContent
from engine.repo.map import REGION
from engine.store.faulty import Faulty
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import CLOCK, new_pool, new_repository, push_snapshots, reopen, snapshot, write

pytestmark = pytest.mark.slow

SIZE = 2 * REGION + MIB + 512


@pytest.fixture(scope="module")
def pushed():
    """A version of three regions with holes in them, and what it holds."""
    pool, rnd, store = new_pool(), random.Random(8), MemoryStore(CLOCK)
    pool.create_volume("volume", SIZE)
    pieces = [(0, 300 * KIB), (5 * MIB, 3 * MIB), (REGION - 100 * KIB, 200 * KIB), (2 * REGION + MIB, 512)]
    write(pool, "volume", *((offset, rnd.randbytes(length)) for offset, length in pieces))
    push_snapshots(new_repository(store), snapshot(pool, "a", "volume"))
    whole = bytearray(SIZE)
    with pool.open_source("volume", "a") as source:
        source.read_into(0, memoryview(whole))
    return store, bytes(whole), pieces


def content_of(store):
    repository = reopen(store)
    [manifest] = repository.versions()
    return MemberContent(repository.reader(), manifest, manifest.member(None), None)


def test_any_range_reads_as_the_volume_did(pushed, rnd):
    store, whole, pieces = pushed
    ranges = [(max(0, offset - 70 * KIB), length + 140 * KIB) for offset, length in pieces]
    ranges += [(rnd.choice(pieces)[0] + rnd.randrange(-5000, 5000), rnd.randrange(1, 900 * KIB)) for _ in range(60)]
    ranges += [(0, SIZE), (SIZE - 1, 1)]

    def differs(source, offset, length):
        start, end = max(0, min(offset, SIZE - 1)), min(offset + length, SIZE)
        target = bytearray(b"?" * max(0, end - start))
        source.read_into(start, memoryview(target))
        return target != whole[start:end]

    with content_of(store).open_source() as source, ThreadPoolExecutor(3) as threads:
        assert [one for one in ranges if differs(source, *one)] == []
        assert not any(threads.map(lambda one: differs(source, *one), ranges[:30]))


def test_who_reads_forwards_fetches_each_chunk_once(pushed):
    store, _, _ = pushed
    faulty = Faulty(store)
    with content_of(faulty).open_source() as source:
        before, target = len(faulty.calls), bytearray(32 * KIB)
        for offset in range(5 * MIB, 8 * MIB, len(target)):
            source.read_into(offset, memoryview(target))
        chunks = len([call for call in faulty.calls[before:] if call.operation == "read_into"])
    [manifest] = reopen(store).versions()
    assert chunks <= manifest.totals.chunks + 3, "the maps of the regions, and no chunk twice"


def test_where_it_has_anything_is_told_within_its_size(pushed):
    store, whole, _ = pushed
    extents = list(content_of(store).allocated())
    position = 0
    for extent in extents:
        assert not any(whole[position : extent.start]), "what is left out is zeros"
        assert extent.start >= position
        position = extent.end
    assert position == SIZE
    assert sum(extent.length for extent in extents) == content_of(store).expected - 3584, "the last block is cut short"
