"""A thin volume of 1 TiB of which 1 MiB has changed: what a push of it takes beside `thin_delta`, and what it stores.

The pool's metadata is real, made by `thin_restore`: two thin volumes of 16 million data blocks in short runs, which differ in
16 of them. The volume is a sparse file that has content where the changes are, pushed in earnest; the other regions of its
base version are made up (see `madeup`). Of the push everything is real.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from benchmark.madeup import (
    BYTES_A_CHUNK,
    CHUNKS_IN_REGION,
    create_repository,
    make_volume,
    opened,
)
from benchmark.measure import (
    CORES,
    MIB,
    ROOT,
    exit_code,
    in_another_process,
    leave,
    require_space,
    say,
    warm,
    workspace,
)

# The targets of --check.
BEYOND_SECONDS: Final = 2.0  # what the push takes more than thin_delta
STORED: Final = 2 * MIB
PEAK_MEMORY: Final = 256 * MIB

DATA_BLOCK: Final = 64 << 10
REGION: Final = 64 * MIB
DATA_BLOCKS: Final = (1 << 40) // DATA_BLOCK
RUN: Final = 16  # data blocks that lie together in the pool
CHANGES: Final = 16  # data blocks
CONTENT: Final = 8 * MIB  # of each region that has a change, from its start
METADATA_BYTES: Final = 80  # for each mapping of both volumes, and room to spare
TOOLS: Final = ("thin_restore", "thin_delta")
PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Layout:
    """How many data blocks the volume has, and at how many places it has changed."""

    data_blocks: int
    places: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.data_blocks * DATA_BLOCK

    @property
    def regions(self) -> list[int]:
        """Those that have a change, each by its number."""
        count = self.size // REGION
        return [(2 * place + 1) * count // (2 * self.places) for place in range(self.places)]

    @property
    def changed(self) -> list[int]:
        """The data blocks that differ: of each of the regions a run somewhere in its content."""
        first = CONTENT // DATA_BLOCK // 3
        run = range(first, first + CHANGES // self.places)
        return [region * REGION // DATA_BLOCK + block for region in self.regions for block in run]


def main(words: Sequence[str]) -> int:
    """Make the pool and the repository, push, print what it took."""
    options = parse(words)
    layout = Layout(options.data_blocks, options.places)
    if options.phase:
        print(json.dumps(push_change(options.folder, layout)))
        return 0
    with workspace() as folder:
        record = measure(folder, layout)
    print(json.dumps(record) if options.json else "\n".join(lines(record)))
    failures = missed(record) if options.check else []
    return exit_code(failures, "volume")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; what cannot be run is refused before anything is made."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench volume", description="Measure the push of a large thin volume of which little has changed"
    )
    parser.add_argument(
        "--data-blocks", type=int, default=DATA_BLOCKS, help="its size in 64 KiB (default 16777216, which is 1 TiB)"
    )
    parser.add_argument(
        "--places", type=int, choices=(1, 2, 4, 8, 16), default=1, help="how many places share the change (default 1)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--phase", action="store_true", help=argparse.SUPPRESS)  # the process that is measured
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    a_region = REGION // DATA_BLOCK
    if options.data_blocks < CHANGES * a_region or options.data_blocks % a_region:
        parser.error(f"--data-blocks is a multiple of {a_region}, and {CHANGES * a_region} at least")
    if absent := [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]:
        leave(f"{' and '.join(absent)} not installed (Debian package thin-provisioning-tools)")
    if not options.phase:
        metadata = options.data_blocks * (METADATA_BYTES + 2 * 80 // RUN)
        chunks = options.data_blocks // a_region * CHUNKS_IN_REGION
        require_space(64 * MIB + metadata + 3 * CHANGES * CONTENT + chunks * BYTES_A_CHUNK)
    return options


def measure(folder: Path, layout: Layout) -> dict[str, Any]:
    """Both halves of the world, and the push."""
    say(
        f"making the metadata of two volumes of {layout.data_blocks} data blocks, which takes thin_restore some minutes"
    )
    in_another_process(lambda: make_metadata(folder, layout))
    say("making a repository that holds the older one")
    in_another_process(lambda: make_base(folder, layout))
    # The node has a cache: it has pushed the base.
    in_another_process(lambda: opened(folder).catalog.index_for_writing())
    warm(folder / "metadata")
    bench = [sys.executable, str(ROOT / "scripts" / "bench")]
    made = ["--folder", str(folder), "--data-blocks", str(layout.data_blocks), "--places", str(layout.places)]
    command = [*bench, "volume", "--phase", *made]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        leave("the push failed", code=1)
    report: dict[str, Any] = json.loads(done.stdout)
    return {**asdict(layout), "cores": CORES, **report}


# The pool


def make_metadata(folder: Path, layout: Layout) -> None:
    """What a pool with both volumes has on its metadata device."""
    described, metadata = folder / "metadata.xml", folder / "metadata"
    with described.open("w") as xml:
        xml.writelines(description(layout))
    with metadata.open("wb") as file:
        file.truncate(layout.data_blocks * METADATA_BYTES + 16 * MIB)
    command = ["thin_restore", "--quiet", "--input", str(described), "--output", str(metadata)]
    subprocess.run(command, check=True, env={**os.environ, "PATH": PATH}, stdout=subprocess.DEVNULL)
    described.unlink()


def description(layout: Layout) -> Iterator[str]:
    """The same as thin_restore reads it: runs of data blocks that lie here and there in the pool."""
    data_blocks = layout.data_blocks
    places = list(range(0, data_blocks, RUN))
    random.Random(2026).shuffle(places)  # the same each time
    changed = {block: data_blocks + number for number, block in enumerate(layout.changed)}
    yield (
        f'<superblock uuid="" time="1" transaction="1" version="2" data_block_size="{DATA_BLOCK // 512}" '
        f'nr_data_blocks="{data_blocks + CHANGES}">\n'
    )
    for thin_id in (1, 2):
        yield (
            f'<device dev_id="{thin_id}" mapped_blocks="{data_blocks}" transaction="0" creation_time="0" '
            'snap_time="1">\n'
        )
        for number, place in enumerate(places):
            start, end = number * RUN, (number + 1) * RUN
            for block in range(start, end) if thin_id == 2 else ():
                if block in changed:
                    yield from _mapping(start, place, block - start)
                    yield from _mapping(block, changed[block], 1)
                    start, place = block + 1, place + block + 1 - start
            yield from _mapping(start, place, end - start)
        yield "</device>\n"
    yield "</superblock>\n"


def _mapping(origin: int, place: int, length: int) -> Iterator[str]:
    if length:
        yield f'<range_mapping origin_begin="{origin}" data_begin="{place}" length="{length}" time="0"/>\n'


class MetadataPool:
    """What a push asks of a pool, of one that has metadata and a file, and no kernel."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        from engine.device.base import Snapshot

        self._folder, self._layout, self.size = folder, layout, layout.size
        self.delta_seconds = 0.0
        taken = datetime(2026, 1, 1, tzinfo=UTC)
        self._snapshots = [
            Snapshot(
                "bench",
                "volume",
                name,
                f"uuid of {name}",
                "uuid",
                name,
                self.size,
                str(self.device),
                taken,
                True,
                False,
            )
            for name in ("before", "after")
        ]

    @property
    def device(self) -> Path:
        """The file."""
        return self._folder / "device"

    def snapshots(self, volume: str | None = None) -> list[Any]:
        """Both."""
        return self._snapshots

    def volume(self, name: str) -> Any:
        """As large as it is, and all of it used."""
        from engine.device.base import Volume

        return Volume("bench", name, "uuid", self.size, self.size, str(self.device), None, False, None, False)

    def filesystem(self, volume: str, snapshot: str | None = None) -> None:
        """None that is known."""

    def open_source(self, volume: str, snapshot: str | None = None) -> Any:
        """The file as it is."""
        from engine.device.blockio import open_source

        return open_source(str(self.device), snapshot=True)

    def allocated(self, volume: str, snapshot: str | None = None) -> Iterator[Any]:
        """Where the file has content."""
        from engine.extent import Extent

        return (Extent(region * REGION, CONTENT) for region in self._layout.regions)

    def delta(self, volume: str, old: str, new: str | None) -> Iterator[Any]:
        """By thin_delta, as an LVM pool has it."""
        from engine.device.thinxml import read_delta
        from engine.device.tool import spool

        begun = time.perf_counter()
        xml = spool("thin_delta", "--thin1", "1", "--thin2", "2", str(self._folder / "metadata"))
        self.delta_seconds = time.perf_counter() - begun
        with xml:
            yield from read_delta(xml, left=1, right=2, old_size=self.size, size=self.size)


