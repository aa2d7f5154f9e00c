"""What a node feels: the start of a command, the taking of snapshots, and the daily push beside restic.

The start is measured here. Snapshots and pushes are measured on a real kernel with device-mapper, in User Mode Linux, which
needs root and the Debian packages of scripts/test-kernel; restic is the Debian package. Each row is a ratio to something
that is measured beside it, in turns: processes start ten times as slowly there as on the machine itself.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmark.guest_snapshot import FROM_SUSPEND_TO_RESUME
from benchmark.measure import (
    MIB,
    ROOT,
    Cost,
    clean_environment,
    exit_code,
    leave,
    median,
    require_space,
    run,
    say,
    workspace,
)

SNAPSHOTS: Final = 100
GUEST_SECONDS: Final = 3600
BARE: Final = "import typer"
LIST: Final = f"snapshot list, {SNAPSHOTS} of them"

# The targets of --check.
START: Final = 1.3  # times a bare typer program
LISTING: Final = 0.2  # CPU seconds
ONE_SNAPSHOT: Final = 1.2  # times `lvcreate -s` and the start of a bare typer program
STANDSTILL: Final = 0.010  # seconds
READ: Final = 0.05  # of the allocated data
OF_RESTIC: Final = 0.1  # of its wall time, and of its CPU time


@dataclass(frozen=True, slots=True)
class Row:
    """One figure, what it is compared with, and how large it may be: `most` times that, or in itself where that is None."""

    what: str
    value: float
    beside: float | None
    most: float | None

    @property
    def ratio(self) -> float:
        """What `most` is the limit of."""
        return self.value if self.beside is None else self.value / self.beside


def main(words: Sequence[str]) -> int:
    """Measure everything, and print the table."""
    options = parse(words)
    with workspace() as folder:
        starts = measure_starts(folder, options.start_runs)
        guest = measure_guest(folder, options) if options.guest else {}
    rows = [*start_rows(starts), *(snapshot_rows(guest["snapshot"]) if guest else []), *push_rows(guest)]
    if options.json:
        starts_record = {name: asdict(cost) for name, cost in starts.items()}
        print(
            json.dumps({"start": starts_record, **guest, "rows": [asdict(row) | {"ratio": row.ratio} for row in rows]})
        )
    else:
        print(table(rows))
    failures = missed(rows, guest) if options.check else []
    return exit_code(failures, "node")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; what cannot be run is refused before anything is made."""
    parser = argparse.ArgumentParser(prog="scripts/bench node", description="Measure what a node feels")
    parser.add_argument("--start-runs", type=int, default=21, help="of each command that only starts (default 21)")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement on the kernel (default 3)")
    parser.add_argument("--data", type=int, default=1024, help="MiB in the volumes that are pushed (default 1024)")
    parser.add_argument("--no-guest", dest="guest", action="store_false", help="measure the start alone")
    parser.add_argument("--no-push", dest="push", action="store_false", help="leave out the daily push")
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args(words)
    if options.runs < 1 or options.start_runs < 1 or options.data < 64:
        parser.error("--runs and --start-runs start at 1, and --data at 64")
    missing = [
        name for name in ("linux.uml", "lvs", "thin_delta", "mkfs.xfs", "mkfs.ext4", "fincore") if not find(name)
    ]
    if options.guest and (missing or os.geteuid() != 0):
        reason = f"{missing[0]} is not installed (see scripts/test-kernel)" if missing else "it needs root"
        leave(f"no kernel to measure on: {reason}; --no-guest measures the start alone")
    if options.guest and options.push:
        if not find("restic"):
            say("scripts/bench node: restic is not installed: its rows are left out (Debian package restic)")
        require_space(10 * options.data * MIB)
    return options


