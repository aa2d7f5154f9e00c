"""Snapshots on a real kernel: of mounted filesystems, of groups under load, and what a killed process leaves."""

import mmap
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from lvm_fixture import GROUP, lvm, lvs

from engine.device import lvmgroup
from engine.device.base import Outcome
from engine.device.dm import control
from engine.device.lvm import LvmPool, find_pools
from engine.device.lvmgroup import Prepared
from engine.device.lvmreport import LogicalVolume, logical_volumes
from engine.device.lvmview import view
from engine.device.mounts import write_back
from engine.device.node import Node, Work
from engine.errors import Busy, Failed
from engine.units import KIB, MIB

MKFS = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"]}
CHECK = {"ext4": ["e2fsck", "-f", "-n"], "xfs": ["xfs_repair", "-n"]}
MOUNT = {"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid"}


def run(*argv: str | Path) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"


@contextmanager
def mounted(device: str, place: Path, options: str = "rw") -> Iterator[Path]:
    place.mkdir()
    run("mount", "-o", options, device, place)
    try:
        yield place
    finally:
        run("umount", place)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_snapshot_of_a_mounted_filesystem_is_clean_and_whole(pool: LvmPool, tmp_path: Path, kind: str) -> None:
    volume = pool.create_volume("home", 320 * MIB).item
    run(*MKFS[kind], volume.path)
    stop = threading.Event()
    with mounted(volume.path, tmp_path / "live") as live:
        body = random.Random(1).randbytes(3 * MIB)
        (live / "unsynced").write_bytes(body)  # in the page cache only; freezing writes it out
        writer = threading.Thread(target=keep_writing, args=(live, stop))
        writer.start()
        try:
            snapshot = pool.create_snapshots({"home": "s"})[0].item
        finally:
            stop.set()
            writer.join()

    assert snapshot.frozen
    with mounted(snapshot.path, tmp_path / "then", MOUNT[kind]) as then:  # as it is: no journal is replayed
        assert (then / "unsynced").read_bytes() == body
    clone = pool.clone_volume("home", "s", "clone").item
    if kind == "xfs":  # it freezes with an unclean log on purpose, and a check wants it replayed
        with mounted(clone.path, tmp_path / "clone", "nouuid"):
            pass
    run(*CHECK[kind], clone.path)
    found = pool.filesystem("home", "s")
    assert found is not None
    assert found.type == kind
    assert not pool.create_snapshots({"home": "unmounted"})[0].item.frozen


def test_what_is_written_back_before_a_freeze_is_on_the_device(pool: LvmPool, tmp_path: Path) -> None:
    volume = pool.create_volume("home", 32 * MIB).item
    run(*MKFS["ext4"], volume.path)
    body = random.Random(2).randbytes(64 * KIB)
    with mounted(volume.path, tmp_path / "live") as live:
        (live / "unsynced").write_bytes(body)
        assert body[:4096] not in past_the_cache(volume.path)

        write_back([volume.path, "/dev/nothing-of-that-name"])

        assert body[:4096] in past_the_cache(volume.path)


def past_the_cache(path: str) -> bytes:
    """What a device holds, which is not what the page cache holds for it."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 32 * MIB) as body:
            assert os.preadv(file, [body], 0) == len(body)
            return body[:]
    finally:
        os.close(file)


def keep_writing(folder: Path, stop: threading.Event) -> None:
    """Change data, in place so that a small pool does not fill, and names, which go through the journal."""
    with (folder / "file").open("wb") as file:
        number = 0
        while not stop.is_set():
            file.seek(number % 20 * 40_000)
            file.write(bytes([number % 256]) * 40_000)
            file.flush()
            (folder / f"name{number}").mkdir()
            (folder / f"name{number}").rename(folder / f"other{number % 7}")
            number += 1


# Writes the same counter into each volume in turn, with nothing in between.
STAMPER = """
import mmap, os, sys
files = [os.open(path, os.O_RDWR | os.O_DIRECT) for path in sys.argv[1:]]
page = mmap.mmap(-1, 4096)
counter = 0
while True:
    counter += 1
    page[:8] = counter.to_bytes(8, "little")
    for file in files:
        os.pwrite(file, page, 0)
    os.pwrite(1, page[:8], 0)
