"""Runs inside User Mode Linux until its power is cut: snapshots a group that is written to, and says what it has done.

writer_in_guest.py LOG        each line of LOG was true before it was written: `made NAME`, or `removing NAME`
writer_in_guest.py --check LOG
"""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TextIO

from engine.device.base import Pool
from engine.device.lvm import find_pools
from engine.device.lvmcreate import create_pool
from engine.units import MIB

DISK = "/dev/ubda"
MOUNT_POINT = Path("/run/mounted")
KEPT = 4


def main() -> None:
    if sys.argv[1] == "--check":
        check(Path(sys.argv[2]).read_text().splitlines())
        return
    pool = opened()
    threading.Thread(target=write_for_ever, args=(pool.volume("plain").path,), daemon=True).start()
    with Path(sys.argv[1]).open("a") as log:
        snapshot_for_ever(pool, log)


def opened() -> Pool:
    """The pool, made at the first boot, with a mounted filesystem in one of its volumes."""
    found = find_pools()
    if found:
        pool = found[0]
        run("vgchange", "-ay", "rok_tank")  # there is no udev to do it
    else:
        pool = create_pool("tank", [DISK]).item
        pool.create_volume("files", 64 * MIB)
        pool.create_volume("plain", 64 * MIB)
        # Blocks of a page: of smaller ones ext4 may have mapped those of half a page when the power goes, and not yet have
        # written down the file's new size, which counts whole pages there. e2fsck calls that an error.
        run("mkfs.ext4", "-q", "-b", "4096", pool.volume("files").path)
    MOUNT_POINT.mkdir()
    run("mount", pool.volume("files").path, str(MOUNT_POINT))
    return pool


def write_for_ever(path: str) -> None:
    number = 0
    with Path(path).open("r+b", buffering=0) as plain:
        while True:
            number += 1
            plain.seek(number % 1000 * 65536)
            plain.write(number.to_bytes(8, "little") * 512)
            (MOUNT_POINT / str(number % 50)).write_bytes(bytes([number % 256]) * 20_000)


def snapshot_for_ever(pool: Pool, log: TextIO) -> None:
    number = max((int(snapshot.name[1:]) for snapshot in pool.snapshots()), default=0)
    while True:
        number += 1
        name = f"s{number}"
        pool.create_snapshots({"files": name, "plain": name})
        say(log, f"made {name}")
        old = [snapshot.name for snapshot in pool.snapshots("files")]
        if len(old) > KEPT:
            say(log, f"removing {old[0]}")
            pool.remove_snapshot("files", old[0])
            pool.remove_snapshot("plain", old[0])


def check(log: list[str]) -> None:
    """After the power came back: all that was acknowledged is there, and nothing is half there."""
    run("vgchange", "-an", "rok_tank")
    run("lvchange", "-ay", "--yes", "rok_tank/pool_tmeta")
    run("thin_check", "/dev/mapper/rok_tank-pool_tmeta")
    run("lvchange", "-an", "rok_tank/pool_tmeta")
    run("vgchange", "-ay", "rok_tank")
    pool = find_pools()[0]
    made = {line.removeprefix("made ") for line in log if line.startswith("made ")}
    removed = {line.removeprefix("removing ") for line in log if line.startswith("removing ")}
    files, plain = ({snapshot.name for snapshot in pool.snapshots(volume)} for volume in ("files", "plain"))

    assert made - removed <= files, f"lost: {made - removed - files}"
    assert made - removed <= plain, f"lost: {made - removed - plain}"
    assert files - removed == plain - removed, f"half made: {files ^ plain}"
    assert len(files - removed - made) <= 1, "only the last one may have been made and not acknowledged"
    for snapshot in pool.snapshots():
        with pool.open_source(snapshot.volume, snapshot.name) as source:
            source.read_into(0, memoryview(bytearray(MIB)))
    newest = max(files - removed, key=lambda name: int(name[1:]))
    run("e2fsck", "-f", "-n", pool.clone_volume("files", newest, "clone").item.path)
    pool.remove_volume("clone")
    tags = run("lvs", "--noheadings", "-o", "lv_tags", "rok_tank")
    assert "preparing" not in tags, tags  # the clone was a change: it cleared what was left
    names = run("lvs", "--noheadings", "-o", "lv_name", "rok_tank").split()
    assert len(names) == 1 + 2 + len(pool.snapshots()), names
    MOUNT_POINT.mkdir()
    run("mount", pool.volume("files").path, str(MOUNT_POINT))
    run("umount", str(MOUNT_POINT))
    run("e2fsck", "-f", "-n", pool.volume("files").path)


def say(log: TextIO, line: str) -> None:
    print(line, file=log, flush=True)
    os.fsync(log.fileno())


def run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    main()
