"""With no threads of their own, push, check and restore do all in the calling thread, in an order that is always the same."""

import threading

import pytest

from engine.device.sim import SimPool
from engine.errors import OutOfSpace
from engine.ops.restore import RestoreOptions, restore_to_volume
from engine.progress import Silent
from engine.repo.check import check
from engine.repo.repository import Repository
from engine.store.faulty import Fault, Faulty, Moment
from engine.store.memory import MemoryStore
from engine.units import MIB
from tests.counting_entropy import CountingEntropy
from tests.manual_clock import ManualClock
from tests.repositories import CLOCK, content, new_repository, push_snapshots, snapshot, write


class Story:
    """A push, a check and a restore without threads; remembers the store's calls, and the threads that made them."""

    def __init__(self, plan=lambda call: None):
        self.threads = set()
        self.store = Faulty(MemoryStore(CLOCK), lambda call: self.threads.add(threading.get_ident()) or plan(call))
        made = new_repository(MemoryStore(CLOCK))
        self.repository = Repository(
            self.store, made.descriptor, made.keyring, ManualClock(), CountingEntropy(5), connections=1
        )
        self.pool = SimPool("pool", 200 * MIB, ManualClock())
        self.pool.create_volume("volume", 130 * MIB)
        write(self.pool, "volume", (0, b"one" * 9000), (65 * MIB, b"two" * 9000), (129 * MIB, b"three" * 9000))
        self.taken = snapshot(self.pool, "s", "volume")

    def push(self):
        push_snapshots(self.repository, self.taken, full=True, workers=0, uploaders=0)

    def tell(self):
        self.push()
        self.push()
        assert check(self.repository, read_data=True, progress=Silent(), workers=0).findings == ()
        manifest = self.repository.versions()[-1]
        restore_to_volume(
            self.repository,
            manifest,
            manifest.members[0],
            self.pool,
            "copy",
            in_place=False,
            options=RestoreOptions(workers=0),
            progress=Silent(),
        )


def test_one_thread_makes_the_same_calls_in_the_same_order():
    first, second = Story(), Story()
    first.tell()
    second.tell()
    assert first.threads == {threading.get_ident()}
    assert first.store.calls == second.store.calls
    assert content(first.pool, "copy") == content(first.pool, "volume", "s")


def test_a_pack_that_cannot_be_sent_ends_the_push():
    full = Fault(Moment.BEFORE, OutOfSpace("full"))
    story = Story(lambda call: full if call.key.startswith("pack/") and call.writes else None)
    with pytest.raises(OutOfSpace, match="full"):
        story.push()
    assert list(story.store.list("pending/")) == []
