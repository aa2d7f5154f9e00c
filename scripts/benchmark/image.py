"""An image file, pushed, changed, pushed again, restored and checked, beside zstd and beside the machine's own limit.

Each phase is a process of its own, through the real command line: start-up, opening the repository and fsync are counted. What a
phase reads has been read once before it, so that the processor is measured and not the disk.
"""

import argparse
import json
import os
import random
import shutil
import sys
import sysconfig
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from benchmark.measure import (
    CORES,
    MIB,
    ROOT,
    Cost,
    clean_environment,
    data_extents,
    exit_code,
    in_another_process,
    leave,
    median,
    require_space,
    rokctl,
    rokctl_state,
    run,
    same_bytes,
    say,
    warm,
    workspace,
)
from benchmark.pagecache import cached_bytes, changed_by, drop

BLOCK: Final = 4096

# The targets of --check.
PUSH_IN_ZSTD: Final = (
    1.5  # the wall time of the first push, as a multiple of zstd's for the same data, without the holes
)
PEAK_MEMORY: Final = 256 * MIB

FIRST_PUSH, SECOND_PUSH, RESTORE, CHECK = "first push", "second push", "restore", "check --read-data"
ZSTD_FILE, ZSTD_DATA = "zstd of the file", "zstd of its data"
LIMIT, RESTORE_LIMIT = "the machine's limit", "the limit of a restore"

PUSH_CACHE, RESTORE_CACHE = "a push", "a restore"
CACHE_CHANGE: Final = 0.01  # of the data: the kernel takes pages back when other programs want memory

IMAGE_SIZE: Final = 2048 * MIB
IMAGE_DATA: Final = 800 * MIB
STRETCH: Final = 16 * MIB  # of data, then of free space, in the image that is made
SCATTERED_WRITES: Final = 256
APPENDED: Final = 8 * MIB


def main(words: Sequence[str]) -> int:
    """Make what is missing, run the phases in turn, print the table."""
    options = parse(words)
    with workspace(keep=options.keep) as folder:
        bench = Bench(folder, options.image or make_image(folder), options.level)
        for number in range(options.runs):
            say(f"run {number + 1} of {options.runs}")
            bench.run()
    rows = bench.medians()
    changes = bench.cache_changes
    print(json.dumps(record(options, rows, changes)) if options.json else table(options, rows, changes))
    failures = missed(rows, changes) if options.check else []
    return exit_code(failures)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; what cannot be run is refused before anything is made."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure rokctl beside zstd and the machine's limit"
    )
    parser.add_argument(
        "image", nargs="?", type=Path, help="the file to push (default: 2 GiB are made, 0.8 GiB of it data)"
    )
    parser.add_argument("--level", type=int, default=1, help="the zstd level of everything here (default 1)")
    parser.add_argument(
        "--runs", type=int, default=1, help="all phases in turn, so often; medians are shown (default 1)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder, and say where it is")
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args(words)
    if options.runs < 1 or not 1 <= options.level <= 19:
        parser.error("--runs starts at 1, and --level goes from 1 to 19")
    if options.image is not None and not options.image.is_file():
        leave(f"{options.image} is no file that exists")
    # A volume, two snapshots, the data alone, a repository, a restored file, zstd's output; and the image that is made.
    require_space(64 * MIB + (7 * options.image.stat().st_blocks * 512 if options.image else 8 * IMAGE_DATA))
    return options


# The image


def make_image(folder: Path) -> Path:
    """The image for who has none. Another process makes it: the kernel counts our peak of memory to those that we measure."""
    say(f"making an image of {IMAGE_SIZE // MIB} MiB, {IMAGE_DATA // MIB} of them data")
    image = folder / "image"
    in_another_process(lambda: write_image(image), "the image could not be made")
    return image


