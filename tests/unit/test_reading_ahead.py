"""What a push tells a source that it will read next: all of that is read, by the same thread, and nothing is told twice."""

import random
import threading

import pytest

from engine.device.simio import SimSource
from engine.extent import Extent, normalise, subtract, total
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import CLOCK, discard, new_pool, new_repository, push_snapshots, snapshot, write

SIZE = 200 * MIB + 512


class Watched:
    """What was read, and what was told before, of one volume; by thread."""

    def __init__(self, monkeypatch):
        self.read, self.told = [], []
        read_into = SimSource.read_into

        def watched_read(source, offset, target):
            self.read.append((threading.get_ident(), Extent(offset, len(target))))
            read_into(source, offset, target)

        def watched_expect(source, extent):
            assert extent.end <= source.size
            done = [read for by, read in self.read if by == threading.get_ident()]
            assert extent.end <= done[-1].end + 2 * MIB, "too far ahead for a small cache"
            done = [read for _, read in self.read]
            assert not any(read.start < extent.end and extent.start < read.end for read in done), "read already"
            self.told.append((threading.get_ident(), extent))

        monkeypatch.setattr(SimSource, "read_into", watched_read)
        monkeypatch.setattr(SimSource, "expect", watched_expect)

    def check(self):
        """Nothing is told twice, and what one thread told, it read."""
        told = [extent for _, extent in self.told]
        assert total(normalise(told)) == total(told)
        for thread in {thread for thread, _ in self.told}:
            read = normalise(extent for by, extent in self.read if by == thread)
            assert not [*subtract(normalise(extent for by, extent in self.told if by == thread), read)]

    def share(self):
        """How much of what was read was told before."""
        return total(extent for _, extent in self.told) / total(extent for _, extent in self.read)


@pytest.fixture
def pool():
    pool, rnd = new_pool(), random.Random(5)
    pool.create_volume("volume", SIZE)
    write(pool, "volume", (0, rnd.randbytes(40 * MIB)), (70 * MIB, rnd.randbytes(9 * MIB)), (SIZE - 700, b"x" * 700))
    return pool


@pytest.mark.parametrize("workers", [0, 2])
def test_of_a_full_push_almost_all_is_told(pool, monkeypatch, workers):
    watched = Watched(monkeypatch)
    push_snapshots(new_repository(MemoryStore(CLOCK)), snapshot(pool, "a", "volume"), workers=workers)
    watched.check()
    assert watched.share() > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_of_what_changed_all_that_is_told_is_read(pool, monkeypatch, seed):
    repository, rnd = new_repository(MemoryStore(CLOCK)), random.Random(seed)
    push_snapshots(repository, snapshot(pool, "a", "volume"))
    for _ in range(30):
        write(pool, "volume", (rnd.randrange(0, 79 * MIB), rnd.randbytes(rnd.randrange(1, 3 * MIB))))
        discard(pool, "volume", rnd.randrange(0, 78 * MIB), rnd.randrange(512, MIB))
    watched = Watched(monkeypatch)
    push_snapshots(repository, snapshot(pool, "b", "volume"))
    watched.check()
    assert watched.share() > 0.2


def test_of_a_push_with_a_limit_nothing_is_told(pool, monkeypatch):
    watched = Watched(monkeypatch)
    options = {"read_limit": NoLimit()}
    push_snapshots(new_repository(MemoryStore(CLOCK)), snapshot(pool, "a", "volume"), **options)
    assert watched.read
    assert not watched.told


class NoLimit:
    """A limit on the rate that is never reached."""

    def take(self, amount):
        assert amount <= 2 * MIB + 600 * KIB
