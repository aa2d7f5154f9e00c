"""Rate limits, alone and around a store."""

import threading

import pytest

from engine.rate import RateLimit
from engine.store.memory import MemoryStore
from engine.store.throttle import Throttled
from tests.manual_clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


def test_each_amount_takes_its_time(clock):
    limit = RateLimit(1000, clock)
    for amount in (1000, 500, 0, 1):
        limit.take(amount)
    assert clock.monotonic() == pytest.approx(1.501)


def test_time_spent_on_other_work_counts(clock):
    limit = RateLimit(1000, clock)
    limit.take(1000)
    clock.advance(0.75)
    limit.take(1000)
    assert clock.slept == pytest.approx([1, 1])


def test_idle_time_is_not_made_up_for(clock):
    limit = RateLimit(1000, clock)
    clock.advance(3600)
    limit.take(2000)
    assert clock.slept == [2]


def test_threads_share_the_limit():
    class Standing(ManualClock):
        """Time stands, so that a thread's wait is its place in the queue."""

        def sleep(self, seconds):
            self.slept.append(seconds)

    clock = Standing()
    limit = RateLimit(1000, clock)
    threads = [threading.Thread(target=limit.take, args=(100,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(clock.slept) == pytest.approx([0.1 * place for place in range(1, 9)])


def test_bodies_wait_in_their_own_direction(clock):
    store = Throttled(MemoryStore(clock), upload=RateLimit(1000, clock), download=RateLimit(100, clock))
    store.put("a", memoryview(bytes(1000)))
    store.create("b", bytes(2000))
    assert clock.slept == [1, 2]
    clock.slept.clear()
    store.get("a")
    store.get_range("b", 0, 50)
    store.read_into("b", 0, memoryview(bytearray(25)))
    assert clock.slept == [10, 0.5, 0.25]
    clock.slept.clear()
    list(store.list(""))
    store.stat("a")
    store.now()
    store.delete("a")
    assert clock.slept == []


def test_no_limit_is_none(clock):
    store = Throttled(MemoryStore(clock), upload=None, download=None)
    store.put("a", bytes(10**6))
    store.get("a")
    assert clock.slept == []
