"""A node of its own for tests: rokctl as a child process, with its own state directory, passphrase and environment."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from engine.clock import SystemClock
from engine.device.pools import Pools
from engine.ops.restore import RestoreOptions, restore_to_stream
from engine.progress import Silent
from engine.repo.keyblob import passphrase_secret
from engine.repo.repository import open_repository
from engine.store.url import open_store
from tests import readymade

ROOT = Path(__file__).parents[1]
PASSPHRASE = "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Ended:
    """A run of rokctl that is over. A process that died of a signal has minus its number as its code."""

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


class Node:
    """A machine with rokctl on it, in the folder `home`, that uses the repository at `url`."""

    def __init__(self, home: Path, url: str, environment: Mapping[str, str] | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.url = home, url
        self.state = home / "state"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ROKCTL_STATE_DIR": str(self.state),
            "ROKCTL_REPOSITORY": url,
            "ROKCTL_PASSWORD": PASSPHRASE,
            "PYTHONFAULTHANDLER": "1",
            **(environment or {}),
        }

    def start(self, *words: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start a command; `prefix` is a program that starts it in turn."""
        command = [*prefix, sys.executable, "-m", "rokctl", *map(str, words)]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: object, prefix: tuple[str, ...] = ()) -> Ended:
        """Run a command to its end, in a process that is had ready-made where no other program starts it."""
        if prefix:
            return self.end(self.start(*words, prefix=prefix))
        return Ended(*readymade.run([*map(str, words)], ROOT, self.environment, timeout_seconds=120))

    def end(self, process: subprocess.Popen[str]) -> Ended:
        """Wait for a command that was started. One that hangs says where each of its threads stands, and fails."""
        try:
            out, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            _, err = process.communicate()
            raise AssertionError(f"{process.args} hung: {err}") from None
        return Ended(process.returncode, out, err)

    def do(self, *words: object) -> list[dict]:
        """Run a command that must succeed; the records of its --json."""
        ended = self.run(*words, "--json")
        assert ended.code == 0, f"{words}: {ended.code}, {ended.err}"
        return ended.records

    def new_volume(self, size: int, name: str = "v") -> Path:
        """The file of a new volume `p/NAME` in the directory pool `p`."""
        self.do("pool", "create", "p", "--dir", self.home / "p")
        self.do("volume", "create", f"p/{name}", "--size", size)
        return self.path_of(name)

    def path_of(self, name: str) -> Path:
        """The file of a volume of the pool `p`."""
        return Path(self.pool.volume(name).path)

    @property
    def pool(self):
        """The pool `p`, in this process."""
        return Pools(self.state, SystemClock(), os.urandom).open("p")

    @contextmanager
    def store(self):
        """The store of the repository, in this process."""
        with closing(open_store(self.url, environment=self.environment, clock=SystemClock())) as store:
            yield store

    @contextmanager
    def repository(self):
        """The repository, in this process."""
        with self.store() as store:
            yield open_repository(store, lambda: passphrase_secret(PASSPHRASE), clock=SystemClock(), entropy=os.urandom)


def restored_digest(repository, manifest) -> str:
    """The hash of what a version of one volume restores to."""
    hasher = blake3()
    options = RestoreOptions(workers=2)
    restore_to_stream(repository, manifest, manifest.member(None), hasher.update, options=options, progress=Silent())
    return hasher.hexdigest()


def file_digest(path: Path) -> str:
    """The hash of a file."""
    return blake3().update_mmap(path).hexdigest()


def overwrite(path: Path, offset: int, body: bytes) -> None:
    """Change a part of a volume."""
    with path.open("r+b") as volume:
        volume.seek(offset)
        volume.write(body)


def new_seed() -> random.Random:
    """Randomness whose seed is printed, and which ROKCTL_TEST_SEED repeats, as far as the machine's own timing allows."""
    seed = int(os.environ.get("ROKCTL_TEST_SEED") or int.from_bytes(os.urandom(4)))
    say(f"ROKCTL_TEST_SEED={seed}")
    return random.Random(seed)


def say(text: str) -> None:
    """Write a line that pytest shows with -s, and of every test that fails."""
    sys.stdout.write(text + "\n")


def spread(rnd: random.Random, rounds: int, longest: float) -> list[float]:
    """Random moments from 0 to `longest`, one in each of `rounds` equal parts, in any order."""
    moments = [(number + rnd.random()) * longest / rounds for number in range(rounds)]
    rnd.shuffle(moments)
    return moments
