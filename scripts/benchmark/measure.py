"""Running a program and telling what it took; and the files that are made for that."""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ROOT: Final = Path(__file__).resolve().parents[2]
CORES: Final = os.cpu_count() or 1
MIB: Final = 1 << 20
PASSPHRASE: Final = "not a secret"  # of others


Figures = TypeVar("Figures", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took. Seconds; bytes by the kernel's account of its reads and writes; the peak of its memory in bytes."""

    wall: float
    cpu: float
    read: int
    written: int
    peak: int


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[str, Cost]:
    """What the program printed, and what it took. Its output goes through files in `folder`. Leaves when it fails."""
    with (
        tempfile.TemporaryFile("w+", dir=folder) as output,
        tempfile.TemporaryFile("w+", dir=folder) as talk,
    ):
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=talk, env=environment)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its accounts can still be read
        wall = time.perf_counter() - begun
        moved = dict(line.split(": ") for line in Path(f"/proc/{process.pid}/io").read_text().splitlines())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        talk.seek(0)
        if process.returncode != 0:
            leave(f"`{' '.join(command)}` ended with {process.returncode}: {talk.read().strip()}", code=1)
        cpu = usage.ru_utime + usage.ru_stime
        return output.read(), Cost(wall, cpu, int(moved["rchar"]), int(moved["wchar"]), usage.ru_maxrss * 1024)


def in_another_process(work: Callable[[], object], failure: str = "what is to be measured could not be made") -> None:
    """Run in a child, and leave when it fails. The kernel counts our own peak of memory to the programs that we start."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except SystemExit as error:
            os._exit(int(error.code or 0))
        except BaseException as error:  # whatever it is, the child must end here, and say so
            say(f"{type(error).__name__}: {error}")
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        leave(failure, code=1)


def median(costs: Sequence[Figures]) -> Figures:
    """The median of each figure."""
    return type(costs[0])(*(statistics.median(column) for column in zip(*map(astuple, costs), strict=True)))


def total(costs: Sequence[Cost]) -> Cost:
    """What programs took that ran one after the other."""
    wall, cpu, read, written, peak = zip(*map(astuple, costs), strict=True)
    return Cost(sum(wall), sum(cpu), sum(read), sum(written), max(peak))


def rokctl(*words: str) -> list[str]:
    """A command of this tree."""
    return [sys.executable, "-m", "rokctl", "--json", *words]


def rokctl_state(folder: Path) -> dict[str, str]:
    """The part of the environment that names the node's state and its key file, all in a folder."""
    (folder / "key").write_bytes(key_file())
    return {
        "PYTHONPATH": str(ROOT),
        "ROKCTL_STATE_DIR": str(folder / "state"),
        "ROKCTL_KEY_FILE": str(folder / "key"),
    }


def key_file() -> bytes:
    """What a node comes in by: what `rokctl repo key generate` makes, and the same each time."""
    from engine.repo.keyblob import generate_key_file

    return generate_key_file(Random(2026).randbytes)


def clean_environment() -> dict[str, str]:
    """Without others' settings, which would be measured too: without bytecode on disk, Python alone takes twice as long."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("ROKCTL_", "PYTHON"))}


def leave(reason: str, code: int = 2) -> NoReturn:
    """One sentence, and out."""
    say(f"scripts/bench: {reason}")
    sys.exit(code)


def say(text: str) -> None:
    """Talk goes beside the result."""
    print(text, file=sys.stderr, flush=True)


def exit_code(failures: Sequence[str], part: str = "") -> int:
    """Say which targets a part has missed, each in its sentence; 1 when there is one."""
    for failure in failures:
        say(f"{' '.join(filter(None, ('scripts/bench', part)))}: {failure}")
    return 1 if failures else 0


@contextmanager
def workspace(*, keep: bool = False) -> Iterator[Path]:
    """A temporary folder, gone afterwards however we leave."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="rokctl-bench-"))
    try:
        yield folder
    finally:
        if keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


def require_space(
    needed: int, place: Path | None = None, remedy: str = "set TMPDIR to a folder with more room"
) -> None:
    """Leaves when a folder, else that for temporary files, has not so many bytes free; the remedy says what then helps."""
    place = place or Path(tempfile.gettempdir())
    free = shutil.disk_usage(place).free
    if free < needed:
        leave(f"{place} has {free // MIB} MiB free and {needed // MIB} are needed: {remedy}")


def settle(path: Path) -> None:
    """Bring a file to the disk. Others' files may stay where they are: on a busy machine, syncing those takes minutes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def warm(path: Path) -> None:
    """Read a file's data once, so that it is in the page cache."""
    if path.is_file():
        buffer = bytearray(MIB)
        with path.open("rb", buffering=0) as file:
            for start, end in data_extents(file.fileno()):
                for position in range(start, end, MIB):
                    os.preadv(file.fileno(), [buffer], position)


def data_extents(file: int) -> Iterator[tuple[int, int]]:
    """Where the file may hold anything but zeros: start and end."""
    position, size = 0, os.fstat(file).st_size
    while position < size:
        try:
            start = os.lseek(file, position, os.SEEK_DATA)
        except OSError:  # ENXIO: a hole up to the end
            return
        position = os.lseek(file, start, os.SEEK_HOLE)
        yield start, position


def same_bytes(one: Path, other: Path) -> bool:
    """Do two files hold the same?"""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while piece := first.read(MIB):
            if piece != second.read(MIB):
                return False
    return True