"""


@contextmanager
def stamping(paths: list[str], progress: Path) -> Iterator[Callable[[], int]]:
    """The stamper at work; gives how far it is."""
    with progress.open("wb") as file:
        writer = subprocess.Popen([sys.executable, "-c", STAMPER, *paths], stdout=file)
    try:
        while not progress.read_bytes():
            time.sleep(0.01)
        yield lambda: int.from_bytes(progress.read_bytes(), "little")
    finally:
        writer.kill()
        writer.wait()


def row_of(path: str) -> LogicalVolume:
    return next(row for row in logical_volumes(GROUP) if row.path == path)


def stamp(pool: LvmPool, volume: str, snapshot: str) -> int:
    body = bytearray(8)
    with pool.open_source(volume, snapshot) as source:
        source.read_into(0, memoryview(body))
    return int.from_bytes(body, "little")


def test_a_group_is_of_one_instant_while_all_its_volumes_are_written(pool: LvmPool, tmp_path: Path) -> None:
    names = [f"v{number}" for number in range(4)]
    paths = [pool.create_volume(name, 8 * MIB).item.path for name in names]
    with stamping(paths, tmp_path / "counter") as counter:
        for round_number in range(3):
            made = pool.create_snapshots(dict.fromkeys(names, f"s{round_number}"))
            assert {one.outcome for one in made} == {Outcome.CREATED}
        with control() as devices, lvmgroup.suspended([row_of(path) for path in paths], devices):
            time.sleep(0.1)
            before = counter()
            time.sleep(0.5)
            assert counter() == before  # nobody gets past a suspended volume
        time.sleep(0.5)
        assert counter() > before

    for round_number in range(3):
        stamps = [stamp(pool, name, f"s{round_number}") for name in names]
        assert stamps == sorted(stamps, reverse=True), stamps  # a later volume is never ahead of an earlier one
        assert stamps[0] - stamps[-1] <= 1, stamps
        assert stamps[0] > 100 * round_number  # the writer did run in between
    assert suspended() == []
    # LVM goes on as if nothing had been: it gives new ids, and makes and removes what it likes.
    lvm("lvcreate", "--yes", "-s", "-n", "after", f"{GROUP}/v0")
    assert len({row["thin_id"] for row in lvs("thin_id", GROUP) if row["thin_id"]}) == 4 + 12 + 1


def test_volumes_run_again_when_the_kernel_refuses_half_way(pool: LvmPool) -> None:
    for name in ("a", "b"):
        pool.create_volume(name, 8 * MIB)
        lvm(
            "lvcreate",
            "--yes",
            "-s",
            "-kn",
            "-pr",
            "-an" if name == "a" else "-ay",
            "-n",
            f"{name}1",
            f"{GROUP}/{name}",
        )
    lvm("lvcreate", "--yes", "-s", "-kn", "-pr", "-an", "-n", "b2", f"{GROUP}/b")
    rows = {row.name: row for row in logical_volumes(GROUP)}
    seen = view(rows["tank"].uuid, list(rows.values()))
    assert seen is not None

    with pytest.raises(Busy):  # an active snapshot cannot be deleted
        lvmgroup.take(seen, [Prepared(rows["b"], rows["b1"])])
    missing = replace(rows["b"], thin_id=1 << 20)  # which no snapshot can be taken of
    with pytest.raises(Failed):
        lvmgroup.take(seen, [Prepared(rows["a"], rows["a1"]), Prepared(missing, rows["b2"])])

    assert suspended() == []
    for name in ("a", "b"):
        with pool.open_target(name) as target:
            target.write(0, b"running")
            target.flush()


# Prepares a group, deletes one of its snapshots to take it anew, suspends the volumes, and is killed before it can resume them.
KILLED = """
import os, signal, sys
from engine.device import lvmgroup
from engine.device.dm import control
from engine.device.lvm import find_pools
from engine.device.lvmreport import change, logical_volumes
from engine.device.lvmtags import Tag, tag
from engine.device.lvmview import view
group, pool_uuid = sys.argv[1:]
seen = view(pool_uuid, logical_volumes(group))
lvmgroup.announce(seen, "half")
for volume in ("a", "b"):
    tags = [tag(Tag.SNAPSHOT, "s"), tag(Tag.OF, volume), tag(Tag.GROUP, "half")]
    change("lvcreate", "-s", "-an", "-n", f"{volume}+s", *(part for text in tags for part in ("--addtag", text)),
           f"{group}/{volume}")
rows = {row.name: row for row in logical_volumes(group)}
with control() as devices:
    devices.message(seen.row.pool_device, f"delete {rows['a+s'].thin_id}")
    with lvmgroup.suspended([rows["a"], rows["b"]], devices):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_suspended_runs_again_and_its_half_made_group_is_gone(pool: LvmPool) -> None:
    for name in ("a", "b"):
        pool.create_volume(name, 8 * MIB)
    killed = subprocess.run([sys.executable, "-c", KILLED, GROUP, pool.status().uuid], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert suspended() == ["a", "b"]
    assert pool.snapshots() == []

    node = Node(locks=Path("/run/rokctl-test"))
    with node.working(Work.CHANGE, pool.status().uuid, "tank"):
        find_pools(node)
        assert suspended() == ["a", "b"]  # someone is at work: they are his
    found = find_pools(node)

    assert [one.name for one in found] == ["tank"]
    assert suspended() == []
    assert {row["lv_name"] for row in lvs("lv_name", GROUP)} >= {"a+s", "b+s"}
    made = pool.create_snapshots({"a": "s", "b": "s"})  # under the very names that the leftovers had
    assert {one.outcome for one in made} == {Outcome.CREATED}
    assert len(pool.snapshots()) == 2
    assert "preparing" not in lvm("lvs", "--noheadings", "-o", "lv_tags", pool.status().location)


def suspended() -> list[str]:
    return sorted(row["lv_name"] for row in lvs("lv_name,lv_suspended", GROUP) if row["lv_suspended"] == "suspended")


def test_a_group_of_four_is_suspended_for_an_instant_only(pool: LvmPool) -> None:
    names = [f"v{number}" for number in range(4)]
    for name in names:
        pool.create_volume(name, 8 * MIB)
        lvm("lvcreate", "--yes", "-s", "-kn", "-an", "-n", f"{name}s", f"{GROUP}/{name}")
    rows = {row.name: row for row in logical_volumes(GROUP)}
    seen = view(rows["tank"].uuid, list(rows.values()))
    assert seen is not None
    begun = time.monotonic()
    lvmgroup.take(seen, [Prepared(rows[name], rows[f"{name}s"]) for name in names])
    took = time.monotonic() - begun
    assert took < 1, f"{took:.3f} s"  # some milliseconds, on a machine that has nothing else to do