# The repository


def make_base(folder: Path, layout: Layout) -> None:
    """The version that the older volume was pushed as; and then the changes in its file."""
    create_repository(folder)
    repository, pool, chosen = opened(folder), MetadataPool(folder, layout), random.Random(2026)
    with pool.device.open("wb") as device:
        device.truncate(pool.size)
        for extent in pool.allocated("volume"):
            device.seek(extent.start)
            device.write(chosen.randbytes(extent.length))
    push_snapshot(repository, pool, 0)
    (pushed,) = repository.versions()
    regions = list(repository.reader().all_regions(pushed.members[0].root, pool.size))
    known = {number: reference for number, reference in enumerate(regions) if any(reference)}
    later = replace(pushed, version=f"{1:032x}", store_time=pushed.store_time + timedelta(seconds=1))
    make_volume(folder, pool.size // REGION * CHUNKS_IN_REGION, known, later)
    with pool.device.open("r+b") as device:
        for block in layout.changed:
            device.seek(block * DATA_BLOCK)
            device.write(chosen.randbytes(DATA_BLOCK))


def push_snapshot(repository: Any, pool: MetadataPool, number: int) -> Any:
    """Push one of both snapshots."""
    from engine.ops.push import PushOptions, push
    from engine.progress import Silent
    from engine.repo.naming import ObjectName

    snapshots: Any = [(pool, pool.snapshots()[number])]
    target = ObjectName("bucket", "volume")
    return push(repository, snapshots, target, PushOptions(), node="node", tool="bench", progress=Silent())


def push_change(folder: Path, layout: Layout) -> dict[str, Any]:
    """Push the newer snapshot; seconds, and bytes."""
    repository, pool = opened(folder), MetadataPool(folder, layout)
    begun, worked = time.perf_counter(), time.process_time()
    report = push_snapshot(repository, pool, 1)
    took, cpu = time.perf_counter() - begun, time.process_time() - worked
    if report.base != f"{1:032x}":
        leave("the push did not take the made-up version as its base", code=1)
    return {
        "push_seconds": took,
        "push_cpu": cpu,
        "delta_seconds": pool.delta_seconds,
        "delta_cpu": sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]),
        "beyond_seconds": took - pool.delta_seconds,
        "read": report.read,
        "stored": report.stored,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


