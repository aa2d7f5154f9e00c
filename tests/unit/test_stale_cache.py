"""A cache that says what is not so, though its checksums are right: no collection deletes by it, and no check passes over
anything.
"""

import random
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from engine.errors import Damaged
from engine.progress import Silent
from engine.repo.cache import CacheFolder
from engine.repo.collect import CollectOptions, collect
from engine.repo.pack import PackKind
from engine.repo.repository import open_repository
from engine.repo.table import write_table
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.counting_entropy import CountingEntropy
from tests.repositories import (
    CLOCK,
    content,
    findings,
    new_pool,
    new_repository,
    push_snapshots,
    restorable,
    restore,
    snapshot,
    write,
)

NOW = CollectOptions(grace=timedelta(0))


class Node:
    """A node with a cache, whose volume was pushed as `a`, and with half of it written anew as `b`."""

    def __init__(self, folder):
        self.folder, self.store, self.pool, self._opened = folder, MemoryStore(CLOCK), new_pool(), 0
        new_repository(self.store)
        rnd = random.Random(8)
        self.pool.create_volume("volume", 8 * MIB)
        for name, offset in (("a", 0), ("b", 400 * KIB)):
            write(self.pool, "volume", (offset, rnd.randbytes(800 * KIB)))
            push_snapshots(self.open(), snapshot(self.pool, name, "volume"), workers=1)

    def open(self):
        """The repository as a new process has it."""
        self._opened += 1
        return open_repository(
            self.store, pytest.fail, clock=CLOCK, entropy=CountingEntropy(self._opened), caches=self.folder
        )

    def falsify(self, change):
        """Have the cache state otherwise of every pack, as `change` makes it of facts that are true."""
        repository = self.open()
        segments = [(name, [change(facts) for facts in stated]) for name, stated in repository.catalog.segments()]
        table, *others = (self.folder / repository.id).glob("table-*")
        for file in (table, *others):
            file.unlink()
        with table.open("w+b") as file:
            write_table(file.fileno(), repository.id, segments)

    def chunk_packs(self):
        """What is true of the packs of chunks, oldest version first."""
        first = self.open().versions()[0].version
        true = [facts for facts in self.open().catalog.stated_facts() if facts.kind is PackKind.CHUNKS]
        return sorted(true, key=lambda facts: facts.name.owner != first)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path / "cache")


def other_chunks(facts):
    """The same lengths, but of chunks that nobody has."""
    return replace(facts, prefixes=bytes(255 - byte for byte in facts.prefixes))


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_check_finds_what_is_lost_although_the_cache_states_it(node, is_busy):
    old, new = node.chunk_packs()
    node.store.delete(old.name.key)
    assert findings(node.open(), read_data=False)
    lengths = np.concatenate([new.lengths, np.full(old.entries, 17, np.uint32)])
    false = replace(new, prefixes=new.prefixes + old.prefixes, lengths=lengths)
    node.falsify(lambda facts: false if facts.name == new.name else facts)
    assert node.open().catalog.index_for_writing()[0].find(old.prefixes[16:32]).pack == new.name, (
        "the cache is believed by pushes"
    )

    with CacheFolder(node.folder / node.open().id if is_busy else None).writing():  # then the table cannot be removed
        hurt = {one.version for finding in findings(node.open(), read_data=False) for one in finding.hurt}

    assert hurt == {manifest.version for manifest in node.open().versions()}
    if is_busy:
        findings(node.open(), read_data=False)
    assert node.open().catalog.index_for_writing()[0].find(old.prefixes[16:32]) is None, "and no more after a check"


def test_a_check_finds_a_segment_that_was_damaged_after_it_was_read(node):
    segment = max(node.store.list("index/"), key=lambda blob: blob.size).key
    node.store.put(segment, b"damaged")

    found = {finding.blob: finding.code.value for finding in findings(node.open(), read_data=False)}

    assert found == {segment: "segment"}


def test_a_collection_that_takes_a_live_pack_for_dead_copies_what_lives(node):
    first = node.open().versions()[0].version
    node.falsify(lambda facts: other_chunks(facts) if facts.kind is PackKind.CHUNKS else facts)

    report = collect(node.open(), NOW, progress=Silent())

    assert report.condemned_packs > 0, "the choice is wrong"
    assert report.copied_bytes > 0, "and costs work alone"
    assert first in {manifest.version for manifest in node.open().versions()}
    assert restorable(node.store, node.pool) == 2
    assert findings(node.open()) == ()


def test_a_collection_that_finds_no_maps_by_the_cache_deletes_nothing(node):
    before = {blob.key for blob in node.store.list("pack/")}
    node.falsify(other_chunks)

    with pytest.raises(Damaged, match="nothing more was deleted"):
        collect(node.open(), NOW, progress=Silent())

    assert {blob.key for blob in node.store.list("pack/")} == before
    assert findings(node.open()) == (), "which has thrown the table away"
    collect(node.open(), NOW, progress=Silent())


def test_a_collection_deletes_nothing_because_the_cache_states_a_copy(node):
    """What `b` needs of the pack of `a` is said to be in the pack of `b` too, and is not."""
    old, new = node.chunk_packs()
    lengths = np.concatenate([new.lengths, np.full(old.entries, 17, np.uint32)])
    doubled = replace(new, prefixes=new.prefixes + old.prefixes, lengths=lengths)
    node.falsify(lambda facts: doubled if facts.name == new.name else facts)
    repository = node.open()
    repository.forget(repository.versions()[0].version)

    report = collect(repository, NOW, progress=Silent())

    assert report.deleted_packs > 0
    (manifest,) = node.open().versions()
    elsewhere = new_pool("elsewhere")
    restore(node.open(), manifest, elsewhere, "copy")
    assert content(elsewhere, "copy") == content(node.pool, "volume", "b")


@pytest.mark.slow
def test_a_segment_that_is_damaged_in_the_store_is_not_consolidated_away(node):
    segments = [blob.key for blob in node.store.list("index/")]
    node.open().catalog.index_for_writing()
    node.store.put(segments[0], b"damaged")
    for name in "cdefghijklmnopqrs":
        write(node.pool, "volume", (4 * MIB, name.encode() * KIB))
        push_snapshots(node.open(), snapshot(node.pool, name, "volume"), workers=1)

    report = collect(node.open(), NOW, progress=Silent())

    assert report.segments_removed > len(segments)
    assert segments[0] in {blob.key for blob in node.store.list("index/")}
    assert {f.blob for f in findings(node.open(), read_data=False)} == {segments[0]}
