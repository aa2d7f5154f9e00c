"""One push to one object at a time, on one node."""

import subprocess
import sys
import threading

import pytest

from engine.errors import Busy
from rokctl.lock import exclusive

HOLD = """
import sys
from pathlib import Path
from rokctl.lock import exclusive
with exclusive(Path(sys.argv[1]), "fast/db", wait=True, talk=print):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock `fast/db`, until its standard input is closed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], **pipes, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def test_another_process_is_refused_when_it_must_not_wait(tmp_path, holder):
    with (
        pytest.raises(Busy, match=rf"another push to fast/db is running .*process {holder.pid}"),
        exclusive(tmp_path, "fast/db", wait=False, talk=print),
    ):
        pass


def test_another_process_waits_says_so_once_and_then_has_it(tmp_path, holder):
    said = []
    threading.Timer(0.1, holder.stdin.close).start()
    with exclusive(tmp_path, "fast/db", wait=True, talk=said.append):
        assert len(said) == 1
        assert "waiting" in said[0]


def test_another_name_is_another_lock(tmp_path, holder):
    with exclusive(tmp_path, "fast/wal", wait=False, talk=print):
        pass


def test_a_holder_that_was_killed_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait(20)
    with exclusive(tmp_path, "fast/db", wait=False, talk=print):
        pass
