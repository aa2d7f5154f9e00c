"""Threads that work for the one that calls: their order, their errors, and an interruption of that one at any moment."""

import threading
import time
from contextlib import suppress

import pytest

from engine.crew import concurrently, employ
from engine.hand import Hand, beside, shielded, stop_if_fails
from engine.writebehind import WriteBehind
from tests.interrupting import interrupted_everywhere
from tests.unit.test_writebehind import Finished

SECONDS = 10  # until something that does not end is taken to hang


class Notes:
    """A worker that keeps what it did, and tells when it is at work."""

    def __init__(self, fail_at: object = None) -> None:
        self.done: list[object] = []
        self.is_finished = self.is_at_work = False
        self._fail_at = fail_at

    def do(self, task: object) -> None:
        self.is_at_work = True
        if task == self._fail_at:
            self.is_at_work = False
            raise OSError("the disk is on fire")
        time.sleep(0)
        self.done.append(task)
        self.is_at_work = False

    def finish(self) -> None:
        self.is_finished = True


@pytest.mark.parametrize("inline", [False, True])
def test_each_task_is_done_once_and_each_worker_finishes(inline):
    workers = [Notes() for _ in range(3)]
    employ(workers, range(100), inline=inline)
    assert sorted(task for worker in workers for task in worker.done) == [*range(100)]
    assert workers[0].is_finished
    assert inline or all(worker.is_finished for worker in workers)


def test_tasks_are_drawn_no_further_ahead_than_the_workers_can_use():
    drawn, may_go_on = [], threading.Semaphore(0)

    class Held(Notes):
        def do(self, task):
            may_go_on.acquire()
            super().do(task)

    def tasks():
        for number in range(20):
            drawn.append(number)
            may_go_on.release()
            yield number

    workers = [Held(), Held()]
    employ(workers, tasks())
    assert len(drawn) == 20

    drawn.clear()
    may_go_on = threading.Semaphore(0)
    endless = beside(lambda: employ([Held(), Held()], (drawn.append(number) or number for number in range(20))))
    deadline = time.monotonic() + SECONDS
    while len(drawn) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(drawn) == 5, "two in work, two that wait, and one in the hand"
    for _ in range(20):
        may_go_on.release()
    endless()


def test_the_error_of_a_worker_stops_everything_and_is_raised():
    workers = [Notes(fail_at=7), Notes(fail_at=7)]
    with pytest.raises(OSError, match="on fire"):
        employ(workers, iter(range(1_000_000)))
    assert not any(worker.is_finished for worker in workers)


def test_calls_at_once_give_what_they_returned_in_the_order_of_the_items():
    assert concurrently(lambda item: item * 2, range(50), 4) == [item * 2 for item in range(50)]
    assert concurrently(str, [], 4) == []
    with pytest.raises(ZeroDivisionError):
        concurrently(lambda item: 1 // item, [1, 2, 0, 3], 2)


@pytest.mark.parametrize("fail_at", [None, 1], ids=["at work", "or stopping for an error"])
def test_an_interruption_at_any_moment_stops_a_crew_and_leaves_nobody_at_work(fail_at):
    expected = () if fail_at is None else (OSError,)

    def scenario(interrupted):
        workers = [Notes(fail_at), Notes()]
        with interrupted(), suppress(*expected):
            employ(workers, range(5))
        assert not any(worker.is_at_work for worker in workers)

    assert interrupted_everywhere(scenario) > 50
    assert_no_hand_is_left_at_work()


def test_an_interruption_at_any_moment_of_a_call_beside_another_leaves_no_thread_that_hangs():
    def scenario(interrupted):
        with interrupted():
            assert beside(lambda: 1)() == 1

    assert interrupted_everywhere(scenario) > 5
    assert_no_hand_is_left_at_work()


def test_an_interruption_at_any_moment_of_writing_behind_lets_no_write_outlive_what_is_written_to():
    late = []

    def scenario(interrupted):
        is_closed = False

        def write(item, body):
            time.sleep(0.001)
            if is_closed:
                late.append(item)

        def work():
            for _ in range(4):
                behind.submit(Finished(behind.acquire()))
            behind.drain()

        behind = WriteBehind(write, threads=2, buffers=3, size=4096)
        with interrupted():
            stop_if_fails(work, behind.stop)
        is_closed = True
        behind.stop()

    assert interrupted_everywhere(scenario) > 50
    assert_no_hand_is_left_at_work()
    assert late == []


def test_an_interruption_at_any_moment_of_a_call_that_is_shielded_is_raised_when_that_has_ended():
    def scenario(interrupted):
        states = []

        def call():
            states.append("begun")
            time.sleep(0.001)
            states.append("ended")

        with interrupted():
            shielded(call)
        assert states in ([], ["begun", "ended"])

    assert interrupted_everywhere(scenario) > 10
    assert_no_hand_is_left_at_work()


def test_what_a_shielded_call_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        shielded(lambda: 1 // 0)


def assert_no_hand_is_left_at_work():
    """Threads that wait for work that never comes end with the process; none may wait for a lock."""
    deadline = time.monotonic() + SECONDS
    while any(isinstance(thread, Hand) and thread.is_at_work for thread in threading.enumerate()):
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)
