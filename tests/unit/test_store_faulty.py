"""Faulty: the plan is kept to the call, and nothing comes back from the dead."""

import threading

import pytest

from engine.errors import RokError, Unreachable
from engine.store.faulty import CRASH_AFTER, CRASH_BEFORE, Crashed, Fault, Faulty, Moment, at
from engine.store.memory import MemoryStore
from tests.manual_clock import ManualClock


@pytest.fixture
def memory():
    return MemoryStore(ManualClock())


def work(store):
    """Seven calls, the last of which makes the others count."""
    store.now()
    store.put("pack/1", b"1")
    store.put("pack/2", b"2")
    store.stat("pack/1")
    store.delete("pack/1")
    list(store.list("pack/"))
    store.create("versions/1", b"v")


def test_an_undisturbed_run_counts_the_calls(memory):
    faulty = Faulty(memory)
    work(faulty)
    assert [(call.number, call.operation, call.key) for call in faulty.calls] == [
        (1, "now", ""),
        (2, "put", "pack/1"),
        (3, "put", "pack/2"),
        (4, "stat", "pack/1"),
        (5, "delete", "pack/1"),
        (6, "list", "pack/"),
        (7, "create", "versions/1"),
    ]
    assert [call.number for call in faulty.calls if call.writes] == [2, 3, 5, 7]


AFTER_CALL = [
    [],
    ["pack/1"],
    ["pack/1", "pack/2"],
    ["pack/1", "pack/2"],
    ["pack/2"],
    ["pack/2"],
    ["pack/2", "versions/1"],
]


@pytest.mark.parametrize("number", range(1, 8))
def test_a_crash_comes_before_or_after_the_call_took_effect(number):
    kept = {}
    for fault in (CRASH_BEFORE, CRASH_AFTER):
        memory = MemoryStore(ManualClock())
        faulty = Faulty(memory, at(number, fault))
        with pytest.raises(Crashed):
            work(faulty)
        assert len(faulty.calls) == number
        kept[fault] = [blob.key for blob in memory.list("")]
    assert kept[CRASH_AFTER] == AFTER_CALL[number - 1]
    assert kept[CRASH_BEFORE] == ([] if number == 1 else AFTER_CALL[number - 2])


def test_a_crash_is_not_handled_by_code_that_handles_errors():
    assert not issubclass(Crashed, Exception)
    assert not issubclass(Crashed, RokError)


def test_after_a_crash_no_call_reaches_the_store(memory):
    memory.put("a", b"1")
    faulty = Faulty(memory, at(1, CRASH_BEFORE))
    calls = [
        lambda: faulty.put("a", b"2"),
        lambda: faulty.create("b", b"2"),
        lambda: faulty.get("a"),
        lambda: faulty.get_range("a", 0, 1),
        lambda: faulty.read_into("a", 0, memoryview(bytearray(1))),
        lambda: faulty.list(""),
        lambda: faulty.stat("a"),
        lambda: faulty.delete("a"),
        lambda: faulty.now(),
    ]
    for call in [calls[0], *calls]:
        with pytest.raises(Crashed):
            call()
    assert len(faulty.calls) == 1
    assert memory.get("a") == b"1"
    assert [blob.key for blob in memory.list("")] == ["a"]


def test_an_answer_under_way_in_another_thread_is_not_delivered(memory):
    class Slow(MemoryStore):
        entered, released = threading.Event(), threading.Event()

        def get(self, key):
            self.entered.set()
            self.released.wait(10)
            return super().get(key)

    slow = Slow(ManualClock())
    slow.put("a", b"1")
    faulty = Faulty(slow, at(2, CRASH_BEFORE))
    outcome = []

    def read():
        try:
            outcome.append(faulty.get("a"))
        except Crashed:
            outcome.append("crashed")

    reader = threading.Thread(target=read)
    reader.start()
    slow.entered.wait(10)
    with pytest.raises(Crashed):
        faulty.put("b", b"2")
    slow.released.set()
    reader.join()
    assert outcome == ["crashed"]


def test_a_listing_ends_with_the_process(memory):
    for key in ("a", "b"):
        memory.put(key, b"")
    faulty = Faulty(memory, at(2, CRASH_BEFORE))
    listing = faulty.list("")
    assert next(listing).key == "a"
    with pytest.raises(Crashed):
        faulty.now()
    with pytest.raises(Crashed):
        next(listing)


def test_a_listing_that_loses_its_answer_delivers_half(memory):
    for key in "abcd":
        memory.put(key, b"")
    listing = Faulty(memory, at(1, CRASH_AFTER)).list("")
    assert [next(listing).key, next(listing).key] == ["a", "b"]
    with pytest.raises(Crashed):
        next(listing)


@pytest.mark.parametrize(("moment", "kept"), [(Moment.BEFORE, []), (Moment.AFTER, ["a"])])
def test_a_call_may_fail_and_the_next_succeed(memory, moment, kept):
    error = Unreachable("away")
    faulty = Faulty(memory, at(1, Fault(moment, error)))
    with pytest.raises(Unreachable) as caught:
        faulty.put("a", b"1")
    assert caught.value is error
    assert [blob.key for blob in faulty.list("")] == kept


def test_an_error_of_the_store_inside_passes_unless_its_answer_is_lost(memory):
    with pytest.raises(RokError, match="holds no a"):
        Faulty(memory).get("a")
    with pytest.raises(Unreachable):
        Faulty(memory, at(1, Fault(Moment.AFTER, Unreachable("away")))).get("a")
    with pytest.raises(Crashed):
        Faulty(memory, at(1, CRASH_AFTER)).get("a")
