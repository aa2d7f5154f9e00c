"""The daily push in the guest: of a thin volume and of a reflinked file, beside restic reading the same snapshot.

A day's work changes 6 % of the data, as whole files: a part is written anew, a part is added, a part is removed. As most
files, they end within a block. restic (which has no way to know what changed in a device) reads it all, from the device or the
file that rokctl reads.
"""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmark.guest import PLACE, Guest, drop_caches, sh
from benchmark.measure import MIB, Cost, median

FILE_SIZE: Final = 1 * MIB  # in the mean
REWRITTEN, ADDED, REMOVED = 0.025, 0.015, 0.020
APPLICATION_FILE: Final = 48 * MIB
_FEW_SYMBOLS: Final = bytes(64 + number % 16 for number in range(256))  # four bits of each byte are noise


def measure(guest: Guest, options: dict[str, Any]) -> dict[str, Any]:
    """Both kinds of volume, each with repositories of its own."""
    size, runs, restic = options["data"] * MIB, options["runs"], shutil.which("restic")
    guest.rokctl("pool", "create", "files", "--dir", str(PLACE / "files" / "pool"))
    result = {}
    for kind, pool in (("thin", "bench"), ("reflink", "files")):
        name = f"{pool}/work"
        guest.rokctl("volume", "create", name, "--size", str(2 * size))
        path = guest.rokctl("volume", "show", name)[0]["path"]
        sh("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", path)
        result[kind] = Days(guest, kind, name, path, size, restic).measure(runs)
        guest.rokctl("snapshot", "remove", *(f"{name}@{s}" for s in result[kind].pop("snapshots")))
        for repository in (PLACE / "repositories").glob(f"*-{kind}"):
            shutil.rmtree(repository)
    return result


