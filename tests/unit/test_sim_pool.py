"""What a test can do to the simulated pool, and how it counts its space."""

from datetime import UTC, datetime

import pytest

from engine.device.base import Filesystem, Outcome
from engine.device.sim import SimPool
from engine.device.simblocks import DATA_BLOCK
from engine.errors import Busy, Failed, OutOfSpace, Refused
from engine.extent import Extent
from engine.units import KIB, MIB

SIZE = 4 * MIB


class StoppedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing here sleeps, least of all {seconds} seconds")


@pytest.fixture
def pool() -> SimPool:
    pool = SimPool("tank", 8 * MIB, StoppedClock())
    pool.create_volume("vol", SIZE)
    return pool


def write(pool: SimPool, volume: str, offset: int, body: bytes) -> None:
    with pool.open_target(volume) as target:
        target.write(offset, body)


def test_space_is_taken_once_per_block_however_many_share_it(pool: SimPool) -> None:
    write(pool, "vol", 0, b"x" * 2 * DATA_BLOCK)
    pool.create_snapshots({"vol": "s1"})
    pool.clone_volume("vol", "s1", "clone")
    assert pool.status().data_used == 2 * DATA_BLOCK
    write(pool, "clone", 5, b"y")
    write(pool, "clone", 6, b"z")
    assert pool.status().data_used == 3 * DATA_BLOCK
    with pool.open_target("vol") as target:
        target.discard(Extent(0, SIZE))
    assert pool.status().data_used == 3 * DATA_BLOCK
    pool.remove_snapshot("vol", "s1")
    assert pool.status().data_used == 2 * DATA_BLOCK
    pool.remove_volume("clone")
    pool.remove_volume("vol")
    assert pool.status().data_used == pool.status().metadata_used == 0


def test_a_pool_near_the_end_of_its_metadata_takes_no_snapshot() -> None:
    pool = SimPool("tank", 8 * MIB, StoppedClock(), metadata_size=16 * KIB)
    for name in ("a", "b", "c"):
        pool.create_volume(name, SIZE)
    with pytest.raises(OutOfSpace, match="metadata"):
        pool.create_snapshots({"a": "s1"})
    pool.remove_volume("c")
    assert pool.create_snapshots({"a": "s1"})[0].outcome is Outcome.CREATED


def test_a_group_for_which_metadata_does_not_suffice_takes_no_snapshot() -> None:
    pool = SimPool("tank", 8 * MIB, StoppedClock(), metadata_size=13 * KIB)
    pool.create_volume("a", SIZE)
    pool.create_volume("b", SIZE)
    before = pool.status().metadata_used
    with pytest.raises(OutOfSpace):
        pool.create_snapshots({"a": "s1", "b": "s1"})
    assert pool.snapshots() == []
    assert pool.status().metadata_used == before


def test_a_grown_pool_takes_what_found_no_room(pool: SimPool) -> None:
    pool.create_volume("big", 16 * MIB)
    with pytest.raises(OutOfSpace):
        write(pool, "big", 0, b"x" * 9 * MIB)
    assert pool.extend(size=32 * MIB).outcome is Outcome.CHANGED
    assert pool.extend(size=32 * MIB).outcome is Outcome.UNCHANGED
    write(pool, "big", 0, b"x" * 9 * MIB)
    with pytest.raises(Refused):
        pool.extend(size=8 * MIB)


def test_the_nth_call_fails_and_changes_nothing(pool: SimPool) -> None:
    pool.fail_at(2)
    assert len(pool.volumes()) == 1
    with pytest.raises(Failed, match="create_volume"):
        pool.create_volume("new", SIZE)
    assert [volume.name for volume in pool.volumes()] == ["vol"]


def test_calls_on_sources_and_targets_count_too(pool: SimPool) -> None:
    before = pool.calls
    with pool.open_target("vol") as target:
        target.write(0, b"x")
        target.discard(Extent(0, 512))
        target.flush()
    with pool.open_source("vol") as source:
        source.read_into(0, memoryview(bytearray(1)))
    assert pool.calls == before + 6


def test_a_dead_pool_fails_every_call_until_it_is_revived(pool: SimPool) -> None:
    pool.die_at(1)
    for _ in range(3):
        with pytest.raises(Failed):
            pool.status()
    pool.revive()
    assert pool.status().health == "ok"


def test_reads_and_writes_fail_where_they_are_told_to(pool: SimPool) -> None:
    write(pool, "vol", 0, b"x" * 8192)
    pool.create_snapshots({"vol": "s1"})
    pool.break_reads("vol", 4096, snapshot="s1")
    pool.break_writes("vol", 4096)
    with pool.open_source("vol", "s1") as source:
        source.read_into(0, memoryview(bytearray(4096)))
        with pytest.raises(Failed, match="byte 1"):
            source.read_into(1, memoryview(bytearray(4096)))
    with pool.open_target("vol") as target:
        target.write(4097, b"y")
        with pytest.raises(Failed, match="byte 4090"):
            target.write(4090, b"y" * 7)


def test_a_source_can_become_shorter_while_it_is_read(pool: SimPool) -> None:
    pool.create_snapshots({"vol": "s1"})
    with pool.open_source("vol", "s1") as source:
        pool.cut("vol", MIB, snapshot="s1")
        source.read_into(0, memoryview(bytearray(MIB)))
        with pytest.raises(Failed, match="became shorter while it was read"):
            source.read_into(1, memoryview(bytearray(MIB)))


def test_a_mounted_volume_is_in_use_and_its_snapshot_frozen(pool: SimPool) -> None:
    pool.set_mounted("vol", True)
    assert pool.volume("vol").in_use
    with pytest.raises(Busy), pool.open_target("vol"):
        pass
    assert pool.create_snapshots({"vol": "s1"})[0].item.frozen
    pool.set_mounted("vol", False)
    assert not pool.create_snapshots({"vol": "s2"})[0].item.frozen


def test_a_foreign_snapshot_is_read_and_cloned_but_not_removed(pool: SimPool) -> None:
    write(pool, "vol", 0, b"theirs")
    pool.add_foreign_snapshot("vol", "s1")
    assert pool.snapshot("vol", "s1").foreign
    with pytest.raises(Refused, match="not made by rokctl"):
        pool.remove_snapshot("vol", "s1")
    with pytest.raises(Refused):
        pool.create_snapshots({"vol": "s1"})
    assert pool.clone_volume("vol", "s1", "clone").outcome is Outcome.CREATED


def test_a_filesystem_goes_with_snapshots_and_clones(pool: SimPool) -> None:
    ext4 = Filesystem("ext4", "label", "uuid")
    pool.set_filesystem("vol", ext4)
    pool.create_snapshots({"vol": "s1"})
    pool.clone_volume("vol", "s1", "clone")
    pool.set_filesystem("vol", None)
    assert (pool.filesystem("vol"), pool.filesystem("vol", "s1"), pool.filesystem("clone")) == (None, ext4, ext4)
