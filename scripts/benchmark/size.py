"""How rokctl grows with a repository: its index and its list of versions, cold, warm and after another's push.

The repositories are made up: their packs are empty files of the right size, their segments and manifests are real and
encrypted. Each phase is a process of its own, so that its memory can be told.
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
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from benchmark.measure import MIB, ROOT, in_another_process, leave, require_space, say, workspace

# The targets of --check, at the largest size.
WARM_SECONDS: Final = 0.3
LOOK_UPS: Final = 300_000  # a second, in batches
RESIDENT: Final = 300 * MIB
LIST_SECONDS: Final = 0.3

SIZES: Final = (10**4, 10**5, 10**6, 10**7)
CHUNKS_IN_PACK: Final = 270  # 16 MiB of chunks of 60 KiB, which is half of 120 KiB
PACKS_IN_SEGMENT: Final = 64
PACK_SIZE: Final = 16 * MIB
SAMPLE: Final = 200_000  # prefixes that are looked up
BATCH: Final = 256
PASSPHRASE: Final = "not a secret"
NOT_MADE: Final = "the repository could not be made"
PHASES: Final = ("read", "cold", "warm", "other", "list", "relist")


def main(words: Sequence[str]) -> int:
    """Make the repositories, run the phases on each, print the table."""
    options = parse(words)
    if options.phase is not None:
        print(json.dumps(run_phase(options)))
        return 0
    with workspace() as folder:
        rows = [measure_index(folder / f"{chunks}", chunks) for chunks in sorted(options.chunks or SIZES)]
        versions = measure_versions(folder / "versions", options.versions, options.objects)
    record = {"index": rows, "versions": versions}
    print(json.dumps(record) if options.json else table(rows, versions))
    failures = missed(rows[-1], versions) if options.check else []
    for failure in failures:
        say(f"scripts/bench size: {failure}")
    return 1 if failures else 0


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
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)  # the process that is measured
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    smallest = CHUNKS_IN_PACK * PACKS_IN_SEGMENT
    if any(chunks < 1 for chunks in options.chunks or ()) or not 1 <= options.objects <= options.versions:
        parser.error("--chunks and --objects start at 1, and there are not fewer --versions than --objects")
    if options.phase is None:
        require_space(64 * MIB + 60 * (smallest + max(options.chunks or SIZES)))
    return options


def measure_index(folder: Path, chunks: int) -> dict[str, Any]:
    """All phases of the index on a repository of so many chunks."""
    say(f"making a repository of {chunks} chunks")
    segments = -(-chunks // (CHUNKS_IN_PACK * PACKS_IN_SEGMENT))
    # Another process makes it: the kernel counts our peak of memory to those that we start.
    in_another_process(lambda: make_index(folder, chunks), NOT_MADE)
    row: dict[str, Any] = {"chunks": chunks, "packs": -(-chunks // CHUNKS_IN_PACK), "segments": segments}
    row["read"] = phase("read", folder)
    row["cold"] = phase("cold", folder)
    row["warm"] = phase("warm", folder)
    in_another_process(lambda: add_segments(folder, segments, CHUNKS_IN_PACK * PACKS_IN_SEGMENT), NOT_MADE)
    row["other"] = phase("other", folder)
    row["cache_bytes"] = sum(path.stat().st_size for path in (folder / "state").rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return row


def measure_versions(folder: Path, versions: int, objects: int) -> dict[str, Any]:
    """All phases of the versions of one object among many."""
    say(f"making {versions} versions of {objects} objects")
    in_another_process(lambda: make_versions(folder, versions, objects), NOT_MADE)
    row = {"versions": versions, "objects": objects, "cold": phase("list", folder), "warm": phase("relist", folder)}
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ROKCTL_STATE_DIR": str(folder / "state"),
        "ROKCTL_REPOSITORY": str(folder / "repository"),
        "ROKCTL_PASSWORD_FILE": str(folder / "passphrase"),
    }
    (folder / "passphrase").write_text(PASSPHRASE)
    command = [sys.executable, "-m", "rokctl", "--json", "version", "list", "bucket/object-0"]
    begun = time.perf_counter()
    listed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    row["command_seconds"] = time.perf_counter() - begun
    row["listed"] = len(listed.splitlines())
    return row


def phase(name: str, folder: Path) -> dict[str, Any]:
    """What a fresh process reports."""
    command = [sys.executable, str(ROOT / "scripts" / "bench"), "size", "--phase", name, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        leave(f"the phase {name!r} failed", code=1)
    report: dict[str, Any] = json.loads(done.stdout)
    say(f"  {name}: {report['seconds']:.3f} s")
    return report


# The repositories


def make_index(folder: Path, chunks: int) -> None:
    """A repository whose index holds so many chunks."""
    create_repository(folder)
    (folder / "repository" / "pack").mkdir()
    (folder / "sample").write_bytes(b"")
    full = CHUNKS_IN_PACK * PACKS_IN_SEGMENT
    for number, start in enumerate(range(0, chunks, full)):
        add_segments(folder, number, min(full, chunks - start), sample=-(-SAMPLE * full // max(chunks, full)))


def add_segments(folder: Path, number: int, chunks: int, *, sample: int = 0) -> None:
    """One more segment, number `number`, and its packs; and some of its prefixes for the sample."""
    import numpy as np

    from engine.repo.pack import PackKind, PackName
    from engine.repo.segment import PackFacts, encode_segment

    chosen = np.random.default_rng(number)  # the same each time
    packs, name = [], f"{number:032x}"
    for at, start in enumerate(range(0, chunks, CHUNKS_IN_PACK)):
        entries = min(CHUNKS_IN_PACK, chunks - start)
        lengths = chosen.integers(40_000, 62_000, entries, dtype=np.uint32)
        pack = PackName(name, at)
        packs.append(PackFacts(pack, PackKind.CHUNKS, PACK_SIZE, chosen.bytes(16 * entries), lengths))
        descriptor = os.open(folder / "repository" / pack.key, os.O_WRONLY | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, PACK_SIZE)
        os.close(descriptor)
    repository = opened(folder)
    blob = encode_segment(name, packs, repository.keyring, os.urandom)
    (folder / "repository" / "index").mkdir(exist_ok=True)
    (folder / "repository" / "index" / name).write_bytes(blob)
    prefixes = b"".join(pack.prefixes for pack in packs)
    places = chosen.integers(0, chunks, min(sample, chunks)).tolist()
    with (folder / "sample").open("ab") as file:
        file.write(b"".join(prefixes[16 * at : 16 * at + 16] for at in places))


def make_versions(folder: Path, versions: int, objects: int) -> None:
    """A repository with so many versions of so many objects, in turn."""
    from engine.repo.manifest import Manifest, Member, Origin, Totals, seal_manifest
    from engine.repo.naming import ObjectName

    create_repository(folder)
    repository, start = opened(folder), datetime(2026, 1, 1, tzinfo=UTC)
    (folder / "repository" / "versions").mkdir()
    for number in range(versions):
        moment, name = start + timedelta(minutes=number), f"object-{number % objects}"
        origin = Origin("pool", name, f"snapshot-{number}", "0" * 32, f"{number:032x}", f"{number:032x}", moment)
        member = Member(name, os.urandom(16), 1 << 30, 512, "ext4", "", "0" * 32, True, 1 << 29, 4096, origin)
        totals = Totals(1 << 30, 1 << 29, 1 << 25, 1 << 24, 4096, 256, 1.0)
        manifest = Manifest(
            f"{number:032x}",
            ObjectName("bucket", name),
            moment,
            moment,
            "node",
            "bench",
            "",
            {},
            None,
            (member,),
            totals,
        )
        blob = seal_manifest(manifest, repository.keyring, os.urandom)
        (folder / "repository" / "versions" / manifest.version).write_bytes(blob)


def create_repository(folder: Path) -> None:
    """An empty one, encrypted."""
    from engine.clock import SystemClock
    from engine.repo.keyblob import passphrase_secret
    from engine.repo.repository import initialise
    from engine.store.directory import DirectoryStore

    folder.mkdir()
    with closing(DirectoryStore(folder / "repository", create=True)) as store:
        initialise(store, passphrase_secret(PASSPHRASE), clock=SystemClock(), entropy=os.urandom)


_opened: dict[Path, Any] = {}


def opened(folder: Path) -> Any:
    """The repository in a folder, with the node's caches beside it; opened once by a process, which takes a fifth of a second."""
    from engine.clock import SystemClock
    from engine.repo.keyblob import passphrase_secret
    from engine.repo.repository import open_repository
    from engine.store.directory import DirectoryStore

    if folder not in _opened:
        _opened[folder] = open_repository(
            DirectoryStore(folder / "repository"),
            lambda: passphrase_secret(PASSPHRASE),
            clock=SystemClock(),
            entropy=os.urandom,
            caches=folder / "state" / "cache",
        )
    return _opened[folder]


