"""What the memory store adds to the contract: it goes by the clock that it is given."""

from datetime import timedelta

from engine.store.memory import MemoryStore
from tests.manual_clock import ManualClock


def test_times_are_those_of_the_clock():
    clock = ManualClock()
    store = MemoryStore(clock)
    store.put("a", b"1")
    clock.advance(60)
    assert store.now() - store.stat("a").modified == timedelta(minutes=1)


def test_a_listing_is_of_the_moment_of_the_call():
    store = MemoryStore(ManualClock())
    store.put("a", b"1")
    listing = store.list("")
    store.put("b", b"1")
    assert [blob.key for blob in listing] == ["a"]
