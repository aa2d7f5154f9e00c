"""Snapshots in the guest: one beside `lvcreate -s`, and a group of eight volumes under load beside the plain ways."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from benchmark.guest import LVM_DISK, Guest, sh
from benchmark.standstill import longest_gap, writing

VOLUMES: Final = 8
VOLUME_SIZE: Final = "64M"
FIRST_FREE_ID: Final = 10_000_000  # of thin devices that LVM does not know of
FROM_SUSPEND_TO_RESUME: Final = "from the first suspend to the last resume"
BARE_TYPER: Final = (sys.executable, "-c", "import typer")


def measure(guest: Guest, runs: int) -> dict[str, Any]:
    """Both, on a new pool."""
    guest.rokctl("pool", "create", "bench", "--device", LVM_DISK)
    for number in range(VOLUMES):
        guest.rokctl("volume", "create", f"bench/v{number}", "--size", VOLUME_SIZE)
    guest.rokctl("snapshot", "list", "bench")  # from now on there is bytecode
    rows = volumes()
    return {"one": one_snapshot(guest, rows[0]["full"], runs), "group": group(guest, rows, runs)}


def volumes() -> list[dict[str, str]]:
    """The volumes as LVM has them, `full` the name that its commands take, `device` that of device-mapper."""
    fields = "vg_name,lv_name,lv_full_name,lv_path,thin_id,pool_lv,lv_dm_path,lv_tags"
    report = json.loads(sh("lvs", "--reportformat", "json", "--options", fields))["report"][0]["lv"]
    return [
        {**row, "full": row["lv_full_name"], "device": row["lv_dm_path"]}
        for row in sorted(report, key=lambda row: row["lv_name"])
        if "rokctl.volume=" in row["lv_tags"]
    ]


def one_snapshot(guest: Guest, origin: str, runs: int) -> dict[str, Any]:
    """`rokctl snapshot create`, and in turn with it the programs that it is compared with: the least of each, in seconds."""
    walls: dict[str, list[float]] = {}
    for number in range(runs + 1):
        plain = ("lvcreate", "-q", "--snapshot", "--setactivationskip", "n", "--name", f"plain{number}", origin)
        taken = {
            "python": guest.run(sys.executable, "-c", "pass"),
            "start": guest.run(*BARE_TYPER),
            "lvs": guest.run("lvs", "--options", "lv_name,lv_tags,lv_active_locally"),
            "lvcreate": guest.run(*plain),
            "rokctl": guest.rokctl("snapshot", "create", f"bench/v0@one{number}")[1],
        }
        if number:  # the first of each only warms up
            for name, cost in taken.items():
                walls.setdefault(name, []).append(cost.wall)
    return {name: min(times) for name, times in walls.items()}


def group(guest: Guest, rows: Sequence[dict[str, str]], runs: int) -> dict[str, Any]:
    """How long I/O stands still while all volumes are snapshotted, by the writer's account: the least of all runs."""
    ways: dict[str, Callable[[int], None]] = {
        "rokctl": lambda number: by_rokctl(guest, number),
        "lvcreate": lambda number: by_lvcreate(rows, number),
        "dmsetup": lambda number: by_dmsetup(rows),
        "nothing": lambda number: time.sleep(1),
    }
    stretches: dict[str, list[tuple[float, float]]] = {}
    with writing([row["lv_path"] for row in rows], guest.folder) as moments:
        for number in range(runs):
            for name, take in ways.items():
                begun = time.monotonic()
                take(number)
                stretches.setdefault(name, []).append((begun, time.monotonic()))
                time.sleep(0.3)
    gaps = {name: [longest_gap(moments, *stretch) for stretch in found] for name, found in stretches.items()}
    span = moments[-1] - moments[0]
    return {  # the least: other work on the machine only adds
        "standstill": {name: min(found) for name, found in gaps.items()},
        "gaps": gaps,
        "writes_per_second": len(moments) / span,
        "inside": inside(rows),
    }


def by_rokctl(guest: Guest, number: int) -> None:
    """One command for all."""
    guest.rokctl("snapshot", "create", *(f"bench/v{volume}@group{number}" for volume in range(VOLUMES)))


def by_lvcreate(rows: Sequence[dict[str, str]], number: int) -> None:
    """One after another, which is no consistent group."""
    for row in rows:
        sh("lvcreate", "-q", "-s", "-kn", "-n", f"{row['lv_name']}.plain{number}", row["full"])


def by_dmsetup(rows: Sequence[dict[str, str]]) -> None:
    """Suspend all, take all by messages, resume all: consistent, by programs as a script would do it."""
    devices = [row["device"] for row in rows]
    pool = sh("dmsetup", "deps", "-o", "devname", devices[0]).split("(")[1].split(")")[0]
    ids = list(enumerate((row["thin_id"] for row in rows), FIRST_FREE_ID))
    sh("dmsetup", "suspend", *devices)
    try:
        for new, origin in ids:
            sh("dmsetup", "message", pool, "0", f"create_snap {new} {origin}")
    finally:
        sh("dmsetup", "resume", *devices)
    for new, _ in ids:
        sh("dmsetup", "message", pool, "0", f"delete {new}")


def inside(rows: Sequence[dict[str, str]]) -> dict[str, float]:
    """Where the time goes: the seconds of each kind of call while a group is taken, and from the first to the last."""
    from engine.device import lvmgroup
    from engine.device.dm import Address, Control, control
    from engine.device.lvmreport import logical_volumes
    from engine.device.lvmview import view

    spent: dict[str, float] = {}
    moments: list[float] = []

    class Timed(Control):
        def _call(self, command: int, verb: str, address: Address, **options: Any) -> bytearray:
            begun = time.perf_counter()
            try:
                return super()._call(command, verb, address, **options)
            finally:
                ended = time.perf_counter()
                kind = "create_snap" if "create_snap" in verb else "delete" if "delete" in verb else verb
                spent[kind] = spent.get(kind, 0.0) + ended - begun
                if kind in ("suspend", "resume"):
                    moments.extend((begun, ended))

    @contextmanager
    def timed() -> Iterator[Control]:
        with control() as devices:
            yield Timed(devices._file)

    for row in rows:
        sh("lvcreate", "-q", "-s", "-kn", "-an", "-n", f"{row['lv_name']}.inside", row["full"])
    known = {row.name: row for row in logical_volumes(rows[0]["vg_name"])}
    seen = view(next(row.uuid for row in known.values() if row.is_thin_pool), list(known.values()))
    assert seen is not None
    prepared = [lvmgroup.Prepared(known[row["lv_name"]], known[f"{row['lv_name']}.inside"]) for row in rows]
    with patch.object(lvmgroup, "control", timed):  # the same calls, with a watch in hand
        lvmgroup.take(seen, prepared)
    last_taken = moments[2 * len(rows) + 2 * len(rows) - 1]  # the resumes at the end find all running
    return {**spent, FROM_SUSPEND_TO_RESUME: last_taken - moments[0]}
