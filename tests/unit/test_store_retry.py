"""Retrying: what is repeated, for how long, and what becomes of a create without an answer."""

import contextlib

import pytest

from engine.errors import Failed, OutOfSpace, Refused, Unreachable
from engine.store.base import BlobExists, NoSuchBlob, Unknown
from engine.store.faulty import Fault, Faulty, Moment, at
from engine.store.memory import MemoryStore
from engine.store.retry import Patience, Retrying
from tests.manual_clock import ManualClock

AWAY = Unreachable("the store is away", hint="wait")
LOST_REQUEST = Fault(Moment.BEFORE, AWAY)
LOST_ANSWER = Fault(Moment.AFTER, AWAY)


def no_jitter(amount: int) -> bytes:
    return bytes(amount)


def most_jitter(amount: int) -> bytes:
    return b"\xff" * amount


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def memory(clock):
    return MemoryStore(clock)


def during(first: int, last: int, fault: Fault):
    return lambda call: fault if first <= call.number <= last else None


OPERATIONS = {
    "put": lambda store: store.put("a", b"1"),
    "get": lambda store: store.get("old"),
    "get_range": lambda store: store.get_range("old", 0, 1),
    "read_into": lambda store: store.read_into("old", 0, memoryview(bytearray(1))),
    "list": lambda store: list(store.list("")),
    "keys": lambda store: store.keys(""),
    "stat": lambda store: store.stat("old"),
    "delete": lambda store: store.delete("old"),
    "now": lambda store: store.now(),
    "create": lambda store: store.create("new", b"1"),
}


