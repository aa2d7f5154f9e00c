"""The folder `.kalec`, where runs and the results of steps are kept.

    .kalec/runs/7/run.json       what was asked, and what became of each step
    .kalec/runs/7/logs/STEP.log  what the step wrote
    .kalec/results/KEY-7/        what it left: a manifest, files of values, and result.json
    .kalec/volumes/NAME/         what stands for a volume of the pipeline
    .kalec/lock                  held shared by runs, and exclusively by what removes results

A result is complete when it stands in `results`, for it comes there by a rename. Losing the folder loses time only.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kalec.errors import Busy, Damaged, Failed, NotFound, OutOfSpace

NAME: Final = ".kalec"
RECORD: Final = "run.json"


@dataclass(frozen=True, slots=True)
class Result:
    """What a step left, and under which key."""

    name: str  # KEY-RUN
    folder: Path

    @property
    def run(self) -> int:
        """The number of the run that made it."""
        return int(self.name.rpartition("-")[2])

    def read(self) -> dict[str, Any]:
        """Its `result.json`: metrics, and the files that the step's code names. Raises Damaged."""
        return _read_json(self.folder / "result.json")


class RunsFolder:
    """The runs of the notebooks in one folder."""

    def __init__(self, path: Path) -> None:
        """`path` is that of `.kalec`; it is made by `start`."""
        self.path = path

    @contextlib.contextmanager
    def start(self) -> Iterator[Path]:
        """Begin a run, and hold it: yields its folder, whose name is its number. Raises Failed, OutOfSpace, Busy."""
        with storage_errors(self.path):
            for part in ("runs", "results", "volumes"):
                (self.path / part).mkdir(parents=True, exist_ok=True)
            (self.path / ".gitignore").write_text("*\n")
        with _locked(self.path / "lock", fcntl.LOCK_SH, "someone removes runs from it"), storage_errors(self.path):
            number = max(self.numbers(), default=0) + 1
            while True:
                with contextlib.suppress(FileExistsError):
                    (self.path / "runs" / str(number)).mkdir()
                    break
                number += 1
            folder = self.path / "runs" / str(number)
            (folder / "logs").mkdir()
            with _locked(folder / "lock", fcntl.LOCK_EX, "it has just been made"):
                yield folder

    def numbers(self) -> list[int]:
        """The numbers of all runs, in order."""
        runs = self.path / "runs"
        return sorted(int(run.name) for run in runs.iterdir() if run.name.isdigit()) if runs.is_dir() else []

    def record(self, number: int) -> dict[str, Any]:
        """What is known about a run. Raises NotFound, Damaged."""
        folder = self.run_folder(number)
        record = _read_json(folder / RECORD)
        if record.get("state") == "running" and not _is_held(folder / "lock"):
            record["state"] = "lost"
        return record

    def run_folder(self, number: int) -> Path:
        """The folder of a run. Raises NotFound."""
        folder = self.path / "runs" / str(number)
        if not folder.is_dir():
            hint = "`kalec runs list` shows which there are"
            if not self.path.is_dir():
                hint = "runs are kept beside the notebook: say --notebook FILE"
            raise NotFound(f"there is no run {number} in {self.path}", hint=hint)
        return folder

    def find(self, key: str) -> Iterator[Result]:
        """The results under a key, newest first."""
        found = [Result(path.name, path) for path in (self.path / "results").glob(f"{key}-*")]
        return iter(sorted(found, key=lambda result: result.run, reverse=True))

    def result(self, name: str) -> Result | None:
        """The result of that name, if it is still there."""
        folder = self.path / "results" / name
        return Result(name, folder) if name and folder.is_dir() else None

    def keep(self, folder: Path, key: str, run: int) -> Result:
        """Make a finished folder the result under a key."""
        name = f"{key}-{run}"
        with storage_errors(self.path):
            folder.rename(self.path / "results" / name)
        return Result(name, self.path / "results" / name)

    def remove(self, numbers: list[int]) -> tuple[int, int]:
        """Remove runs, and the results that no other run has: how many of them, and their bytes. Raises NotFound, Busy."""
        folders = [self.run_folder(number) for number in numbers]
        with (
            _locked(self.path / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB, "a run is going on in it"),
            storage_errors(self.path),
        ):
            for folder in folders:
                shutil.rmtree(folder)
            kept = set().union(*(self._results_of(number) for number in self.numbers()))
            unused = [path for path in (self.path / "results").iterdir() if path.name not in kept]
            size = sum(size_of(path) for path in unused)
            for path in unused:
                shutil.rmtree(path)
            return len(unused), size

    def _results_of(self, number: int) -> set[str]:
        with contextlib.suppress(Damaged):  # a run that was killed before it wrote anything has no results either
            return {step["result"] for step in self.record(number)["steps"].values()}
        return set()


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Replace the record of a run, whole or not at all."""
    new = folder / f"{RECORD}.new"
    with storage_errors(folder):
        new.write_text(json.dumps(record, indent=1) + "\n", encoding="ascii")
        new.replace(folder / RECORD)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Tell what the filesystem refuses as an error of ours."""
    try:
        yield
    except OSError as error:
        kind: Callable[..., Failed | OutOfSpace] = OutOfSpace if error.errno in (28, 122) else Failed
        raise kind(
            f"{error.filename or path} cannot be written: {error.strerror}",
            hint="runs are kept beside the notebook; --state names another folder",
        ) from error


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def _locked(path: Path, kind: int, reason: str) -> Iterator[None]:
    with storage_errors(path):
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(held, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{path.parent} is in use: {reason}", hint="try again when it has ended") from None
        yield
    finally:
        os.close(held)


def _is_held(path: Path) -> bool:
    try:
        with _locked(path, fcntl.LOCK_SH, ""):
            return False
    except Busy:
        return True


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise Damaged(f"{path} is not a JSON object")
    return content
