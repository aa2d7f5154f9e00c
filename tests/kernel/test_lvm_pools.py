"""Pools on a real kernel: made on devices, taken over, grown, filled, removed; and what is refused."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lvm_fixture import GROUP, lvm, lvs

from engine.device.base import Outcome, Pool
from engine.device.dm import control
from engine.device.lvm import LvmPool, find_pools
from engine.device.lvmcreate import adopt_pool, create_pool, create_pool_in_group
from engine.device.lvmdevices import SMALLEST
from engine.device.lvmreport import logical_volumes, physical_volumes, volume_groups
from engine.errors import Busy, NotFound, OutOfSpace, Refused
from engine.units import KIB, MIB


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[list[str]]:
    """Three loop devices on the guest's memory: two alike, the third much larger."""
    found = []
    for number, size in enumerate((128, 128, 256)):
        path = tmp_path / f"disk{number}"
        with path.open("wb") as file:
            file.truncate(size * MIB)
        found.append(output("losetup", "--find", "--show", str(path)))
    yield found
    for name, group in volume_groups().items():
        if name != GROUP:
            lvm("vgremove", "--yes", "--force", group.name)
    for disk in found:
        output("losetup", "--detach", disk)


def head(disk: str) -> bytes:
    with Path(disk).open("rb") as file:
        return file.read(2 * MIB)