# The phases, each in a process of its own


def run_phase(options: argparse.Namespace) -> dict[str, Any]:
    """Run one phase; its figures. Seconds; bytes; calls a second."""
    repository = opened(options.folder)
    if options.phase in ("list", "relist"):
        found, took = timed(lambda: repository.versions("bucket", "object-0"))
        return {**took, "versions": len(found)}
    if options.phase == "read":
        entries, took = timed(lambda: sum(facts.entries for facts in repository.index_facts()))
        return {**took, "entries": entries}
    (index, _), took = timed(repository.load_index)
    report: dict[str, Any] = {**took, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if options.phase == "warm":
        report["listing"] = timed(lambda: sum(1 for _ in repository.store.list("pack/")))[1]
        report |= look_ups(index, (options.folder / "sample").read_bytes())
    return report


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


def table(rows: list[dict[str, Any]], versions: dict[str, Any]) -> str:
    """For people."""
    return "\n".join(lines(rows, versions))


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
        f"the whole command {versions['command_seconds']:.2f}"
    )


def seconds(took: dict[str, float]) -> str:
    """By the clock, and of the processor."""
    return f"{took['seconds']:.3f}/{took['cpu']:.3f}"


def missed(row: dict[str, Any], versions: dict[str, Any]) -> list[str]:
    """The targets that were missed, each in a sentence."""
    warm = row["warm"]
    checks = (
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
    )
    return [failure for is_met, failure in checks if not is_met]
