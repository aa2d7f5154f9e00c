"""The command line in this process: its exit code, and what it wrote."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from passphrase import PASSPHRASE

from rokctl.cli import run


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of rokctl."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict]:
        """The lines of --json."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def failure(self) -> dict:
        """The last line on stderr of a failed run with --json."""
        return json.loads(self.err.splitlines()[-1])


@pytest.fixture
def world(tmp_path: Path) -> dict[str, str]:
    """An environment of its own, with a repository (not made yet) and a passphrase."""
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n", encoding="utf-8")
    return {
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "ROKCTL_STATE_DIR": str(tmp_path / "state"),
        "ROKCTL_REPOSITORY": str(tmp_path / "repository"),
        "ROKCTL_PASSWORD_FILE": str(tmp_path / "passphrase"),
    }


@pytest.fixture
def rokctl(world: dict[str, str], capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Ran]:
    """Run a command line; no run may ever show a traceback."""

    def call(*words: object) -> Ran:
        capfdbinary.readouterr()
        code = run([str(word) for word in words], world)
        captured = capfdbinary.readouterr()
        ran = Ran(code, captured.out.decode("utf-8", "surrogateescape"), captured.err.decode())
        assert "Traceback" not in ran.err + ran.out
        assert "a fault in rokctl" not in ran.err, ran.err
        return ran

    return call
