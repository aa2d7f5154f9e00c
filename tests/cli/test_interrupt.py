"""Ctrl-C and SIGTERM in the middle of a push: the right code, soon, nothing half done, and the next run completes it."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture
def slow_push(rokctl, world, tmp_path):
    """A push in a process of its own that would take a minute, and has begun to read."""
    (tmp_path / "file").write_bytes(random.Random(1).randbytes(60 << 20))
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")
    rokctl("volume", "import", "p/v", tmp_path / "file")
    rokctl("repo", "init", "--no-encryption")
    rokctl("snapshot", "create", "p/v@one")
    words = ["snapshot", "push", "p/v@one", "--limit-read", "1M"]
    environment = {**os.environ, **world}
    process = subprocess.Popen(
        [sys.executable, "-m", "rokctl", *words], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 30
    while not [*(tmp_path / "repository" / "pending").glob("*")]:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    yield process
    process.kill()
    process.wait()
    process.stderr.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_push_that_is_stopped_releases_everything_and_can_be_run_again(rokctl, slow_push, tmp_path, number, code):
    slow_push.send_signal(number)
    assert slow_push.wait(20) == code
    assert b"Traceback" not in slow_push.stderr.read()
    assert rokctl("version", "list").out == "", "no version appeared"
    assert not [*(tmp_path / "repository" / "pending").glob("*")], "its session is ended"
    assert rokctl("repo", "check", "--read-data").code == 0

    assert rokctl("snapshot", "push", "p/v@one", "--no-wait").code == 0
    assert rokctl("restore", "p/v", "--to-file", tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()


def test_a_push_that_was_killed_leaves_no_lock_and_no_version(rokctl, slow_push):
    slow_push.kill()
    slow_push.wait(20)
    assert rokctl("version", "list").out == ""
    assert rokctl("repo", "check", "--read-data").code == 0
    assert rokctl("snapshot", "push", "p/v@one", "--no-wait").code == 0
