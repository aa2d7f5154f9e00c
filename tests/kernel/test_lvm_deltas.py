"""Deltas from real thin metadata: nothing missed, nothing extra; and what stands in their way."""

import random
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from lvm_fixture import GROUP, lvm

from engine.device.base import Change, ChangeKind
from engine.device.dm import control
from engine.device.lvm import LvmPool
from engine.device.lvmactive import pool_state
from engine.device.lvmreport import LogicalVolume, logical_volumes
from engine.errors import Failed
from engine.extent import Extent, total
from engine.units import KIB, MIB

BLOCK = 64 * KIB


def delta(pool: LvmPool, old: str, new: str | None) -> list[Change]:
    found = pool.delta("vol", old, new)
    assert found is not None
    with closing(found):
        return list(found)


def covered(changes: list[Change], kind: ChangeKind) -> set[int]:
    return {
        number
        for change in changes
        if change.kind is kind
        for number in range(change.extent.start // BLOCK, -(-change.extent.end // BLOCK))
    }


def pool_row() -> LogicalVolume:
    return next(row for row in logical_volumes(GROUP) if row.is_thin_pool)


def test_a_delta_is_exactly_what_was_written_and_discarded(pool: LvmPool) -> None:
    chance = random.Random(7)
    pool.create_volume("vol", 64 * MIB)
    with pool.open_target("vol") as target:
        target.write(0, chance.randbytes(24 * MIB))
        target.flush()
    pool.create_snapshots({"vol": "old"})
    mapped = set(range(24 * MIB // BLOCK))
    written: set[int] = set()
    discarded: set[int] = set()
    with pool.open_target("vol") as target:
        for _ in range(200):
            if chance.random() < 0.2:
                first = chance.randrange(64 * MIB // BLOCK - 4)
                target.flush()  # buffered writes must not land after the discard
                target.discard(Extent(first * BLOCK, 3 * BLOCK))
                gone = set(range(first, first + 3))
                written -= gone
                discarded |= gone & mapped
            else:
                offset = chance.randrange(64 * MIB // 4096) * 4096
                target.write(offset, chance.randbytes(4096))
                written.add(offset // BLOCK)
                discarded.discard(offset // BLOCK)
        target.flush()
    live = delta(pool, "old", None)
    pool.create_snapshots({"vol": "new"})
    changes = delta(pool, "old", "new")

    assert covered(changes, ChangeKind.CHANGED) == written
    assert covered(changes, ChangeKind.HOLE) == discarded
    assert live == changes
    allocated = set(covered([Change(e, ChangeKind.CHANGED) for e in pool.allocated("vol", "new")], ChangeKind.CHANGED))
    assert allocated == (mapped | written) - discarded
    assert pool.volume("vol").used == total(pool.allocated("vol"))


def test_a_metadata_snapshot_that_a_killed_process_left_is_released(pool: LvmPool) -> None:
    pool.create_volume("vol", 8 * MIB)
    pool.create_snapshots({"vol": "old"})
    row = pool_row()
    with control() as devices:
        devices.message(row.pool_device, "reserve_metadata_snap")
        assert pool_state(devices, row).metadata_snapshot_held
    with pool.open_target("vol") as target:
        target.write(BLOCK, b"x" * 4096)
        target.flush()

    assert delta(pool, "old", None) == [Change(Extent(BLOCK, BLOCK), ChangeKind.CHANGED)]

    with control() as devices:
        assert not pool_state(devices, row).metadata_snapshot_held


def test_a_slow_reader_of_a_delta_holds_no_metadata_snapshot(pool: LvmPool) -> None:
    pool.create_volume("vol", 8 * MIB)
    pool.create_snapshots({"vol": "old"})
    with pool.open_target("vol") as target:
        for number in range(0, 100, 2):
            target.write(number * BLOCK, b"x")
        target.flush()
    slow = pool.delta("vol", "old", None)
    assert slow is not None
    with closing(slow):
        next(slow)
        with control() as devices:
            assert not pool_state(devices, pool_row()).metadata_snapshot_held
        assert len(delta(pool, "old", None)) == 50


def test_a_volume_that_is_inactive_is_read_and_left_so(pool: LvmPool) -> None:
    volume = pool.create_volume("vol", 8 * MIB).item
    with pool.open_target("vol") as target:
        target.write(0, b"kept")
        target.flush()
    pool.create_snapshots({"vol": "s"})
    lvm("lvchange", "-an", f"{GROUP}/vol", f"{GROUP}/vol+s", f"{GROUP}/tank")
    assert not any(row.active for row in logical_volumes(GROUP))

    body = bytearray(4)
    with pool.open_source("vol", "s") as source:
        source.read_into(0, memoryview(body))
    assert body == b"kept"
    assert delta(pool, "s", None) == []
    assert pool.status().health == "ok"
    assert pool.volume("vol").used is None
    assert not any(row.active for row in logical_volumes(GROUP))
    assert not Path(volume.path).exists()


def test_a_read_error_of_the_disk_is_told_and_no_byte_is_made_up(pool: LvmPool) -> None:
    pool.create_volume("vol", 8 * MIB)
    with pool.open_target("vol") as target:
        target.write(0, b"good" * MIB)
        target.flush()
    pool.create_snapshots({"vol": "s"})
    data = f"{GROUP}-tank_tdata"
    table = subprocess.run(["dmsetup", "table", data], check=True, capture_output=True, text=True).stdout.split()
    start, length, _linear, device, offset = table
    body = bytearray(MIB)

    reload(data, f"{start} {length} flakey {device} {offset} 0 3600")
    try:
        with pool.open_source("vol", "s") as source, pytest.raises(Failed, match=r"reading .*vol\+s"):
            source.read_into(0, memoryview(body))
    finally:
        reload(data, " ".join(table))

    with pool.open_source("vol", "s") as source:
        source.read_into(0, memoryview(body))
    assert body == b"good" * (MIB // 4)


def reload(device: str, table: str) -> None:
    for command in (["load", device, "--table", table], ["suspend", "--noflush", device], ["resume", device]):
        subprocess.run(["dmsetup", *command], check=True)