# The answer


def lines(record: dict[str, Any]) -> Iterator[str]:
    """For people."""
    yield f"{record['data_blocks']} data blocks, {CHANGES} of them changed, at places: {record['places']}"
    yield (
        f"thin_delta {record['delta_seconds']:.2f} s ({record['delta_cpu']:.2f} of the processor), "
        f"the push {record['beyond_seconds']:.2f} s more ({record['push_cpu']:.2f} of the processor)"
    )
    yield (
        f"MiB read {record['read'] / MIB:.1f}, stored {record['stored'] / MIB:.2f}, "
        f"memory at most {record['peak'] / MIB:.0f}"
    )


def missed(record: dict[str, Any]) -> list[str]:
    """The targets that were missed, each in a sentence."""
    beyond, stored, peak = record["beyond_seconds"], record["stored"], record["peak"]
    checks = (
        (beyond <= BEYOND_SECONDS, f"the push took {beyond:.2f} s beyond thin_delta, more than {BEYOND_SECONDS}"),
        (stored <= STORED, f"the push stored {stored / MIB:.2f} MiB, more than {STORED // MIB}"),
        (peak <= PEAK_MEMORY, f"the push took {peak // MIB} MiB of memory, more than {PEAK_MEMORY // MIB}"),
    )
    return [failure for is_met, failure in checks if not is_met]
