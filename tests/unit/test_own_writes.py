"""What a node wrote to a repository it need not read from there: the next push makes fewer requests."""

import random
from pathlib import Path

import numpy as np
import pytest

from engine.device.base import Outcome
from engine.repo.cache import CacheFolder
from engine.repo.factcache import FactCache
from engine.repo.manifest import FORGOTTEN
from engine.repo.pack import PackKind, PackName
from engine.repo.repository import open_repository
from engine.repo.segment import PackFacts
from engine.store.faulty import Faulty
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.counting_entropy import CountingEntropy
from tests.repositories import CLOCK, new_pool, new_repository, push_snapshots, restorable, snapshot, write


class Node:
    """A node with a cache of its own, which notes what it asks of the store."""

    def __init__(self, store, folder, seed=5):
        self.store, self._folder, self._opened = store, folder, 100 * seed
        self.pool, self._chance = new_pool(f"pool-{seed}"), random.Random(seed)
        self.pool.create_volume("volume", 4 * MIB)
        self.gets: list[str] = []

    def push(self, name):
        write(self.pool, "volume", (0, self._chance.randbytes(300 * KIB)))
        return self.push_again(snapshot(self.pool, name, "volume"))

    def push_again(self, snapshots):
        self._opened += 1
        watched = Faulty(self.store)
        repository = open_repository(
            watched, pytest.fail, clock=CLOCK, entropy=CountingEntropy(self._opened), caches=self._folder
        )
        report = push_snapshots(repository, snapshots)
        self.gets = [call.key for call in watched.calls if call.operation.startswith("get")]
        return report


@pytest.fixture
def store():
    store = MemoryStore(CLOCK)
    new_repository(store)
    return store


def read_under(node, prefix):
    return [key for key in node.gets if key.startswith(prefix)]


def test_the_next_push_reads_no_segment_that_this_node_wrote(store, tmp_path):
    node = Node(store, tmp_path)
    node.push("a")
    node.push("b")

    assert read_under(node, "index/") == []
    assert restorable(store, node.pool) == 2


def test_what_another_node_wrote_is_read(store, tmp_path):
    one, other = Node(store, tmp_path / "one"), Node(store, tmp_path / "other", seed=6)
    one.push("a")
    other.push("a")
    one.push("b")

    assert len(read_under(one, "index/")) == 1
    assert len(read_under(one, "versions/")) > 1


def test_without_a_folder_nothing_is_kept(store):
    node = Node(store, None)
    node.push("a")
    node.push("b")

    assert len(read_under(node, "index/")) == 1


def test_a_version_of_ours_that_was_forgotten_meanwhile_is_no_base(store, tmp_path):
    node = Node(store, tmp_path)
    first = node.push("a")
    store.put(f"versions/{first.version}", FORGOTTEN)

    second = node.push("b")

    assert (second.outcome, second.base) == (Outcome.CREATED, None)
    assert restorable(store, node.pool) == 1


def test_a_version_of_ours_that_is_damaged_in_the_store_is_not_said_to_be_there(store, tmp_path):
    node = Node(store, tmp_path)
    first = node.push("a")
    body = bytearray(store.get(f"versions/{first.version}"))
    body[-1] ^= 1
    store.put(f"versions/{first.version}", bytes(body))

    again = node.push_again([(node.pool, node.pool.snapshot("volume", "a"))])

    assert again.outcome is Outcome.CREATED


def pack(number):
    lengths = np.full(100, 5000, np.uint32)
    return PackFacts(
        PackName(f"{number:032x}", 0), PackKind.CHUNKS, MIB, random.Random(number).randbytes(1600), lengths
    )


def test_what_a_long_push_leaves_in_the_folder_takes_none_of_its_memory_and_has_an_end(tmp_path):
    cache, facts = (
        FactCache(CacheFolder(tmp_path), "ab" * 16),
        {f"{number:032x}": [pack(number)] for number in range(100)},
    )
    for name, packs in facts.items():
        cache.add(name, lambda packs=packs: packs)

    assert 5 < len(list(tmp_path.glob("table-*"))) < 100
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    read = []
    stated = cache.stated(list(facts), lambda missing: [read.append(name) or (name, facts[name]) for name in missing])
    assert 0 < len(read) < 95
    assert stated.packs == {pack.name for packs in facts.values() for pack in packs}


def test_a_manifest_of_ours_is_read_from_the_store_before_it_counts(store, tmp_path):
    """What a copy, or who lists versions, takes for whole."""
    node = Node(store, tmp_path)
    version = node.push("a").version
    body = bytearray(store.get(f"versions/{version}"))
    body[-1] ^= 1
    store.put(f"versions/{version}", bytes(body))

    again = open_repository(store, pytest.fail, clock=CLOCK, entropy=CountingEntropy(99), caches=tmp_path)

    assert again.versions() == []
