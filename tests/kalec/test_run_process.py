"""`kalec run` as a process: however it ends, none of the processes that it started is left."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stepwise import notebook

from kalec.running.folder import RunsFolder

pytestmark = pytest.mark.slow

# The step starts a child that would outlive it, writes both ids down, and waits for ever.
STUBBORN = """
import os, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"])
with open("pids.new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename("pids.new", "pids")
"""
WAIT = "time.sleep(1000)"
DEAF = "signal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(1000)"


def start(folder, last_line):
    """`kalec run` over a step that does not end, once it runs: the process, and the ids of the step and its child."""
    (folder / "n.ipynb").write_text(notebook(("step:wait", STUBBORN + last_line)))
    process = subprocess.Popen(
        [sys.executable, "-m", "kalec", "run", "n.ipynb"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    wait_until((folder / "pids").exists)
    return process, [int(word) for word in (folder / "pids").read_text().split()]


def wait_until(is_so):
    """Wait as long as a busy machine needs; the test's own timeout ends what never comes."""
    while not is_so():
        time.sleep(0.02)


def is_gone(pid):
    """Whether a process has ended; a zombie, which nobody has waited for yet, has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def begun():
    """Ids of processes, which are ended with the test when the code under test did not."""
    pids = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("number", "last_line"), [(signal.SIGINT, WAIT), (signal.SIGTERM, DEAF)], ids=["heard", "ignored"]
)
def test_an_interrupted_run_leaves_no_process(tmp_path, begun, number, last_line):
    process, pids = start(tmp_path, last_line)
    begun += pids
    process.send_signal(number)
    output, _ = process.communicate()
    wait_until(lambda: all(map(is_gone, pids)))
    assert process.returncode == 130
    assert b"Traceback" not in output
    record = RunsFolder(tmp_path / ".kalec").record(1)
    assert record["state"] == "interrupted"
    assert record["steps"]["wait"]["state"] == "stopped"


def test_a_run_that_is_killed_leaves_no_process(tmp_path, begun):
    process, pids = start(tmp_path, WAIT)
    begun += pids
    process.kill()
    process.communicate()
    wait_until(lambda: all(map(is_gone, pids)))
    runs = RunsFolder(tmp_path / ".kalec")
    assert runs.record(1)["state"] == "lost"
    runs.remove([1])
    assert runs.numbers() == []


def test_what_a_step_leaves_running_is_ended_with_it(tmp_path, begun):
    process, pids = start(tmp_path, "")
    begun += pids
    assert process.communicate()[0] is not None
    assert process.returncode == 0
    wait_until(lambda: all(map(is_gone, pids)))