@pytest.mark.parametrize("fault", [LOST_REQUEST, LOST_ANSWER], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_call_is_repeated_until_the_store_answers(memory, clock, operation, fault):
    memory.put("old", b"1")
    expected = None if operation == "now" else OPERATIONS[operation](copy_of(memory, clock))
    store = Retrying(Faulty(memory, during(1, 3, fault)), clock, no_jitter)
    found = OPERATIONS[operation](store)
    assert found == expected or operation == "now"
    assert clock.slept[:3] == [0.5, 1, 2]


def copy_of(memory: MemoryStore, clock: ManualClock) -> MemoryStore:
    copy = MemoryStore(clock)
    for blob in memory.list(""):
        copy.put(blob.key, memory.get(blob.key))
    return copy


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("error", [Failed("no"), Refused("no"), OutOfSpace("no")])
def test_nothing_else_is_repeated(memory, clock, operation, error):
    faulty = Faulty(memory, at(1, Fault(Moment.BEFORE, error)))
    with pytest.raises(type(error)) as caught:
        OPERATIONS[operation](Retrying(faulty, clock, no_jitter))
    assert caught.value is error
    assert len(faulty.calls) == 1


def test_pauses_double_up_to_the_longest_and_end_after_the_attempts(memory, clock):
    faulty = Faulty(memory, during(1, 99, LOST_REQUEST))
    patience = Patience(attempts=6, first_pause_seconds=1, longest_pause_seconds=5, total_seconds=1000)
    with pytest.raises(Unreachable, match="the store is away"):
        Retrying(faulty, clock, no_jitter, patience).get("a")
    assert clock.slept == [1, 2, 4, 5, 5]
    assert len(faulty.calls) == 6


def test_jitter_cuts_a_pause_by_up_to_a_half(memory, clock):
    patience = Patience(attempts=3, first_pause_seconds=1)
    with pytest.raises(Unreachable):
        Retrying(Faulty(memory, during(1, 99, LOST_REQUEST)), clock, most_jitter, patience).get("a")
    assert clock.slept == pytest.approx([0.5, 1])


def test_no_pause_ends_after_the_total_time(memory, clock):
    patience = Patience(attempts=100, first_pause_seconds=4, longest_pause_seconds=4, total_seconds=10)
    with pytest.raises(Unreachable):
        Retrying(Faulty(memory, during(1, 99, LOST_REQUEST)), clock, no_jitter, patience).get("a")
    assert clock.slept == [4, 4]


def test_a_pause_that_is_cut_short_is_the_last(memory):
    clock = WokenClock()
    faulty = Faulty(memory, during(1, 99, LOST_REQUEST))
    with pytest.raises(Unreachable):
        Retrying(faulty, clock, no_jitter).get("a")
    assert (len(faulty.calls), clock.slept) == (1, [0.5])


class WokenClock(ManualClock):
    """Sleepers wake at once: the program is to end."""

    def sleep(self, seconds):
        self.slept.append(seconds)


def test_each_call_has_patience_of_its_own(memory, clock):
    memory.put("a", b"1")
    plan = lambda call: LOST_REQUEST if call.number % 3 else None  # noqa: E731
    store = Retrying(Faulty(memory, plan), clock, no_jitter, Patience(attempts=3))
    assert [store.get("a") for _ in range(5)] == [b"1"] * 5


def test_a_listing_that_breaks_off_is_resumed_as_often_as_it_advances(memory, clock):
    for number in range(64):
        memory.put(f"pack/{number:03d}", b"")
    # Each listing delivers the first half of what is there, so only those put later bring it further.
    faulty = Faulty(memory, lambda call: LOST_ANSWER if call.number < 4 else None)
    store = Retrying(faulty, clock, no_jitter, Patience(attempts=2))
    listing = store.list("pack/")
    found = []
    for blob in listing:
        found.append(blob.key)
        if len(found) in (32, 48):
            for number in range(64, 64 + len(found)):
                memory.put(f"pack/{number:03d}", b"")
    assert found == sorted(set(found))
    assert len(found) == 112
    assert len(faulty.calls) == 4


def test_a_listing_that_does_not_advance_is_given_up(memory, clock):
    memory.put("a", b"")
    memory.put("b", b"")
    listing = Retrying(Faulty(memory, during(1, 99, LOST_ANSWER)), clock, no_jitter, Patience(attempts=3)).list("")
    assert next(listing).key == "a"
    with pytest.raises(Unreachable):
        next(listing)


def test_a_create_whose_answer_was_lost_is_found_to_be_ours(memory, clock):
    store = Retrying(Faulty(memory, at(1, LOST_ANSWER)), clock, no_jitter)
    store.create("versions/1", memoryview(b"mine"))
    assert memory.get("versions/1") == b"mine"


def test_a_create_that_never_arrived_is_sent_again(memory, clock):
    Retrying(Faulty(memory, at(1, LOST_REQUEST)), clock, no_jitter).create("versions/1", b"mine")
    assert memory.get("versions/1") == b"mine"


def test_a_create_without_an_answer_that_another_writer_won_is_lost(memory, clock):
    memory.create("versions/1", b"yours")
    store = Retrying(Faulty(memory, at(1, LOST_REQUEST)), clock, no_jitter)
    with pytest.raises(BlobExists):
        store.create("versions/1", b"mine")
    assert memory.get("versions/1") == b"yours"


def test_a_create_that_finds_equal_bytes_at_once_is_not_the_winner(memory, clock):
    memory.create("versions/1", b"same")
    faulty = Faulty(memory)
    with pytest.raises(BlobExists):
        Retrying(faulty, clock, no_jitter).create("versions/1", b"same")
    assert [call.operation for call in faulty.calls] == ["create"]


def test_reading_back_is_repeated_too(memory, clock):
    # create done but unanswered; create finds it taken; reading fails; the same again; reading succeeds
    plan = lambda call: {1: LOST_ANSWER, 3: LOST_REQUEST, 5: LOST_REQUEST}.get(call.number)  # noqa: E731
    faulty = Faulty(memory, plan)
    Retrying(faulty, clock, no_jitter).create("versions/1", b"mine")
    assert [call.operation for call in faulty.calls] == ["create", "create", "get", "create", "get", "create", "get"]


@pytest.mark.parametrize("fault", [LOST_REQUEST, LOST_ANSWER], ids=["request lost", "answer lost"])
def test_a_create_that_is_never_answered_is_unknown(memory, clock, fault):
    store = Retrying(Faulty(memory, during(1, 99, fault)), clock, no_jitter)
    with pytest.raises(Unknown, match="unknown whether versions/1 was created") as caught:
        store.create("versions/1", b"mine")
    assert caught.value.hint
    assert "the store is away" in caught.value.message


def test_a_create_without_an_answer_that_is_then_refused_is_unknown(memory, clock):
    expired = Fault(Moment.BEFORE, Refused("the token has expired", hint="renew it"))
    plan = lambda call: {1: LOST_ANSWER, 2: expired}.get(call.number)  # noqa: E731
    with pytest.raises(Unknown, match="the token has expired") as caught:
        Retrying(Faulty(memory, plan), clock, no_jitter).create("versions/1", b"mine")
    assert caught.value.hint == "renew it; what was created is then found"


def test_a_create_whose_blob_was_removed_before_it_could_be_read_back_is_unknown(memory, clock):
    def plan(call):
        if call.operation == "get":
            memory.delete("versions/1")
        return LOST_ANSWER if call.number == 1 else None

    with pytest.raises(Unknown) as caught:
        Retrying(Faulty(memory, plan), clock, no_jitter).create("versions/1", b"mine")
    assert isinstance(caught.value.__cause__, NoSuchBlob)


@pytest.mark.parametrize("answer", ["old", "none"])
def test_until_the_store_has_answered_its_patience_is_that_of_the_first_contact(memory, clock, answer):
    memory.put("old", b"1")
    away = [True]
    faulty = Faulty(memory, lambda call: LOST_REQUEST if away[0] else None)
    store = Retrying(faulty, clock, no_jitter, Patience(attempts=5), first_contact=Patience(attempts=2))
    for _ in range(2):
        with pytest.raises(Unreachable):
            store.get("old")
    assert len(faulty.calls) == 2 + 2

    away[0] = False
    with contextlib.suppress(NoSuchBlob):  # which is an answer, too
        store.get(answer)
    away[0] = True

    before = len(faulty.calls)
    with pytest.raises(Unreachable):
        store.get("old")
    assert len(faulty.calls) - before == 5