def output(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout.strip()


def segment(pool: Pool, field: str) -> str:
    group = pool.status().location.split("/")[0]
    rows = lvs(f"lv_name,{field}", "-a", group)
    return next(row[field] for row in rows if row["lv_name"] == "[pool_tdata]")


def test_a_pool_on_two_devices_alike_is_striped_grows_and_leaves_them_plain(disks: list[str]) -> None:
    made = create_pool("fa-st", disks[:2])
    assert made.outcome is Outcome.CREATED
    assert create_pool("fa-st", disks[:2]).outcome is Outcome.ALREADY_THERE
    with pytest.raises(Refused, match="exists already"):
        create_pool("fa-st", disks[2:])
    pool = made.item
    assert segment(pool, "stripes") == "2"
    status = pool.status()
    assert (status.data_block_size, status.metadata_size, status.health) == (64 * KIB, 16 * MIB, "ok")
    assert status.data_size >= 160 * MIB
    assert "error_if_no_space" in output("dmsetup", "status", "--target", "thin-pool")
    assert "fa-st" in [found.name for found in find_pools()]

    grown = pool.extend(devices=(disks[2],))

    assert grown.outcome is Outcome.CHANGED
    assert grown.item.data_size > status.data_size + 200 * MIB
    assert pool.extend(devices=(disks[2],)).outcome is Outcome.UNCHANGED
    assert pool.extend(size=grown.item.data_size).outcome is Outcome.UNCHANGED
    with pytest.raises(Refused, match="shrunk"):
        pool.extend(size=64 * MIB)
    with pytest.raises(OutOfSpace):
        pool.extend(size=1 << 40)
    pool.create_volume("vol", 8 * MIB)
    with pytest.raises(Refused, match="vol"):
        pool.remove()
    pool.remove_volume("vol")
    assert pool.remove() is Outcome.REMOVED
    assert pool.remove() is Outcome.ALREADY_GONE
    assert not [volume for volume in physical_volumes() if volume.device in disks]
    assert [output("wipefs", disk) for disk in disks] == ["", "", ""]


def test_a_creation_that_was_cut_off_is_taken_up_again(disks: list[str]) -> None:
    lvm("vgcreate", "--yes", "--addtag", "rokctl.made", "--addtag", "rokctl.pool=fast", "rok_fast", *disks[:2])
    made = create_pool("fast", disks[::2], size=96 * MIB)
    assert made.outcome is Outcome.CREATED
    assert segment(made.item, "stripes") == "1"  # 128 and 256 MiB are not alike
    assert made.item.status().data_size == 96 * MIB
    assert {volume.device for volume in physical_volumes() if volume.group == "rok_fast"} == set(disks[::2])


def test_a_creation_that_fails_leaves_the_devices_plain(disks: list[str]) -> None:
    with pytest.raises(OutOfSpace):
        create_pool("fast", disks[:2], size=1 << 40)
    assert not [volume for volume in physical_volumes() if volume.device in disks]
    assert list(volume_groups()) == [GROUP]


def test_devices_that_hold_anything_or_are_in_use_are_refused_and_untouched(
    disks: list[str], tmp_path: Path, pool: LvmPool
) -> None:
    output("mkfs.ext4", "-q", "-L", "photos", disks[0])
    tiny = tmp_path / "tiny"
    tiny.write_bytes(bytes(SMALLEST - MIB))
    tiny_disk = output("losetup", "--find", "--show", str(tiny))
    before = head(disks[1])
    (tmp_path / "mounted").mkdir()

    refusals: list[tuple[type[Exception], str, list[str]]] = [
        (Refused, "filesystem \\(ext4\\) labelled 'photos'", [disks[1], disks[0]]),
        (Refused, f"belongs to volume group {GROUP}", [physical_volumes()[0].device]),
        (Refused, "twice", [disks[1], disks[1]]),
        (Refused, "at least", [tiny_disk]),
        (Refused, "no block device", [str(tiny)]),
        (Refused, "no block device", ["/dev/null"]),
        (NotFound, "no device", ["/dev/missing"]),
        (Refused, "needs a device", []),
    ]
    for kind, words, devices in refusals:
        with pytest.raises(kind, match=words):
            create_pool("fast", devices)
    output("mkswap", disks[2])
    with pytest.raises(Refused, match="swap"):
        create_pool("fast", [disks[2]])
    output("wipefs", "--all", disks[2])
    output("pvcreate", "--yes", disks[2])
    with pytest.raises(Refused, match="LVM physical volume"):
        create_pool("fast", [disks[2]])
    output("pvremove", disks[2])
    output("mount", disks[0], str(tmp_path / "mounted"))
    try:
        with pytest.raises(Busy, match="mounted"):
            create_pool("fast", [disks[0]], wipe=True)
    finally:
        output("umount", str(tmp_path / "mounted"))
        output("losetup", "--detach", tiny_disk)
    with pytest.raises(Refused):
        create_pool("-bad", [disks[1]])

    assert output("e2fsck", "-f", "-n", disks[0])
    assert head(disks[1]) == before
    assert list(volume_groups()) == [GROUP]
    assert create_pool("fast", [disks[0]], wipe=True).outcome is Outcome.CREATED


def test_a_full_pool_takes_writes_and_snapshots_again_once_it_is_extended(pool: LvmPool) -> None:
    size = pool.status().data_size
    pool.create_volume("vol", 2 * size)
    with pytest.raises(OutOfSpace):
        fill(pool, "vol", 2 * size)
    assert "out of data space" in pool.status().health
    with pytest.raises(OutOfSpace, match="data") as caught:
        pool.create_snapshots({"vol": "s"})
    assert "rokctl pool extend tank" in caught.value.hint

    assert pool.extend(size=size + 64 * MIB).outcome is Outcome.CHANGED

    assert pool.status().health == "ok"
    with pool.open_target("vol") as target:
        target.write(2 * size - 4 * MIB, b"x" * 4 * MIB)
        target.flush()
    pool.create_snapshots({"vol": "s"})
    lvm("lvremove", "--yes", "--force", pool.status().location)  # it is larger than the other tests expect


def fill(pool: Pool, volume: str, size: int) -> None:
    with pool.open_target(volume) as target:
        for offset in range(0, size, 4 * MIB):
            target.write(offset, random.Random(offset).randbytes(4 * MIB))
            target.flush()


def test_snapshots_stop_before_the_metadata_is_full_and_go_on_when_it_has_grown() -> None:
    lvm("lvcreate", "--yes", "--type", "thin-pool", "-L", "512M", "--poolmetadatasize", "4M", "-n", "narrow", GROUP)
    try:
        pool = adopt_pool("narrow", f"{GROUP}/narrow").item
        volume = pool.create_volume("vol", 1024 * MIB).item
        fill_metadata(volume.path)
        with pytest.raises(OutOfSpace, match="metadata") as caught:
            pool.create_snapshots({"vol": "s"})
        assert caught.value.hint
        assert pool.extend(size=pool.status().data_size).outcome is Outcome.CHANGED
        assert pool.create_snapshots({"vol": "s"})[0].outcome is Outcome.CREATED
    finally:
        lvm("lvremove", "--yes", "--force", f"{GROUP}/narrow")


def fill_metadata(path: str) -> None:
    """Scatter small writes between many snapshots, which LVM does not know of, until more is used than may be."""
    rows = logical_volumes(GROUP)
    pool = next(row for row in rows if row.name == "narrow")
    volume = next(row for row in rows if row.path == path)
    with control() as devices, Path(path).open("r+b", buffering=0) as file:
        for number in range(400):
            used, size = map(int, devices.status(pool.pool_device)[0].text.split()[1].split("/"))
            if used > 0.72 * size:
                return
            devices.message(pool.pool_device, f"create_snap {10_000 + number} {volume.thin_id}")
            for step in range(8):
                file.seek((step * 1999 + number * 17) % 16384 * 64 * KIB)
                file.write(b"x" * 4096)
            os.fsync(file.fileno())
    raise AssertionError("the metadata did not fill")


def test_an_adopted_pool_keeps_what_it_has_and_is_let_go_of() -> None:
    lvm("lvcreate", "--yes", "--type", "thin-pool", "-L", "32M", "--poolmetadatasize", "4M", "-n", "old", GROUP)
    try:
        lvm("lvcreate", "--yes", "-V", "16M", "-T", f"{GROUP}/old", "-n", "theirs")
        lvm("lvcreate", "--yes", "-s", "-pr", "-n", "fixed", f"{GROUP}/theirs")
        Path(f"/dev/{GROUP}/theirs").write_bytes(b"theirs")
        before = lvm("lvs", "-o", "lv_name,lv_uuid,lv_tags,lv_size,thin_id", f"{GROUP}/theirs", f"{GROUP}/fixed")
        with pytest.raises(NotFound):
            adopt_pool("mine", f"{GROUP}/missing")
        with pytest.raises(Refused, match="no thin pool"):
            adopt_pool("mine", f"{GROUP}/theirs")

        assert adopt_pool("mine", f"{GROUP}/old").outcome is Outcome.CREATED
        assert adopt_pool("mine", f"{GROUP}/old").outcome is Outcome.ALREADY_THERE
        with pytest.raises(Refused):
            adopt_pool("other", f"{GROUP}/old")
        pool = adopt_pool("mine", f"{GROUP}/old").item
        pool.create_volume("ours", 8 * MIB)

        assert [(v.name, v.foreign) for v in pool.volumes()] == [("ours", False), ("theirs", True)]
        assert [(s.volume, s.name, s.foreign) for s in pool.snapshots()] == [("theirs", "fixed", True)]
        body = bytearray(6)
        with pool.open_source("theirs") as source:
            source.read_into(0, memoryview(body))
        assert body == b"theirs"
        for call in (
            lambda: pool.create_volume("theirs", 16 * MIB),
            lambda: pool.resize_volume("theirs", 32 * MIB),
            lambda: pool.remove_volume("theirs"),
            lambda: pool.create_snapshots({"ours": "s", "theirs": "s"}),
            lambda: pool.remove_snapshot("theirs", "fixed"),
            lambda: pool.mark_restoring("theirs", "v"),
            lambda: pool.open_target("theirs").__enter__(),
            lambda: pool.remove(),
            lambda: pool.extend(devices=("/dev/ubdb",)),
        ):
            with pytest.raises(Refused):
                call()
        assert pool.clone_volume("theirs", "fixed", "copy").outcome is Outcome.CREATED
        pool.remove_volume("copy")
        pool.remove_volume("ours")
        assert pool.remove() is Outcome.REMOVED

        after = lvm("lvs", "-o", "lv_name,lv_uuid,lv_tags,lv_size,thin_id", f"{GROUP}/theirs", f"{GROUP}/fixed")
        assert after == before
        assert "rokctl" not in lvm("lvs", "--noheadings", "-o", "lv_tags", f"{GROUP}/old")
    finally:
        lvm("lvremove", "--yes", "--force", f"{GROUP}/old")


def test_names_that_lvm_reserves_and_long_ones_work_like_others(pool: LvmPool) -> None:
    for name in ("snapshot", "a_tdata", "x" + "-" * 62 + "x"):
        pool.create_volume(name, 8 * MIB)
        pool.create_snapshots({name: "pvmove-" + "y" * 57})
        assert pool.volume(name).name == name
    assert len(pool.snapshots()) == 3
    odd = "version with spaces, Ünïcödé & «quotes»"
    pool.mark_restoring("snapshot", odd)
    assert pool.volume("snapshot").restoring == odd


def test_a_pool_in_a_group_that_has_no_room_for_it_is_refused(pool: LvmPool) -> None:
    with pytest.raises(NotFound):
        create_pool_in_group("big", "missing", 64 * MIB)
    with pytest.raises(OutOfSpace, match="left"):
        create_pool_in_group("big", GROUP, 1 << 40)
    assert create_pool_in_group("tank", GROUP, 128 * MIB).outcome is Outcome.ALREADY_THERE
