"""An image file pushed to an S3 server and restored from it, near and far away, beside a directory.

The server is SeaweedFS on loopback, with a proxy before it that adds the latency to each round trip, and nothing else. It
runs on the same cores, so what it takes to receive and keep the bytes is measured, too: without latency, as a row of its own.
"""

import argparse
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmark.image import ChangedVolume, make_image
from benchmark.latency import Account, far_away
from benchmark.measure import (
    CORES,
    MIB,
    Cost,
    clean_environment,
    exit_code,
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
from tests.servers import Server, ServerMissing, make_bucket, start_seaweedfs

BUCKET: Final = "bench"
FIRST_PUSH, SECOND_PUSH, RESTORE = "first push", "second push", "restore"
PHASES: Final = (FIRST_PUSH, SECOND_PUSH, RESTORE)
DIRECTORY, NEAR, FAR = "directory", "S3 near", "S3 far"

# The targets of --check.
FAR_IN_NEAR: Final = 1.3  # with the latency, as a multiple of the slower of: a directory, the same server without it
REQUESTS_BY_CONNECTION: Final = 2.0  # of a push: each connection serves several


@dataclass(frozen=True, slots=True)
class Place:
    """Where a repository is: its URL; the port of its server, and how far away that is, if it has one."""

    name: str
    url: str
    port: int | None = None
    latency: float = 0


def main(words: Sequence[str]) -> int:
    """Make what is missing, run the phases at each place in turn, print the table."""
    options = parse(words)
    with workspace(keep=options.keep) as folder:
        try:
            server = start_seaweedfs(folder / "seaweedfs")
        except ServerMissing as missing:
            leave(str(missing))
        try:
            make_bucket(server, BUCKET)
            bench = Bench(folder, options.image or make_image(folder), server, options.latency)
            for number in range(options.runs):
                say(f"run {number + 1} of {options.runs}")
                bench.run(number)
        finally:
            server.stop()
    print(json.dumps(record(options, bench)) if options.json else table(options, bench))
    failures = missed(bench) if options.check else []
    return exit_code(failures)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; what cannot be run is refused before anything is made."""
    parser = argparse.ArgumentParser(prog="scripts/bench s3", description="Measure rokctl over S3, near and far away")
    parser.add_argument("image", nargs="?", type=Path, help="the file to push (default: one is made)")
    parser.add_argument("--latency", type=milliseconds, default=0.02, help="of each round trip (default 20ms)")
    parser.add_argument("--runs", type=int, default=1, help="all phases in turn, so often; medians (default 1)")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder, and say where it is")
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args(words)
    if options.runs < 1:
        parser.error("--runs starts at 1")
    if options.image is not None and not options.image.is_file():
        leave(f"{options.image} is no file that exists")
    # A volume, two snapshots, a restored file, three repositories; and the image that is made.
    require_space(1024 * MIB + (7 * options.image.stat().st_blocks * 512 if options.image else 7 * 1024 * MIB))
    return options


def milliseconds(text: str) -> float:
    """`20ms`, in seconds."""
    number = text.removesuffix("ms")
    if not number.isdecimal() or int(number) > 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no latency: write it as 20ms")
    return int(number) / 1000


class Bench:
    """One image in a pool, changed, and what each phase cost at each place."""

    def __init__(self, folder: Path, image: Path, server: Server, latency: float) -> None:
        self._folder, self._server, self._latency = folder, server, latency
        self._environment = {
            **clean_environment(),
            **server.environment,
            **rokctl_state(folder),
        }
        self._volume = ChangedVolume(folder, image, self._environment)
        self.costs: dict[tuple[str, str], list[Cost]] = {}
        self.accounts: dict[tuple[str, str], Account] = {}

    def run(self, number: int) -> None:
        """All phases at each place."""
        port = int(self._server.endpoint.rpartition(":")[2])
        for place in (
            Place(DIRECTORY, str(self._folder / "repository")),
            Place(NEAR, f"s3://{BUCKET}/near-{number}", port),
            Place(FAR, f"s3://{BUCKET}/far-{number}", port, self._latency),
        ):
            self._run_at(place)

    def _run_at(self, place: Place) -> None:
        before, after = self._volume.before, self._volume.after
        restored = self._folder / "restored"
        self._at(place, "init", [], "repo", "init")
        self._at(place, FIRST_PUSH, [before], "snapshot", "push", "bench/volume@before")
        self._at(place, SECOND_PUSH, [after], "snapshot", "push", "bench/volume@after")
        self._at(place, RESTORE, [], "restore", "bench/volume", "--to-file", str(restored))
        if not same_bytes(restored, after):
            leave(f"what was restored from {place.url} differs from the snapshot", code=1)
        restored.unlink()
        if place.port is None:
            shutil.rmtree(place.url)

    def _at(self, place: Place, phase: str, reads: Sequence[Path], *words: str) -> None:
        """One command; at a server through a proxy of its own, so that each has an account of its own."""
        os.sync()  # nobody pays for what another wrote
        for path in reads:
            warm(path)
        if place.port is None:
            cost = self._measured(place.url, *words)
        else:
            with far_away(place.port, place.latency) as (port, account):
                cost = self._measured(f"{place.url}?endpoint=http://127.0.0.1:{port}", *words)
            self.accounts[place.name, phase] = account
        self.costs.setdefault((place.name, phase), []).append(cost)
        say(f"  {place.name}, {phase}: {cost.wall:.2f} s")

    def _measured(self, url: str, *words: str) -> Cost:
        return run(rokctl("--repo", url, *words), self._environment, self._folder)[1]

    def medians(self) -> Mapping[tuple[str, str], Cost]:
        """Each place and phase, and the median of each of its figures."""
        return {key: median(costs) for key, costs in self.costs.items() if key[1] in PHASES}


def table(options: argparse.Namespace, bench: Bench) -> str:
    """For people: seconds, and counts."""
    line = "{:24}{:>10}{:>10}{:>10}{:>10}{:>14}{:>14}".format
    lines = [
        f"{options.latency * 1000:.0f} ms a round trip, {CORES} cores, medians of {options.runs}",
        line("", "wall s", "CPU s", "peak MiB", "requests", "connections", "most at once"),
    ]
    for (place, phase), cost in bench.medians().items():
        account = bench.accounts.get((place, phase))
        counts = (account.requests, account.connections, account.most_at_once) if account else ("", "", "")
        name = f"{phase}, {place}"
        lines.append(line(name, f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.peak / MIB:.0f}", *counts))
    lines += [f"{name}: {ratio:.2f}" for name, ratio in ratios(bench).items()]
    return "\n".join(lines)


def ratios(bench: Bench) -> dict[str, float]:
    """The wall time far away in that of the others."""
    rows = bench.medians()
    return {
        f"{phase}, far / {place}": rows[FAR, phase].wall / rows[place, phase].wall
        for phase in PHASES
        for place in (DIRECTORY, NEAR)
    }


def record(options: argparse.Namespace, bench: Bench) -> dict[str, Any]:
    """For scripts: seconds, bytes and counts."""
    rows = [
        {"place": place, "phase": phase, **asdict(cost)}
        | (asdict(bench.accounts[place, phase]) if (place, phase) in bench.accounts else {})
        for (place, phase), cost in bench.medians().items()
    ]
    return {
        "image": str(options.image) if options.image else None,
        "latency": options.latency,
        "runs": options.runs,
        "cores": CORES,
        "rows": rows,
        "ratios": ratios(bench),
    }


def missed(bench: Bench) -> list[str]:
    """The targets that were missed, each in a sentence.

    Where the server takes longer than a directory to keep the same bytes, its rate is the limit, and not its distance.
    """
    rows, failures = bench.medians(), []
    for phase in PHASES:
        limit = max(rows[DIRECTORY, phase].wall, rows[NEAR, phase].wall)
        if rows[FAR, phase].wall > FAR_IN_NEAR * limit:
            failures.append(f"the {phase} takes more than {FAR_IN_NEAR} times as long for a server that is far away")
        account = bench.accounts[FAR, phase]
        if account.requests < REQUESTS_BY_CONNECTION * account.connections:
            failures.append(
                f"the {phase} makes {account.connections} connections for {account.requests} requests, and not one for several"
            )
    return failures
