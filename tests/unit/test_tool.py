"""Running programs: what comes back, and what a failure says."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from engine.device import tool
from engine.errors import Failed
from rokctl.signals import Terminated, interruptions
from tests.interrupting import interrupted_everywhere


def test_a_program_gives_what_it_wrote() -> None:
    assert tool.run("sh", "-c", "echo out; echo err >&2") == "out\n"
    output = tool.attempt("sh", "-c", "echo out; echo err >&2; exit 5")
    assert (output.status, output.stdout, output.stderr) == (5, "out\n", "err\n")


def test_a_failure_says_what_the_program_said_in_one_sentence() -> None:
    with pytest.raises(Failed) as caught:
        tool.run("sh", "-c", "echo '  WARNING: no backup.' >&2; echo '  No such group.' >&2; exit 5")
    assert caught.value.message.endswith("failed with status 5: No such group")
    assert "\n" not in caught.value.message


def test_a_warning_is_told_when_there_is_nothing_else() -> None:
    assert tool.complaint(("lvs",), 5, "WARNING: odd.\n") == "`lvs` failed with status 5: WARNING: odd"
    assert tool.complaint(("lvs",), -9, "") == "`lvs` was killed by signal 9"


def test_a_program_that_is_not_installed_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(tool, "_SYSTEM_FOLDERS", "/nowhere")
    with pytest.raises(Failed, match="lvs is not installed") as caught:
        tool.run("lvs")
    assert "apt-get install lvm2" in caught.value.hint
    assert not tool.is_installed("lvs")


def test_tools_speak_english_and_find_what_cron_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert tool.run("sh", "-c", 'echo "$LC_ALL $PATH"') == "C /usr/bin:/bin:/usr/sbin:/sbin\n"


def test_spooled_output_is_at_its_start() -> None:
    with tool.spool("sh", "-c", "echo one; echo two") as output:
        assert output.read() == b"one\ntwo\n"


@pytest.mark.parametrize(("script", "ended"), [("echo x; exit 3", "status 3"), ("echo x; kill -9 $$", "signal 9")])
def test_the_output_of_a_tool_that_failed_is_not_given(script: str, ended: str) -> None:
    with pytest.raises(Failed, match=ended):
        tool.spool("sh", "-c", script)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_an_interruption_lets_a_change_finish_and_is_raised_then(number: int, kind: type[BaseException]) -> None:
    done_read, done_write = os.pipe()
    # To the process, as the terminal does: the main thread gets it, in the middle of its wait.
    threading.Timer(0.3, os.kill, [os.getpid(), number]).start()
    with pytest.raises(kind), interruptions(lambda: None):
        tool.attempt("sh", "-c", f"sleep 0.8; echo finished > /proc/{os.getpid()}/fd/{done_write}")
    os.close(done_write)
    with os.fdopen(done_read) as done:
        assert done.read() == "finished\n"


@pytest.mark.slow
def test_no_moment_of_an_interruption_lets_a_program_outlive_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **settings: Any) -> None:
            super().__init__(*words, **settings)
            started.append(self)

    def scenario(interrupted: Callable[[], AbstractContextManager[None]]) -> None:
        started.clear()
        with interrupted():
            tool.attempt("sleep", "0.01")
        assert all(process.returncode is not None for process in started)

    started: list[Noted] = []
    monkeypatch.setattr(subprocess, "Popen", Noted)
    assert interrupted_everywhere(scenario) > 10
    assert started