class Days:
    """One volume over several days."""

    def __init__(self, guest: Guest, kind: str, name: str, path: str, size: int, restic: str | None) -> None:
        repositories = {
            f"{tool}_REPOSITORY": str(PLACE / "repositories" / f"{tool.lower()}-{kind}")
            for tool in ("ROKCTL", "RESTIC")
        }
        self._guest = Guest(guest.folder, {**guest.environment, **repositories})
        self._kind, self._name, self._path, self._size, self._restic = kind, name, path, size, restic
        self._work = Work(random.Random(2026), size)
        self._snapshots: list[str] = []

    def measure(self, runs: int) -> dict[str, Any]:
        """The first push, and `runs` days after it: the medians of the daily costs."""
        self._guest.rokctl("repo", "init")
        if self._restic:
            self._guest.run(self._restic, "init")
        first = self._day(self._work.begin)
        days = [self._day(self._work.go_on) for _ in range(runs)]
        allocated = days[-1]["allocated"]
        daily = {tool: median([Cost(**day[tool]) for day in days]) for tool in ("rokctl", "restic") if tool in days[0]}
        return {
            "allocated": allocated,
            "changed": self._work.changed,
            "read": sorted(day["read"] for day in days)[runs // 2],
            "read_by_disk": sorted(day["read_by_disk"] for day in days)[runs // 2],
            "first": {tool: first[tool] for tool in daily},
            "daily": {tool: asdict(cost) for tool, cost in daily.items()},
            "page_cache": days[-1]["page_cache"],
            "profile": self._profile(),
            "snapshots": self._snapshots,
        }

    def _day(self, work: Callable[[Path], None]) -> dict[str, Any]:
        with self._mounted() as folder:
            work(folder)
        name = f"{self._name}@day{len(self._snapshots)}"
        taken, _ = self._guest.rokctl("snapshot", "create", name)
        self._snapshots.append(name.partition("@")[2])
        drop_caches()
        cached = self._application()
        before, buffers, statistics = resident(cached), device_cache(), sectors_read(taken["path"])
        report, cost = self._guest.rokctl("snapshot", "push", name)
        read_by_disk = (sectors_read(taken["path"]) - statistics) * 512
        day: dict[str, Any] = {
            "allocated": report["data"],
            "read": report["read"],
            "read_by_disk": read_by_disk,
            "page_cache": {
                **{"before": before, "after": resident(cached)},
                **{"devices_before": buffers, "devices_after": device_cache()},
            },
            "rokctl": asdict(cost),
        }
        if self._restic:
            drop_caches()
            day["restic"] = asdict(self._restic_backup(taken["path"]))
        return day

    def _restic_backup(self, path: str) -> Cost:
        if self._kind == "reflink":
            return self._guest.run(str(self._restic), "backup", "--quiet", path)
        return self._guest.run(
            "sh", "-c", f"exec {self._restic} backup --quiet --stdin --stdin-filename volume <{path}"
        )

    def _profile(self) -> dict[str, float]:
        """What the next push takes when nothing has changed, its fixed part; and parts of that: wall seconds."""
        name = f"{self._name}@idle"
        self._guest.rokctl("snapshot", "create", name)
        self._snapshots.append("idle")
        _, push = self._guest.rokctl("snapshot", "push", name)
        _, listing = self._guest.rokctl("version", "list")
        _, start = self._guest.rokctl("snapshot", "list", self._name)
        return {
            "push of nothing": push.wall,
            "version list": listing.wall,
            "snapshot list": start.wall,
        }

    @contextmanager
    def _mounted(self) -> Iterator[Path]:
        folder = PLACE / "mounted"
        folder.mkdir(exist_ok=True)
        options = ["-o", "loop"] if self._kind == "reflink" else []
        sh("mount", *options, self._path, str(folder))
        try:
            yield folder
        finally:
            sh("umount", str(folder))

    def _application(self) -> Path:
        """A file that some application has in the page cache."""
        path = PLACE / "files" / "application"
        if not path.exists():
            path.write_bytes(os.urandom(APPLICATION_FILE))
            drop_caches()
        path.read_bytes()
        return path


class Work:
    """The files of a workspace, and what a day does to them. The same each time."""

    def __init__(self, chance: random.Random, size: int) -> None:
        self._chance = chance
        self._count = size // FILE_SIZE
        self._sizes: dict[int, int] = {}  # by the numbers that the files are named by
        self._next = 0
        self.changed = 0  # bytes, on the last day: written and removed

    def begin(self, folder: Path) -> None:
        """Fill it."""
        self._add(folder, self._count)

    def go_on(self, folder: Path) -> None:
        """A day's work."""
        names = list(self._sizes)
        self._chance.shuffle(names)
        removed, rewritten, added = (int(self._count * part) for part in (REMOVED, REWRITTEN, ADDED))
        self.changed = sum(self._remove(folder, name) for name in names[:removed])
        self.changed += sum(self._write(folder, name) for name in names[removed : removed + rewritten])
        self.changed += self._add(folder, added)

    def _remove(self, folder: Path, name: int) -> int:
        (folder / str(name)).unlink()
        return self._sizes.pop(name)

    def _add(self, folder: Path, count: int) -> int:
        first, self._next = self._next, self._next + count
        return sum(self._write(folder, name) for name in range(first, self._next))

    def _write(self, folder: Path, name: int) -> int:
        body = self._body()
        (folder / str(name)).write_bytes(body)
        self._sizes[name] = len(body)
        return len(body)

    def _body(self) -> bytes:
        """Noise, and as much that can be compressed to half."""
        half = self._chance.randrange(FILE_SIZE // 4, 3 * FILE_SIZE // 4)
        return self._chance.randbytes(half) + self._chance.randbytes(half).translate(_FEW_SYMBOLS)


def sectors_read(path: str) -> int:
    """How many sectors of 512 bytes were read of the device, or of the disk that the file lies on, since boot."""
    status = os.stat(path)  # noqa: PTH116 - the device, or the file's
    number = status.st_rdev or status.st_dev
    text = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat").read_text()
    return int(text.split()[2])


def resident(path: Path) -> int:
    """How many bytes of a file are in the page cache."""
    report = subprocess.run(["fincore", "--json", "--bytes", str(path)], capture_output=True, text=True, check=True)
    return int(json.loads(report.stdout)["fincore"][0]["res"])


def device_cache() -> int:
    """How many bytes of block devices are in the page cache."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Buffers:"))