def find(program: str) -> str | None:
    """Where a program is; root's own folders too."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


# The start


def measure_starts(folder: Path, runs: int) -> dict[str, Cost]:
    """The commands in turn, after one run of each that leaves its bytecode: medians."""
    environment = {
        **clean_environment(),
        "PYTHONPATH": str(ROOT),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "ROKCTL_STATE_DIR": str(folder / "state"),
    }
    make_snapshots(folder, environment)
    commands = {
        BARE: ("-c", "import typer"),
        "rokctl --help": ("-m", "rokctl", "--help"),
        "rokctl --version": ("-m", "rokctl", "--version"),
        "kalec --help": ("-m", "kalec", "--help"),
        LIST: ("-m", "rokctl", "snapshot", "list", "bench"),
    }
    costs: dict[str, list[Cost]] = {}
    for number in range(runs + 1):
        for name, words in commands.items():
            cost = run([sys.executable, *words], environment, folder)[1]
            if number:
                costs.setdefault(name, []).append(cost)
    return {name: median(found) for name, found in costs.items()}


def make_snapshots(folder: Path, environment: Mapping[str, str]) -> None:
    """A directory pool with many snapshots of a volume of nothing."""
    run([sys.executable, "-m", "rokctl", "pool", "create", "bench", "--dir", str(folder / "pool")], environment, folder)
    from engine.clock import SystemClock
    from engine.device.directory import DirectoryPool

    pool = DirectoryPool(folder / "pool", SystemClock(), os.urandom)
    pool.create_volume("volume", MIB)
    for number in range(SNAPSHOTS):
        pool.create_snapshots({"volume": f"s{number}"})


def start_rows(costs: Mapping[str, Cost]) -> list[Row]:
    """Each command beside a bare typer program; the listing by itself too."""
    bare, listing = costs[BARE], costs[LIST]
    rows = []
    for name in (name for name in costs if name not in (BARE, LIST)):
        cost = costs[name]
        rows += [Row(f"{name}, CPU s", cost.cpu, bare.cpu, START), Row(f"{name}, wall s", cost.wall, bare.wall, START)]
    return [*rows, Row(f"{LIST}, CPU s", listing.cpu, None, LISTING), Row("  the same", listing.cpu, bare.cpu, None)]


# On the kernel


def measure_guest(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Boot, and let the guest measure."""
    shared = folder / "shared"
    shared.mkdir()
    (shared / "options").write_text(json.dumps({"runs": options.runs, "data": options.data, "push": options.push}))
    disks = []
    for name, mkfs in (
        ("lvm", ()),
        ("repositories", ("mkfs.ext4", "-q")),
        ("files", ("mkfs.xfs", "-q", "-m", "reflink=1")),
    ):
        disk = folder / name
        with disk.open("wb") as file:
            file.truncate(max(4096, 8 * options.data) * MIB)
        if mkfs:
            subprocess.run([str(find(mkfs[0])), *mkfs[1:], str(disk)], check=True)
        disks += ["--disk", str(disk)]
    python = "import sys; sys.path[:0] = sys.argv[1:3]; from benchmark.guest import main; main(sys.argv[3:])"
    words = [str(ROOT), str(ROOT / "scripts"), str(shared / "options"), str(shared / "result")]
    say("booting a kernel of its own")
    uml = [
        str(ROOT / "scripts" / "uml"),
        "--memory",
        "1536M",
        "--seconds",
        str(GUEST_SECONDS),
        "--share",
        str(shared),
        *disks,
    ]
    ran = subprocess.run([*uml, "--", sys.executable, "-c", python, *words], stdout=sys.stderr, check=False)
    if ran.returncode != 0:
        leave(f"the guest ended with {ran.returncode}", code=1)
    result: dict[str, Any] = json.loads((shared / "result").read_text())
    return result


def snapshot_rows(found: Mapping[str, Any]) -> list[Row]:
    """One snapshot, and a group."""
    one, group = found["one"], found["group"]
    made = one["rokctl"]
    still = group["standstill"]
    return [
        Row("snapshot create, s (lvcreate -s, import typer)", made, one["lvcreate"] + one["start"], ONE_SNAPSHOT),
        Row("  the same (lvcreate -s, lvs, import typer)", made, one["lvcreate"] + one["lvs"] + one["start"], None),
        Row("  the same (lvcreate -s, python -c pass)", made, one["lvcreate"] + one["python"], None),
        Row("a group of 8 under load: no I/O for s", still["rokctl"], None, STANDSTILL),
        Row("  the same (8 times lvcreate -s)", still["rokctl"], still["lvcreate"], None),
        Row("  the same (dmsetup suspend, message, resume)", still["rokctl"], still["dmsetup"], 1.0),
        Row("  the same (nothing going on)", still["rokctl"], still["nothing"], None),
        Row("  from the first suspend to the last resume, s", group["inside"][FROM_SUSPEND_TO_RESUME], None, None),
    ]


def push_rows(guest: Mapping[str, Any]) -> list[Row]:
    """The daily push of each kind of volume."""
    rows = []
    for kind in ("thin", "reflink"):
        if kind not in guest:
            continue
        found = guest[kind]
        ours, cache = found["daily"]["rokctl"], found["page_cache"]
        rows += [
            Row(f"daily push, {kind}: bytes read (allocated)", found["read"], found["allocated"], READ),
            Row("  read by the disk's account (allocated)", found["read_by_disk"], found["allocated"], None),
        ]
        if restic := found["daily"].get("restic"):
            rows += [
                Row("  wall s (restic)", ours["wall"], restic["wall"], OF_RESTIC),
                Row("  CPU s (restic)", ours["cpu"], restic["cpu"], OF_RESTIC),
            ]
        rows += [
            Row("  wall s (a push of nothing)", ours["wall"], found["profile"]["push of nothing"], None),
            Row("  an application's cached bytes lost", cache["before"] - cache["after"], None, 0),
        ]
    return rows


def table(rows: Sequence[Row]) -> str:
    """For people."""
    lines = [f"{'(beside)':<52} {'value':>12} {'beside':>12} {'ratio':>8} {'at most':>8}"]
    for row in rows:
        beside, ratio = ("", "") if row.beside is None else (number(row.beside), f"{row.ratio:.3f}")
        most = "" if row.most is None else f"{row.most:g}"
        lines.append(f"{row.what:<52} {number(row.value):>12} {beside:>12} {ratio:>8} {most:>8}")
    return "\n".join(lines)


def number(value: float) -> str:
    """Seconds with milliseconds, and whole numbers as they are."""
    return f"{value:,}" if float(value).is_integer() else f"{value:.3f}"


def missed(rows: Sequence[Row], guest: Mapping[str, Any]) -> list[str]:
    """The targets that were missed, in sentences."""
    found = [
        f"{row.what.strip()} is {row.ratio:.3f}, and may be {row.most:g}"
        for row in rows
        if row.most is not None and row.ratio > row.most
    ]
    if not all("restic" in guest.get(kind, {}).get("daily", {}) for kind in ("thin", "reflink")):
        found.append("the daily push was not compared with restic")
    return found
