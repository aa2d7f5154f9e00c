"""When Ctrl-C and SIGTERM are raised: at once, but never where a lock of the interpreter's library would stay locked."""

import gc
import importlib
import io
import itertools
import logging
import signal
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest

from engine.hand import beside
from rokctl.signals import Terminated, _Interrupter, interruptions
from tests.interrupting import interrupted_everywhere

BOTH = pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])


def be_at_work(seconds=5):
    """What an interruption is expected to break off."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


def run(work, told=None):
    """Run a program; it is told to stop by something more in `told`."""
    told = [] if told is None else told
    with interruptions(lambda: told.append("stop")):
        work()


@BOTH
def test_an_interruption_is_raised_where_it_came_and_the_program_is_told_to_stop(number, kind):
    def work():
        signal.raise_signal(number)
        told.append("not broken off")

    told = ["begin"]
    with pytest.raises(kind):
        run(work, told)
    assert told == ["begin", "stop"]


@BOTH
def test_an_interruption_during_an_import_is_raised_after_it(number, kind, tmp_path, monkeypatch):
    body = f"import signal\nsignal.raise_signal({int(number)})\nwhole = True\n"
    (tmp_path / "interrupted_module.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "interrupted_module", raising=False)

    def work():
        assert importlib.import_module("interrupted_module").whole
        assert told == ["begin", "stop"], "those who sleep are woken at once"
        be_at_work()
        told.append("not broken off")

    told = ["begin"]
    with pytest.raises(kind):
        run(work, told)
    assert told == ["begin", "stop"]


class Lock:
    """One that is interrupted just when it has been taken, and then does something more."""

    def __init__(self, number, then):
        self._number, self._then = number, then
        self.inner = threading.Lock()
        self.acquire, self.release = self.inner.acquire, self.inner.release

    def __enter__(self):
        self.inner.acquire()
        signal.raise_signal(self._number)
        self._then()

    def __exit__(self, *_):
        self.inner.release()


def with_a_lock(then, number=signal.SIGINT):
    lock = Lock(number, then)
    try:
        with threading.Condition(lock):
            be_at_work()
    finally:
        assert not lock.inner.locked()


@BOTH
def test_an_interruption_while_a_lock_is_taken_is_raised_when_the_lock_will_be_released(number, kind):
    with pytest.raises(kind):
        run(lambda: with_a_lock(lambda: None, number))


class Garbage:
    """What is interrupted while it is freed."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def make_garbage():
    Garbage()
    be_at_work()


class Response(io.BytesIO):
    """What is interrupted while Python closes it, because it is freed; nobody is told what is raised then."""

    def close(self):
        signal.raise_signal(signal.SIGINT)
        super().close()


def make_a_response():
    Response(b"x")
    be_at_work()


@pytest.mark.parametrize("make", [make_garbage, make_a_response])
def test_an_interruption_while_something_is_freed_is_not_lost(make):
    with pytest.raises(KeyboardInterrupt):
        run(make)


def test_an_interruption_that_is_dropped_all_the_same_is_raised_again():
    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated as error:
            lost = SimpleNamespace(exc_type=type(error), exc_value=error, exc_traceback=None, err_msg=None, object=None)
        sys.unraisablehook(lost)
        be_at_work()

    with pytest.raises(Terminated):
        run(work)


def test_no_moment_of_a_first_log_leaves_the_lock_of_all_loggers_taken():
    def log():
        for _ in range(3):
            logging.getLogger(f"new {next(numbers)}").debug("something")

    def scenario(interrupted):
        with interrupted():
            log()
        assert logging._lock.acquire(blocking=False)
        logging._lock.release()

    numbers = itertools.count()
    in_another_thread = beside(lambda: interrupted_everywhere(scenario))
    with pytest.raises(AssertionError):  # it must be the main thread
        in_another_thread()
    assert interrupted_everywhere(scenario) > 5


def test_an_interruption_is_raised_once_and_what_follows_does_not_break_off_the_release():
    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0.1)
            released.append(signal.getsignal(signal.SIGINT))

    released = []
    with pytest.raises(Terminated):
        run(work)
    assert released == [signal.SIG_DFL], "a Ctrl-C would have ended the process at once"


def test_what_a_class_that_is_being_made_makes_of_an_interruption_is_an_interruption():
    class Interrupted:
        def __set_name__(self, owner, name):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(lambda: type("Made", (), {"field": Interrupted()}))


def test_of_two_at_the_same_time_one_is_raised_and_nothing_is_said_of_the_other(capfd):
    def work():
        for number in both:
            signal.pthread_kill(threading.get_ident(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
        be_at_work()

    both = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    try:
        with pytest.raises((KeyboardInterrupt, Terminated)):
            run(work)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
    assert capfd.readouterr().err == ""


def test_a_signal_that_comes_when_the_work_is_over_changes_nothing(monkeypatch):
    hook, handlers = sys.unraisablehook, [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    give_back = _Interrupter.give_back_the_timer

    def interrupted(interrupter):
        signal.raise_signal(signal.SIGTERM)
        give_back(interrupter)

    monkeypatch.setattr(_Interrupter, "give_back_the_timer", interrupted)
    told = []
    run(lambda: None, told)
    assert told == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert sys.unraisablehook is hook


def test_handlers_and_the_timer_are_afterwards_what_they_were():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    hook, timer = sys.unraisablehook, signal.getitimer(signal.ITIMER_REAL)
    own = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("much later"))
    signal.setitimer(signal.ITIMER_REAL, 1000)
    before = [signal.getsignal(number) for number in numbers]
    try:
        with pytest.raises(KeyboardInterrupt):
            run(lambda: with_a_lock(lambda: time.sleep(0.1)))  # several times of the timer
        assert [signal.getsignal(number) for number in numbers] == before
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900
        assert sys.unraisablehook is hook
    finally:
        signal.signal(signal.SIGALRM, own)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def test_what_is_ignored_from_the_start_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptions(lambda: pytest.fail("the program was told to stop")):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_the_collector_of_garbage_calls_is_left_alone_since_what_is_raised_in_there_is_dropped():
    def called(phase, info):
        len(info)

    def collect():
        len([gc.collect()])

    def scenario(interrupted):
        with suppress(KeyboardInterrupt), interrupted():
            collect()

    gc.callbacks.append(called)
    try:
        assert interrupted_everywhere(scenario) > 0
    finally:
        gc.callbacks.remove(called)
