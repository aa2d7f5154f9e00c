"""A fresh LVM pool for one test, on the disk that the harness gives: made in a volume group that all tests share.

lvm commands take a third of a second in User Mode Linux, so group and pool stay, and only what a test put there goes.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.device.base import Pool
from engine.device.lvmcreate import create_pool_in_group
from engine.device.node import Node
from engine.units import MIB

DISK = "/dev/ubda"
GROUP = "kernel"
_GROUP_IS_MADE = Path("/run/kernel-group-is-made")  # gone with the guest, as the disk is


@contextmanager
def lvm_pool(tmp_path: Path, *, name: str = "tank", size: int = 128 * MIB) -> Iterator[Pool]:
    """A pool that nothing is in, and nothing is left in afterwards."""
    make_group()
    pool = create_pool_in_group(name, GROUP, size, node=Node(locks=tmp_path / "locks")).item
    try:
        yield pool
    finally:
        clear(name)


def make_group() -> None:
    """Make the volume group of all tests, once."""
    if not _GROUP_IS_MADE.exists():
        lvm("vgcreate", "--yes", GROUP, DISK)
        _GROUP_IS_MADE.touch()


def clear(pool: str) -> None:
    """Remove all that is in a pool, and the pool too when it is not well any more."""
    rows = lvs("lv_name,pool_lv,lv_tags,lv_health_status", GROUP)
    found = [row for row in rows if f"rokctl.pool={pool}" in row["lv_tags"].split(",")]
    for row in found:
        doomed = [f"{GROUP}/{other['lv_name']}" for other in rows if other["pool_lv"] == row["lv_name"]]
        if row["lv_health_status"] or "rokctl.preparing" in row["lv_tags"]:
            doomed = [f"{GROUP}/{row['lv_name']}"]
        if doomed:
            lvm("lvremove", "--yes", "--force", *doomed)


def lvs(fields: str, *objects: str) -> list[dict[str, str]]:
    """What `lvs` reports."""
    report = json.loads(lvm("lvs", "--reportformat", "json", "-o", fields, *objects))
    rows: list[dict[str, str]] = report["report"][0]["lv"]
    return rows


def lvm(*argv: str) -> str:
    """Run an lvm command, and give what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout
