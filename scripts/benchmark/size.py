"""How rokctl grows with a repository: its index and its list of versions, cold, warm and after another's push; and its commands.

The repositories are made up (see `madeup`). Each phase is a process of its own, so that its memory can be told.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmark.growth import COMMANDS, measure_commands, seconds_of_commands
from benchmark.madeup import (
    BYTES_A_CHUNK,
    CHUNKS_IN_SEGMENT,
    add_segment,
    environment,
    make_chunks,
    make_versions,
    opened,
    reopened,
)
from benchmark.measure import (
    MIB,
    ROOT,
    clean_environment,
    exit_code,
    in_another_process,
    leave,
    require_space,
    rokctl,
    run,
    say,
    workspace,
)
from benchmark.peers import draw, plotting_python

# The targets of --check, at the largest size.
WARM_SECONDS: Final = 0.3
LOOK_UPS: Final = 300_000  # a second, in batches
RESIDENT: Final = 300 * MIB
LIST_SECONDS: Final = 0.3
PUSH_PEAK: Final = 256 * MIB
CHECK_PEAK: Final = 500 * MIB
COLLECT_PEAK: Final = 500 * MIB
CHUNK_SECONDS: Final = 4e-6  # of the processor, that a check or a collection may take for each chunk more
PUSH_CHUNK_SECONDS: Final = 2e-7
NOISE_SECONDS: Final = 0.5  # by which two runs of one command may differ on a busy machine

SIZES: Final = (10**4, 10**5, 10**6, 10**7)
BATCH: Final = 256
PHASES: Final = ("read", "cold", "warm", "other", "list", "relist")


def main(words: Sequence[str]) -> int:
    """Make the repositories, run the phases on each, print the table."""
    options = parse(words)
    if options.phase is not None:
        print(json.dumps(run_phase(options)))
        return 0
    python = plotting_python(install=True) if options.plot else None
    with workspace() as folder:
        rows = [measure_index(folder / f"{chunks}", chunks) for chunks in sorted(options.chunks or SIZES)]
        versions = measure_versions(folder / "versions", options.versions, options.objects)
    record = json.dumps({"index": rows, "versions": versions})
    print(record if options.json else "\n".join(lines(rows, versions)))
    if python is not None:
        draw(python, "growth", record, options.plot)
    failures = missed(rows, versions) if options.check else []
    return exit_code(failures, "size") or int(bool(options.plot) and python is None)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; what cannot be run is refused before anything is made."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench size", description="Measure rokctl in repositories of any size"
    )
    parser.add_argument(
        "--chunks", type=int, action="append", help="how many chunks; may be given again (default 10^4 to 10^7)"
    )
    parser.add_argument("--versions", type=int, default=10_000, help="how many versions there are (default 10000)")
    parser.add_argument("--objects", type=int, default=500, help="of how many objects (default 500)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw what commands take against the size, as a PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)  # the process that is measured
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if any(chunks < 1 for chunks in options.chunks or ()) or not 1 <= options.objects <= options.versions:
        parser.error("--chunks and --objects start at 1, and there are not fewer --versions than --objects")
    if options.phase is None:
        require_space(128 * MIB + BYTES_A_CHUNK * (CHUNKS_IN_SEGMENT + max(options.chunks or SIZES)))
    return options


def measure_index(folder: Path, chunks: int) -> dict[str, Any]:
    """All phases of the index on a repository of so many chunks."""
    say(f"making a repository of {chunks} chunks")
    in_another_process(lambda: make_chunks(folder, chunks))
    names = {kind: len(list((folder / "repository" / kind).iterdir())) for kind in ("pack", "index")}
    row: dict[str, Any] = {"chunks": chunks, "packs": names["pack"], "segments": names["index"]}
    for name in ("read", "cold", "warm"):
        row[name] = phase(name, folder)
    row["commands"] = measure_commands(folder)
    in_another_process(lambda: add_segment(folder, names["index"], CHUNKS_IN_SEGMENT))
    row["other"] = phase("other", folder)
    row["cache_bytes"] = sum(path.stat().st_size for path in (folder / "state" / "cache").rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return row


def measure_versions(folder: Path, versions: int, objects: int) -> dict[str, Any]:
    """All phases of the versions of one object among many."""
    say(f"making {versions} versions of {objects} objects")
    in_another_process(lambda: make_versions(folder, versions, objects))
    row: dict[str, Any] = {
        "versions": versions,
        "objects": objects,
        "cold": phase("list", folder),
        "warm": phase("relist", folder),
    }
    few = folder / "few"  # what the start and the key take, whatever there is to list
    in_another_process(lambda: make_few(few, row["warm"]["versions"]))
    row["command"], row["command_of_few"] = list_by_command(folder), list_by_command(few)
    row["listed"] = row["command"].pop("listed")
    return row


def make_few(folder: Path, versions: int) -> None:
    """A repository of one object, whose versions the node has read."""
    make_versions(folder, versions, 1)
    opened(folder).versions()


def list_by_command(folder: Path) -> dict[str, Any]:
    """What the whole command takes, when the node has read the versions before."""
    command = rokctl("version", "list", "bucket/object-0")
    listed, cost = run(command, {**clean_environment(), **environment(folder)}, folder)
    return {"seconds": cost.wall, "cpu": cost.cpu, "listed": len(listed.splitlines())}


def phase(name: str, folder: Path) -> dict[str, Any]:
    """What a fresh process reports."""
    command = [sys.executable, str(ROOT / "scripts" / "bench"), "size", "--phase", name, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        leave(f"the phase {name!r} failed", code=1)
    report: dict[str, Any] = json.loads(done.stdout)
    say(f"  {name}: {report['seconds']:.3f} s")
    return report


# The phases, each in a process of its own


def run_phase(options: argparse.Namespace) -> dict[str, Any]:
    """Run one phase; its figures. Seconds; bytes; calls a second."""
    repository = opened(options.folder)
    if options.phase in ("list", "relist"):
        found, took = timed(lambda: repository.versions("bucket", "object-0"))
        return {**took, "versions": len(found)}
    if options.phase == "read":
        entries, took = timed(lambda: sum(facts.entries for facts in repository.catalog.stated_facts()))
        return {**took, "entries": entries}
    (index, _), took = timed(repository.catalog.index_for_writing)
    if options.phase == "warm":
        took = min(took, *(load_again(options.folder) for _ in range(2)), key=lambda one: one["seconds"])
    report: dict[str, Any] = {**took, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if options.phase == "warm":
        report["listing"] = timed(lambda: repository.store.keys("pack/"))[1]
        report |= look_ups(index, (options.folder / "sample").read_bytes())
    return report


def load_again(folder: Path) -> dict[str, float]:
    """What loading the index takes in a repository that is opened anew: of a few, the fastest was disturbed least."""
    again = reopened(folder)
    return timed(again.catalog.index_for_writing)[1]


def look_ups(index: Any, sample: bytes) -> dict[str, float]:
    """How many of each kind in a second of the processor: of chunks that are there, and of others. The first find nothing
    mapped yet.
    """
    others = os.urandom(len(sample))
    count = len(sample) // 16
    found_hits, hits = timed(lambda: find_in_batches(index, sample))
    found_misses, misses = timed(lambda: find_in_batches(index, others))
    assert (found_hits, found_misses) == (count, 0)
    _, finds = timed(lambda: call_for_each(index.find, sample))
    touched = resident()  # before the claims, which are kept
    _, claims = timed(lambda: call_for_each(index.claim, others))
    names = ("batched_hits", "batched_misses", "single_hits", "single_misses")
    rates = {name: count / took["cpu"] for name, took in zip(names, (hits, misses, finds, claims), strict=True)}
    return {**rates, "resident": touched}


def find_in_batches(index: Any, prefixes: bytes) -> int:
    """How many of them are there."""
    step = 16 * BATCH
    batches = (prefixes[at : at + step] for at in range(0, len(prefixes), step))
    return sum(int((index.find_many(batch).packs >= 0).sum()) for batch in batches)


def call_for_each(call: Callable[[bytes], object], prefixes: bytes) -> None:
    """One by one."""
    for at in range(0, len(prefixes), 16):
        call(prefixes[at : at + 16])


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What it gives, and what it took: seconds by the clock, and of the processor."""
    begun, worked = time.perf_counter(), time.process_time()
    result = work()
    return result, {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - worked}


