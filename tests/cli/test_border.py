"""The border of the program: exit codes, the last words on stderr, signals, faults, and what is imported when."""

import io
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.errors import Busy, Damaged, Failed, RokError, Unreachable
from engine.store.base import BlobExists, NoSuchBlob
from rokctl import VERSION, cli, restore

ROOT = Path(__file__).parents[2]


def program(*words: str, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "rokctl", *words], cwd=ROOT, capture_output=True, text=True, **settings
    )


@pytest.mark.parametrize(
    ("error", "code"), [(Failed, 1), (Busy, 11), (Unreachable, 12), (Damaged, 13), (NoSuchBlob, 10), (BlobExists, 1)]
)
def test_an_error_ends_with_the_code_of_its_nearest_class(error, code):
    assert cli.exit_code(error("x")) == code


def failing(monkeypatch, error):
    """Let `rokctl pool list` raise."""

    def fail(_session):
        raise error

    monkeypatch.setattr("rokctl.wiring.Session.pools", property(fail))


def test_an_error_is_one_sentence_and_a_hint(rokctl, monkeypatch):
    failing(monkeypatch, Unreachable("store s3://b did not answer", hint="try again"))
    ran = rokctl("pool", "list")
    assert (ran.code, ran.out, ran.err) == (12, "", "rokctl: store s3://b did not answer\nhint: try again\n")


def test_with_json_the_last_line_on_stderr_says_it_for_scripts(rokctl, monkeypatch):
    failing(monkeypatch, Unreachable("store s3://b did not answer", hint="try again"))
    ran = rokctl("--json", "pool", "list")
    assert ran.failure == {"error": "store s3://b did not answer", "code": 12, "remedy": "retry", "hint": "try again"}


def test_an_error_without_a_hint_is_one_line(rokctl, monkeypatch):
    failing(monkeypatch, RokError("it failed"))
    ran = rokctl("pool", "list")
    assert (ran.code, ran.err) == (1, "rokctl: it failed\n")


