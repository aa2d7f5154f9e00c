"""What changed between two snapshots: told by the pool, or by comparing."""

import os
import random
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.device.base import Change, ChangeKind, Pool
from engine.device.directory import create_directory_pool
from engine.device.sim import SimPool
from engine.device.simio import SimSource
from engine.errors import NotFound
from engine.extent import Extent, between
from engine.ops.diff import DiffReport, snapshot_changes, snapshot_diff
from engine.units import KIB, MIB

SIZE = 4 * MIB
CHANGED, HOLE = ChangeKind.CHANGED, ChangeKind.HOLE


class StoppedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing here sleeps, least of all {seconds} seconds")


class SilentPool(SimPool):
    """A pool that cannot tell what changed, as a directory pool on ext4."""

    def delta(self, volume: str, old: str, new: str | None) -> None:
        return None


@pytest.fixture(params=["told", "compared", "directory"])
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    if request.param == "directory":
        yield create_directory_pool(tmp_path / "tank", "tank", StoppedClock(), os.urandom).item
    else:
        yield {"told": SimPool, "compared": SilentPool}[request.param]("tank", 64 * MIB, StoppedClock())


def test_a_diff_counts_what_was_written_and_what_was_discarded(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    with pool.open_target("vol") as target:
        target.write(0, random.Random(1).randbytes(2 * MIB))
    pool.create_snapshots({"vol": "s1"})
    with pool.open_target("vol") as target:
        target.write(0, b"y" * 64 * KIB)
        target.write(3 * MIB, b"y" * 128 * KIB)
        target.discard(between(MIB, 2 * MIB))
    pool.create_snapshots({"vol": "s2"})
    expected = [
        Change(Extent(0, 64 * KIB), CHANGED),
        Change(Extent(MIB, MIB), HOLE),
        Change(Extent(3 * MIB, 128 * KIB), CHANGED),
    ]

    for new in ("s2", None):
        with closing(snapshot_changes(pool, "vol", "s1", new)) as changes:
            assert list(changes) == expected
        was_read = pool.status().deltas_by.startswith("none") or isinstance(pool, SilentPool)
        assert snapshot_diff(pool, "vol", "s1", new) == DiffReport(
            "vol", "s1", new, changed=192 * KIB, changed_extents=2, holes=MIB, hole_extents=1, was_read=was_read
        )


def test_where_both_are_read_the_disk_is_told_of_each_what_will_be_read_next(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Extent] = []
    monkeypatch.setattr(SimSource, "expect", lambda _, extent: told.append(extent))
    pool = SilentPool("tank", 64 * MIB, StoppedClock())
    pool.create_volume("vol", SIZE)
    with pool.open_target("vol") as target:
        target.write(0, random.Random(1).randbytes(2 * MIB + 64 * KIB))
    pool.create_snapshots({"vol": "s1"})
    pool.create_snapshots({"vol": "s2"})

    with closing(snapshot_changes(pool, "vol", "s1", "s2")) as changes:
        assert list(changes) == []
    second, third = between(MIB, 2 * MIB), between(2 * MIB, 2 * MIB + 64 * KIB)
    assert told == [second, second, third, third]


def test_what_grew_counts_whole(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    pool.create_snapshots({"vol": "s1"})
    pool.resize_volume("vol", 2 * SIZE)
    with pool.open_target("vol") as target:
        target.write(SIZE + MIB, b"y" * 64 * KIB)
    with closing(snapshot_changes(pool, "vol", "s1", None)) as changes:
        assert list(changes) == [
            Change(between(SIZE, SIZE + MIB), HOLE),
            Change(Extent(SIZE + MIB, 64 * KIB), CHANGED),
            Change(between(SIZE + MIB + 64 * KIB, 2 * SIZE), HOLE),
        ]


def test_a_comparison_finds_one_byte_and_says_where_to_four_kib() -> None:
    pool = SilentPool("tank", 64 * MIB, StoppedClock())
    pool.create_volume("vol", SIZE)
    pool.create_snapshots({"vol": "s1"})
    with pool.open_target("vol") as target:
        target.write(MIB - 1, b"y")
    with closing(snapshot_changes(pool, "vol", "s1", None)) as changes:
        assert list(changes) == [Change(between(MIB - 4 * KIB, MIB), CHANGED)]


def test_a_snapshot_that_does_not_exist_is_not_found(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    with pytest.raises(NotFound, match="s1"):
        snapshot_diff(pool, "vol", "s1", None)
