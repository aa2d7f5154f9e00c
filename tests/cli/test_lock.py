"""One push to one object at a time, on one node."""

import multiprocessing
import threading

import pytest

from engine.errors import Busy
from rokctl.lock import exclusive


def hold(directory, name, held, release):
    with exclusive(directory, name, wait=True, talk=print):
        held.set()
        release.wait(20)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock `fast/db`, until it is told to let go."""
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, "fast/db", held, release))
    process.start()
    assert held.wait(20)
    yield process, release
    release.set()
    process.join(20)


def test_another_process_is_refused_when_it_must_not_wait(tmp_path, holder):
    process, _ = holder
    with (
        pytest.raises(Busy, match=rf"another push to fast/db is running .*process {process.pid}"),
        exclusive(tmp_path, "fast/db", wait=False, talk=print),
    ):
        pass


def test_another_process_waits_says_so_once_and_then_has_it(tmp_path, holder):
    _, release = holder
    said = []
    threading.Timer(0.1, release.set).start()
    with exclusive(tmp_path, "fast/db", wait=True, talk=said.append):
        assert len(said) == 1
        assert "waiting" in said[0]


def test_another_name_is_another_lock(tmp_path, holder):
    with exclusive(tmp_path, "fast/wal", wait=False, talk=print):
        pass


def test_a_holder_that_was_killed_holds_nothing(tmp_path, holder):
    process, _ = holder
    process.kill()
    process.join(20)
    with exclusive(tmp_path, "fast/db", wait=False, talk=print):
        pass
