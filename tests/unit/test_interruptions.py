"""When Ctrl-C and SIGTERM are raised: at once, but never where a lock of the interpreter's library would stay locked."""

import importlib
import signal
import sys
import threading
import time

import pytest

from rokctl.signals import Terminated, interruptions

BOTH = pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])


def be_at_work(seconds=5):
    """What an interruption is expected to break off."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


def run(work, told=()):
    """Run a program; it is told to stop by something more in `told`."""
    with interruptions(lambda: told.append("stop") if told != () else None):
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


@BOTH
def test_an_interruption_while_a_lock_is_taken_is_raised_when_the_lock_will_be_released(number, kind):
    class Lock:
        """One that is interrupted just when it has been taken."""

        def __init__(self):
            self.inner = threading.Lock()
            self.acquire, self.release = self.inner.acquire, self.inner.release

        def __enter__(self):
            self.inner.acquire()
            signal.raise_signal(number)

        def __exit__(self, *_):
            self.inner.release()

    def work():
        with threading.Condition(lock):
            be_at_work()

    lock = Lock()
    with pytest.raises(kind):
        run(work)
    assert not lock.inner.locked()


class Garbage:
    """What is interrupted while it is freed."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def make_garbage():
    Garbage()
    be_at_work()


def test_an_interruption_that_garbage_collection_swallows_is_raised_again():
    with pytest.raises(KeyboardInterrupt):
        run(make_garbage)


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


def test_handlers_and_the_timer_are_afterwards_what_they_were():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    hook = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        run(make_garbage)
    assert [signal.getsignal(number) for number in numbers] == before
    assert sys.unraisablehook is hook


def test_what_is_ignored_from_the_start_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptions(lambda: pytest.fail("the program was told to stop")):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
