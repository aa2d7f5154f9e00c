"""The kinds of pool that the contract suite runs over.

ROKCTL_TEST_POOL_KINDS names them, `sim,directory` unless set:
- `sim`: the pool in memory;
- `directory`: sparse files on the filesystem of the test's temporary directory;
- `reflink`: sparse files on the filesystem of ROKCTL_TEST_REFLINK_DIR, which must be XFS or btrfs;
- `lvm`: a real thin pool, from `tests/kernel/lvm_fixture.py`, as root where there is device-mapper.
"""

import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.device.base import Pool
from engine.device.directory import DirectoryPool, create_directory_pool
from engine.device.sim import SimPool
from engine.units import MIB

KINDS = os.environ.get("ROKCTL_TEST_POOL_KINDS", "sim,directory").split(",")
MODEST = 2048 * MIB  # a pool up to this size may be filled by a test


class TickingClock:
    """A clock on which every look costs a second, and sleeping costs nothing else."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        self.seconds += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def open_kind(kind: str, tmp_path: Path) -> AbstractContextManager[Pool]:
    """A new empty pool, for the time of a test."""
    return {"sim": _sim, "directory": _directory, "reflink": _reflink, "lvm": _lvm}[kind](tmp_path)


@contextmanager
def open_small(kind: str, tmp_path: Path) -> Iterator[Pool]:
    """A pool that a test can fill in no time; skips where there can be none."""
    if kind == "sim":
        yield SimPool("small", 8 * MIB, TickingClock())
    elif kind == "directory":
        with _tmpfs(tmp_path / "small", 16 * MIB) as mounted:
            yield create_directory_pool(mounted / "pool", "small", TickingClock(), os.urandom).item
    else:
        with open_kind(kind, tmp_path) as pool:
            if pool.status().data_size > MODEST:
                pytest.skip("the pool is too large to be filled")
            yield pool


@contextmanager
def _sim(_tmp_path: Path) -> Iterator[Pool]:
    yield SimPool("tank", 256 * MIB, TickingClock())


@contextmanager
def _directory(tmp_path: Path) -> Iterator[Pool]:
    yield create_directory_pool(tmp_path / "tank", "tank", TickingClock(), os.urandom).item


@contextmanager
def _reflink(_tmp_path: Path) -> Iterator[Pool]:
    with tempfile.TemporaryDirectory(dir=os.environ["ROKCTL_TEST_REFLINK_DIR"]) as folder:
        pool = create_directory_pool(Path(folder) / "tank", "tank", TickingClock(), os.urandom).item
        assert isinstance(pool, DirectoryPool)
        assert pool.status().snapshots_by == "reflink", f"{folder} cannot reflink"
        yield pool


@contextmanager
def _lvm(tmp_path: Path) -> Iterator[Pool]:
    path = Path(__file__).parents[1] / "kernel" / "lvm_fixture.py"
    spec = importlib.util.spec_from_file_location("lvm_fixture", path)
    assert spec is not None
    assert spec.loader is not None
    fixture = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixture)
    with fixture.lvm_pool(tmp_path) as pool:
        yield pool


@contextmanager
def _tmpfs(place: Path, size: int) -> Iterator[Path]:
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting a small filesystem takes root")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
