"""The programs that are compared: what each is told for each phase. All encrypt, and all else is as they come."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.measure import PASSPHRASE, clean_environment, rokctl


@dataclass(frozen=True, slots=True)
class Source:
    """What is pushed: a snapshot of a volume, its file, and the SHA-256 of that."""

    snapshot: str
    volume: str
    path: Path
    digest: str


class Program(ABC):
    """One program with an empty repository of its own in a folder. A method gives the commands of a phase; they are run
    with `environment`, one after the other.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.repository = folder / "repository"
        self.environment: dict[str, str] = {**clean_environment(), "HOME": str(folder)}
        self._versions: dict[Source, str] = {}

    @abstractmethod
    def create(self) -> list[list[str]]:
        """Make the repository."""

    @abstractmethod
    def push(self, source: Source) -> list[list[str]]:
        """Make a version of a source."""

    def learn(self, source: Source, output: str) -> None:
        """What a push of it printed, from which the version's id comes."""
        self._versions[source] = json.loads(output.splitlines()[-1])[self.id_field]

    id_field: str = ""

    @abstractmethod
    def restore(self, source: Source, folder: Path) -> list[list[str]]:
        """Write the version of a source to a new file below an empty folder, and to the disk."""

    @abstractmethod
    def verify(self) -> list[list[str]]:
        """Read and check all of the repository."""

    @abstractmethod
    def collect(self, source: Source) -> list[list[str]]:
        """Forget the version of a source, and give back its space."""


class Rokctl(Program):
    """This tree's. Its pool is made before, and only snapshots are read from it. It comes in by a key file, as nodes do; the
    others know passphrases alone.
    """

    id_field = "version"

    def __init__(self, folder: Path, state: Mapping[str, str], level: int | None = None) -> None:
        super().__init__(folder)
        self.name = "rokctl" if level is None else f"rokctl, zstd {level}"
        self._level = [] if level is None else ["--compression", str(level)]
        self.environment |= {**state, "ROKCTL_REPOSITORY": str(self.repository)}

    def create(self) -> list[list[str]]:
        return [rokctl("repo", "init")]

    def push(self, source: Source) -> list[list[str]]:
        return [rokctl("snapshot", "push", *self._level, source.snapshot)]

    def restore(self, source: Source, folder: Path) -> list[list[str]]:
        return [rokctl("restore", self._version(source), "--to-file", str(folder / "restored"))]

    def verify(self) -> list[list[str]]:
        return [rokctl("repo", "check", "--read-data")]

    def collect(self, source: Source) -> list[list[str]]:
        return [rokctl("version", "forget", self._version(source)), rokctl("repo", "gc", "--grace", "0")]

    def _version(self, source: Source) -> str:
        return f"{source.volume}@{self._versions[source]}"


class Restic(Program):
    """Of Debian."""

    name = "restic"
    id_field = "snapshot_id"

    def __init__(self, folder: Path, executable: str) -> None:
        super().__init__(folder)
        self._executable = executable
        self.environment |= {"RESTIC_PASSWORD": PASSPHRASE, "RESTIC_REPOSITORY": str(self.repository)}
        self.environment |= {"RESTIC_CACHE_DIR": str(folder / "cache")}

    def create(self) -> list[list[str]]:
        return [self._words("init")]

    def push(self, source: Source) -> list[list[str]]:
        return [self._words("backup", "--json", str(source.path))]

    def restore(self, source: Source, folder: Path) -> list[list[str]]:
        return [self._words("restore", self._versions[source], "--target", str(folder)), to_disk(source, folder)]

    def verify(self) -> list[list[str]]:
        return [self._words("check", "--read-data")]

    def collect(self, source: Source) -> list[list[str]]:
        return [self._words("forget", "--prune", self._versions[source])]

    def _words(self, *words: str) -> list[str]:
        return [self._executable, "--quiet", *words] if "--json" not in words else [self._executable, *words]


class Borg(Program):
    """Of the package index. Its key is in the repository, its chunks are as it cuts them unasked, its compression is lz4."""

    name = "borg"

    def __init__(self, folder: Path, executable: str) -> None:
        super().__init__(folder)
        self._executable = executable
        self.environment |= {"BORG_PASSPHRASE": PASSPHRASE, "BORG_REPO": str(self.repository)}
        self.environment |= {"BORG_BASE_DIR": str(folder / "base")}

    def create(self) -> list[list[str]]:
        return [[self._executable, "init", "--encryption", "repokey-blake2"]]

    def push(self, source: Source) -> list[list[str]]:
        return [[self._executable, "create", f"::{archive(source)}", str(source.path)]]

    def learn(self, source: Source, output: str) -> None:
        """Its archives are named by us."""

    def restore(self, source: Source, folder: Path) -> list[list[str]]:
        extract = ["env", "-C", str(folder), self._executable, "extract", "--sparse", f"::{archive(source)}"]
        return [extract, to_disk(source, folder)]

    def verify(self) -> list[list[str]]:
        return [[self._executable, "check", "--verify-data"]]

    def collect(self, source: Source) -> list[list[str]]:
        return [[self._executable, "delete", f"::{archive(source)}"], [self._executable, "compact"]]


def to_disk(source: Source, folder: Path) -> list[str]:
    """Bring what a peer restored below a folder to the disk. A restore by rokctl ends there, and theirs do not."""
    return ["sync", f"{folder}{source.path}"]


def archive(source: Source) -> str:
    """The name of its archive."""
    return source.snapshot.replace("/", "-")


def stored(program: Program) -> int:
    """How many bytes its repository has."""
    folders = os.walk(program.repository)
    return sum((Path(folder) / name).stat().st_size for folder, _, names in folders for name in names)