def write_image(image: Path) -> None:
    """A sparse image laid out as filesystems do it: files on 4 KiB boundaries, their ends padded with zeros, holes between."""
    written = end = 0
    with image.open("wb") as file:
        for body in file_bodies():
            if end // STRETCH % 2:  # in free space: go on behind it
                end = (end // STRETCH + 1) * STRETCH
            file.seek(end)
            file.write(body[: IMAGE_DATA - written])
            written += len(body)
            end += -(-len(body) // BLOCK) * BLOCK
            if written >= IMAGE_DATA:
                break
        file.truncate(IMAGE_SIZE)


def file_bodies() -> Iterator[bytes]:
    """What a workspace holds: the installed Python libraries, then tables, numbers and noise, these the same each time."""
    for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*")):
        if path.is_file():
            yield path.read_bytes()
    chosen = random.Random(2026)
    while True:
        walk = array("d", accumulate(chosen.gauss(0, 1) for _ in range(1 << 17)))
        yield "".join(f"{row},{value:.3f},{value > 0}\n" for row, value in enumerate(walk)).encode()
        yield walk.tobytes()
        yield chosen.randbytes(4 * MIB)


def change(volume: Path) -> None:
    """A day's work on a mounted volume: small writes here and there in its data, and a new file in free space."""
    chosen = random.Random(2026)  # the same change each time
    with volume.open("r+b") as file:
        extents = list(data_extents(file.fileno()))
        for start, end in chosen.choices(extents, [end - start for start, end in extents], k=SCATTERED_WRITES):
            os.pwrite(file.fileno(), chosen.randbytes(BLOCK), chosen.randrange(start, end) // BLOCK * BLOCK)
        size = volume.stat().st_size
        gaps = zip([0, *(end for _, end in extents)], [*(start for start, _ in extents), size], strict=True)
        place = next((start for start, end in gaps if end - start >= APPENDED), max(0, size - APPENDED))
        os.pwrite(file.fileno(), chosen.randbytes(min(APPENDED, size)), place)
        os.fsync(file.fileno())


# The phases


class ChangedVolume:
    """An image in a pool of a node, with a snapshot `before` a change and one `after` it."""

    def __init__(self, folder: Path, image: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, environment
        say("making a volume and two snapshots of it")
        self.rokctl("pool", "create", "bench", "--dir", str(folder / "pool"))
        self.rokctl("volume", "import", "bench/volume", str(image))
        self.before = self._snapshot("before")
        change(self._path("volume", "bench/volume"))
        self.after = self._snapshot("after")

    def rokctl(self, *words: str) -> str:
        """What a command of the node printed."""
        return run(rokctl(*words), self._environment, self._folder)[0]

    def _snapshot(self, name: str) -> Path:
        self.rokctl("snapshot", "create", f"bench/volume@{name}")
        return self._path("snapshot", f"bench/volume@{name}")

    def _path(self, noun: str, name: str) -> Path:
        return Path(json.loads(self.rokctl(noun, "show", name))["path"])


class Bench:
    """One image in a pool, changed, and what each run of the phases cost."""

    def __init__(self, folder: Path, image: Path, level: int) -> None:
        self._folder, self._level = folder, level
        self._environment = {
            **clean_environment(),
            **rokctl_state(folder),
            "ROKCTL_REPOSITORY": str(folder / "repository"),
        }
        self._zstd = shutil.which("zstd")
        if self._zstd is None:
            say("zstd is not installed: its rows are left out (Debian package zstd)")
        self._costs: dict[str, list[Cost]] = {}
        self.cache_changes: dict[str, int] = {}
        self._volume = ChangedVolume(folder, image, self._environment)
        self._data = folder / "data"
        copy_data(self._volume.before, self._data)

    def run(self) -> None:
        """All phases, on a repository of their own."""
        before, after = self._volume.before, self._volume.after
        repository, restored, compressed = (self._folder / name for name in ("repository", "restored", "compressed"))
        push = ("snapshot", "push", "--compression", str(self._level))
        self._volume.rokctl("repo", "init")
        self._measure_rokctl(FIRST_PUSH, [before], *push, "bench/volume@before")
        self._measure_rokctl(SECOND_PUSH, [after], *push, "bench/volume@after")
        packs = sorted(repository.rglob("*"))
        self._measure_rokctl(RESTORE, packs, "restore", "bench/volume", "--to-file", str(restored))
        self._measure_rokctl(CHECK, packs, "repo", "check", "--read-data")
        if not same_bytes(restored, after):
            leave("the restored file differs from the snapshot", code=1)
        restored.unlink()
        if self._zstd is not None:
            for phase, source in ((ZSTD_FILE, before), (ZSTD_DATA, self._data)):
                command = [self._zstd, "-q", f"-{self._level}", f"-T{CORES}", str(source), "-o", str(compressed)]
                self._measure(phase, [source], command)
                compressed.unlink()
        self._measure_limits(before, restored)
        self._watch_page_cache(before, packs, restored)
        shutil.rmtree(repository)

    def _watch_page_cache(self, source: Path, packs: Sequence[Path], restored: Path) -> None:
        """Of the source, and of a file that has nothing to do with it, a half is in the cache. What is new is in none."""
        say("  watching the page cache")
        files = [source, self._data]

        def push() -> None:
            self._volume.rokctl("snapshot", "push", "--full", "bench/volume@before")

        def restore() -> None:
            self._volume.rokctl("restore", "bench/volume", "--to-file", str(restored))

        blobs = [path for path in packs if path.is_file()]
        for path in blobs:
            drop(path)
        self.cache_changes = {PUSH_CACHE: changed_by(push, files), RESTORE_CACHE: changed_by(restore, files)}
        self.cache_changes[RESTORE_CACHE] += sum(map(cached_bytes, [restored, *blobs]))
        restored.unlink()

    def _measure_limits(self, source: Path, restored: Path) -> None:
        limit = [sys.executable, str(ROOT / "scripts" / "bench"), "limit"]
        level = ["--level", str(self._level)]
        sealed = self._folder / "sealed"
        self._measure(LIMIT, [source], [*limit, "push", str(source), *level])
        run([*limit, "seal", str(source), str(sealed), *level], self._environment, self._folder)
        self._measure(RESTORE_LIMIT, [sealed], [*limit, "restore", str(sealed), str(restored)])
        if not same_bytes(restored, source):
            leave("what the limit of a restore wrote differs from the snapshot", code=1)
        for path in (restored, *self._folder.glob("sealed*")):
            path.unlink()

    def _measure_rokctl(self, phase: str, reads: Sequence[Path], *words: str) -> None:
        self._measure(phase, reads, rokctl(*words))

    def _measure(self, phase: str, reads: Sequence[Path], command: Sequence[str]) -> None:
        os.sync()  # nobody pays for what another wrote
        for path in reads:
            warm(path)
        _, cost = run(command, self._environment, self._folder)
        self._costs.setdefault(phase, []).append(cost)
        say(f"  {phase}: {cost.wall:.2f} s")

    def medians(self) -> Mapping[str, Cost]:
        """Each phase, and the median of each of its figures."""
        return {phase: median(costs) for phase, costs in self._costs.items()}


def copy_data(source: Path, target: Path) -> None:
    """The data of a sparse file, without the holes: a compressor that reads them too is easy to beat."""
    with source.open("rb", buffering=0) as file, target.open("wb") as dense:
        for start, end in data_extents(file.fileno()):
            for position in range(start, end, MIB):
                dense.write(os.pread(file.fileno(), min(MIB, end - position), position))


# The answer


def table(options: argparse.Namespace, rows: Mapping[str, Cost], cache_changes: Mapping[str, int]) -> str:
    """For people: seconds, and MiB."""
    line = "{:20}{:>10}{:>10}{:>12}{:>12}{:>12}".format
    lines = [f"zstd level {options.level}, {CORES} cores, medians of {options.runs}"]
    lines += [line("", "wall s", "CPU s", "read MiB", "written MiB", "peak MiB")]
    for phase, cost in rows.items():
        sizes = (f"{size / MIB:.1f}" for size in (cost.read, cost.written, cost.peak))
        lines.append(line(phase, f"{cost.wall:.2f}", f"{cost.cpu:.2f}", *sizes))
    for name, ratio in ratios(rows).items():
        lines.append(f"{name}: {ratio:.2f}")
    for name, changed in cache_changes.items():
        lines.append(f"{name} changed {changed / MIB:.1f} MiB of what was in the page cache of others")
    return "\n".join(lines)


def ratios(rows: Mapping[str, Cost]) -> dict[str, float]:
    """The first push, and the restore, in the wall time of the others."""
    pairs = [(FIRST_PUSH, name) for name in (ZSTD_FILE, ZSTD_DATA, LIMIT)] + [(RESTORE, RESTORE_LIMIT)]
    return {f"{one} / {name}": rows[one].wall / rows[name].wall for one, name in pairs if name in rows}


def record(options: argparse.Namespace, rows: Mapping[str, Cost], cache_changes: Mapping[str, int]) -> dict[str, Any]:
    """For scripts: seconds, and bytes."""
    return {
        "image": str(options.image) if options.image else None,
        "level": options.level,
        "runs": options.runs,
        "cores": CORES,
        "phases": {phase: asdict(cost) for phase, cost in rows.items()},
        "ratios": ratios(rows),
        "page_cache_changes": dict(cache_changes),
    }


def missed(rows: Mapping[str, Cost], cache_changes: Mapping[str, int]) -> list[str]:
    """The targets that were missed, each in a sentence."""
    failures = [
        f"{name} changed {changed // MIB} MiB of the page cache"
        for name, changed in cache_changes.items()
        if changed > CACHE_CHANGE * rows[FIRST_PUSH].read
    ]
    if ZSTD_DATA not in rows:
        failures.append("without zstd nothing can be compared with it")
    elif rows[FIRST_PUSH].wall > PUSH_IN_ZSTD * rows[ZSTD_DATA].wall:
        failures.append(f"the first push took more than {PUSH_IN_ZSTD} times as long as zstd takes for the same data")
    for phase in (FIRST_PUSH, SECOND_PUSH, RESTORE, CHECK):
        if rows[phase].peak > PEAK_MEMORY:
            failures.append(f"{phase} took {rows[phase].peak // MIB} MiB of memory, more than {PEAK_MEMORY // MIB}")
    return failures