class Finalized:
    """Python drops whatever is raised while this is let go."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_meets_the_garbage_collector_still_interrupts_and_prints_no_trace(
    rokctl, monkeypatch, number, code
):
    def collect_and_work(_session):
        Finalized(number)
        time.sleep(10)
        raise RokError("nothing interrupted it")

    monkeypatch.setattr("rokctl.wiring.Session.pools", property(collect_and_work))
    ran = rokctl("pool", "list")
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err


def test_ctrl_c_ends_with_130(rokctl, monkeypatch):
    failing(monkeypatch, KeyboardInterrupt())
    ran = rokctl("pool", "list")
    assert (ran.code, ran.err) == (130, "rokctl: interrupted\n")


def test_sigterm_unwinds_and_ends_with_143(rokctl, monkeypatch):
    released = []

    def wait(_session):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(20)
        finally:
            released.append("the lock")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("rokctl.wiring.Session.pools", property(wait))
    ran = rokctl("pool", "list", "--json")
    assert (ran.code, ran.failure["code"], released) == (143, 143, ["the lock"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_sigterm_does_not_break_off_the_release(rokctl, monkeypatch):
    released = []

    def wait(_session):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(20)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            released.append("the lock")

    monkeypatch.setattr("rokctl.wiring.Session.pools", property(wait))
    assert rokctl("pool", "list").code == 143
    assert released == ["the lock"]


def test_a_second_ctrl_c_breaks_off_a_release_that_takes_too_long(rokctl, monkeypatch):
    during_release = []

    def wait(_session):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(20)
        finally:
            during_release.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("rokctl.wiring.Session.pools", property(wait))
    assert rokctl("pool", "list").code == 130
    assert during_release == [signal.SIG_DFL]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_fault_in_the_program_is_one_sentence_and_its_trace_a_file(world, monkeypatch, capfd, tmp_path):
    failing(monkeypatch, ZeroDivisionError("division by zero"))
    assert cli.run(["pool", "list"], world) == 1
    _, err = capfd.readouterr()
    [trace] = (tmp_path / "state" / "faults").iterdir()
    assert err == (
        f"rokctl: a fault in rokctl: ZeroDivisionError: division by zero\nhint: report it, with the trace in {trace}\n"
    )
    assert "Traceback" in trace.read_text(encoding="utf-8")


def test_a_fault_shows_its_trace_when_it_is_asked_for(world, monkeypatch, capfd):
    failing(monkeypatch, ZeroDivisionError("division by zero"))
    assert cli.run(["pool", "list"], {**world, "ROKCTL_DEBUG": "1"}) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_fault_is_told_even_where_no_trace_can_be_kept(world, monkeypatch, capfd, tmp_path):
    failing(monkeypatch, ZeroDivisionError("division by zero"))
    (tmp_path / "file").touch()
    assert cli.run(["pool", "list"], {**world, "ROKCTL_STATE_DIR": str(tmp_path / "file")}) == 1
    assert "ROKCTL_DEBUG=1" in capfd.readouterr().err


def test_a_reader_that_leaves_early_is_no_reason_to_complain():
    script = "import sys; from rokctl.cli import run; sys.exit(40 + run(['--help']))"
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (41, "")


@pytest.mark.parametrize(
    "words",
    [
        ["frob"],
        ["pool", "frob"],
        ["pool", "list", "--frob"],
        ["pool", "create"],
        ["volume", "create", "a/b"],
        ["--repo"],
    ],
    ids=" ".join,
)
def test_a_wrong_use_ends_with_2_and_names_the_help(rokctl, words):
    ran = rokctl(*words)
    assert ran.code == 2
    assert ran.err.startswith("rokctl: ")
    assert "--help`" in ran.err
    assert rokctl("--json", *words).failure["code"] == 2


@pytest.mark.parametrize("words", [[], ["pool"], ["snapshot"], ["kalec"]], ids=["rokctl", "pool", "snapshot", "kalec"])
def test_a_noun_alone_shows_what_it_offers_and_ends_with_2(rokctl, words):
    ran = rokctl(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: rokctl")


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--version"], ["--version", "--json"], ["--version", "pool"]], ids=" ".join)
def test_the_version_is_printed(words):
    done = program(*words)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rokctl {VERSION}\n", "")


@pytest.mark.slow
def test_completion_offers_nouns_and_verbs():
    environment = {**os.environ, "_ROKCTL_COMPLETE": "complete_bash", "COMP_WORDS": "rokctl vol", "COMP_CWORD": "1"}
    assert program(env=environment).stdout.split() == ["volume"]
    environment |= {"COMP_WORDS": "rokctl volume cr", "COMP_CWORD": "2"}
    assert program(env=environment).stdout.split() == ["create"]


@pytest.fixture
def pushed(rokctl, tmp_path):
    """A version of `p/v`, with 1 MiB."""
    (tmp_path / "file").write_bytes(bytes(range(256)) * 4096)
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")
    rokctl("volume", "import", "p/v", tmp_path / "file")
    rokctl("repo", "init", "--no-encryption")
    rokctl("snapshot", "create", "p/v@one")
    rokctl("snapshot", "push", "p/v@one")


def onto(place, world, *words, program="rokctl", unbuffered="", room=resource.RLIM_INFINITY):
    """Run a command whose output goes to a file, of up to `room` bytes as any other that it writes."""
    with place.open("wb") as output:
        return subprocess.run(
            [sys.executable, "-m", program, *map(str, words)],
            cwd=ROOT,
            # Python would leave bytecode that is cut short, for whoever comes next.
            env={**os.environ, **world, "PYTHONUNBUFFERED": unbuffered, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
        )


FULL = Path("/dev/full")


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_where_the_output_has_no_room_that_is_said_and_no_fault_of_the_program(world, unbuffered):
    for words in (
        ["--version"],
        ["--help"],
        ["kalec", "graph", "config/example.ipynb"],
        ["volume", "list"],
        ["volume", "list", "--json"],
        ["version", "show", "p/v"],
        ["repo", "check"],
        ["restore", "p/v", "--to-file", "-"],
    ):
        ended = onto(FULL, world, *words, unbuffered=unbuffered)
        assert ended.returncode == 15, (words, ended.stderr)
        said, hint = ended.stderr.splitlines()[-2:] if "--json" not in words else (ended.stderr, "")
        assert "cannot write the output: No space left on device" in said
        assert "Traceback" not in ended.stderr
        assert not hint or hint.startswith("hint: ")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--version"], ["--help"], ["graph", "config/example.ipynb"]])
def test_where_the_output_of_kalec_has_no_room_the_code_says_it_too(words, unbuffered):
    ended = onto(FULL, {}, *words, program="kalec", unbuffered=unbuffered)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (15, 2)
    assert "cannot write the output: No space left on device" in ended.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("program", "words", "room"),
    [("rokctl", ["restore", "p/v", "--to-file", "-"], 600_000), ("kalec", ["graph", "config/example.ipynb"], 100)],
)
def test_an_output_that_takes_only_a_part_is_an_error(world, tmp_path, program, words, room, unbuffered):
    ended = onto(tmp_path / "output", world, *words, program=program, unbuffered=unbuffered, room=room)
    assert (tmp_path / "output").stat().st_size == room
    assert ended.returncode == 15
    assert "cannot write the output: File too large" in ended.stderr
    assert "Traceback" not in ended.stderr


class Slow(io.RawIOBase):
    """Takes little at a time, and at last nothing."""

    def __init__(self, until):
        self.taken, self.until = bytearray(), until

    def writable(self):
        return True

    def write(self, body):
        if len(self.taken) >= self.until:
            return None
        self.taken += bytes(body)[:1000]
        return min(1000, len(body))


def test_a_restore_goes_on_where_the_output_takes_little_at_a_time_and_fails_where_it_takes_no_more(monkeypatch):
    body = bytes(range(256)) * 99
    patient, stuck = Slow(len(body)), Slow(3000)
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=io.BufferedWriter(patient)))
    restore._pour(memoryview(body))
    assert patient.taken == body
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=io.BufferedWriter(stuck)))
    with pytest.raises(Failed, match="no room now"):
        restore._pour(memoryview(body))


@pytest.mark.slow
def test_a_file_is_imported_where_standard_input_is_closed_and_a_pipe_is_missed(rokctl, world, tmp_path):
    (tmp_path / "file").write_bytes(bytes(4096))
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")

    def imported(name, file):
        words = [sys.executable, "-m", "rokctl", "volume", "import", name, str(file)]
        environment = {**os.environ, **world}
        return subprocess.run(
            words,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: os.close(0),
        )

    assert imported("p/a", tmp_path / "file").returncode == 0
    missed = imported("p/b", "-")
    assert (missed.returncode, "standard input is closed" in missed.stderr) == (2, True)