def resident() -> int:
    """Of this process, in bytes, files that are mapped included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# The answer


def lines(rows: list[dict[str, Any]], versions: dict[str, Any]) -> Iterator[str]:
    """One for each repository, and what they tell."""
    line = "{:>10}{:>13}{:>13}{:>13}{:>13}{:>13}{:>8}{:>8}{:>8}{:>8}{:>7}{:>7}{:>7}".format
    yield line("chunks", "read", "cold", "warm", "of it list", "other's", "hits", "misses", "finds", "claims",
               "cold", "warm", "cache")  # fmt: skip
    for row in rows:
        warm = row["warm"]
        rates = (warm[name] for name in ("batched_hits", "batched_misses", "single_hits", "single_misses"))
        sizes = (row["cold"]["peak"], warm["resident"], row["cache_bytes"])
        yield line(
            row["chunks"],
            *map(seconds, (row["read"], row["cold"], warm, warm["listing"], row["other"])),
            *(f"{rate / 1000:.0f} k" for rate in rates),
            *(f"{size / MIB:.0f}" for size in sizes),
        )
    yield "seconds, and of the processor: to read and decode all segments; to load the index without a cache, with one (of it"
    yield "the list of all packs, which no cache can spare), and after a push of another node; look-ups in a second of the"
    yield f"processor, in batches of {BATCH} and one by one; MiB of memory, peak and with all look-ups done, and of the cache"
    yield (
        f"{versions['listed']} of {versions['versions']} versions of {versions['objects']} objects listed: "
        f"cold {seconds(versions['cold'])}, warm {seconds(versions['warm'])}; "
        f"the whole command {seconds(versions['command'])}, where there are no others {seconds(versions['command_of_few'])}"
    )
    yield from seconds_of_commands(rows)


def seconds(took: dict[str, float]) -> str:
    """By the clock, and of the processor."""
    return f"{took['seconds']:.3f}/{took['cpu']:.3f}"


def missed(rows: list[dict[str, Any]], versions: dict[str, Any]) -> list[str]:
    """The targets that were missed, each in a sentence."""
    largest = rows[-1]
    warm, took = largest["warm"], {name: largest["commands"][name] for name in COMMANDS}
    checks = [
        (warm["seconds"] <= WARM_SECONDS, f"the index opened warm in {warm['seconds']:.2f} s, not {WARM_SECONDS}"),
        (
            min(warm["batched_hits"], warm["batched_misses"]) >= LOOK_UPS,
            f"less than {LOOK_UPS} look-ups a second in batches",
        ),
        (warm["resident"] <= RESIDENT, f"{warm['resident'] // MIB} MiB resident, more than {RESIDENT // MIB}"),
        (
            versions["warm"]["seconds"] <= LIST_SECONDS,
            f"versions were listed warm in {versions['warm']['seconds']:.2f} s",
        ),
        (
            versions["command"]["cpu"] - versions["command_of_few"]["cpu"] <= LIST_SECONDS,
            f"of the command, the other versions took more than {LIST_SECONDS} s",
        ),
    ]
    limits = (PUSH_PEAK, CHECK_PEAK, COLLECT_PEAK, COLLECT_PEAK)
    for name, limit in zip(COMMANDS, limits, strict=True):
        peak = took[name]["peak"]
        checks.append((peak <= limit, f"{name} took {peak // MIB} MiB of memory, more than {limit // MIB}"))
    more = largest["chunks"] - rows[0]["chunks"]
    for name in COMMANDS if more else ():
        grown = took[name]["cpu"] - rows[0]["commands"][name]["cpu"]
        each = PUSH_CHUNK_SECONDS if name == "push" else CHUNK_SECONDS
        text = f"{name} took {grown:.2f} s of the processor more for {more} chunks more, not {each} each"
        checks.append((grown <= each * more + NOISE_SECONDS, text))
    return [failure for is_met, failure in checks if not is_met]
