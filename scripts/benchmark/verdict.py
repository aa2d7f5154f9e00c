"""What a comparison says: the table, the same as JSON, and the targets, all of them ratios within it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Final

from benchmark.measure import CORES, MIB

FIRST, SECOND, DAILY, DELTA = "first push", "second volume", "daily push, full scan", "daily push, reflinks"
RESTORE, VERIFY, COLLECT, XFS = "restore", "verify", "collect", "first push, XFS"
PHASES: Final = (FIRST, SECOND, DAILY, DELTA, RESTORE, VERIFY, COLLECT, XFS)
LIMIT: Final = "the machine's limit"
ROKCTL, STRONG, RESTIC, BORG = "rokctl", "rokctl, zstd 3", "restic", "borg"
PROGRAMS: Final = (ROKCTL, STRONG, RESTIC, BORG, LIMIT)
EXT4: Final = (FIRST, DAILY, SECOND)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a program took for a phase. Seconds; bytes: the peak of its memory, what it read, what its repository grew by."""

    wall: float
    cpu: float
    peak: int
    read: int
    stored: int


Results = Mapping[tuple[str, str], Figures]


class Verdict(Enum):
    """What a run says of a target."""

    MET = "met"
    MISSED = "missed"
    OUT_OF_REACH = "out of reach"  # of the same steps alone too, on this machine


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio that the product is to keep. `value` is missing when what it compares with was not measured.

    `limit` is the same ratio of the machine's own limit, in the same run, where it has one.
    """

    what: str
    value: float | None
    bound: float
    at_least: bool = False
    limit: float | None = None

    def verdict(self) -> Verdict:
        """Is it kept, and if not, could it be?"""
        if self.value is not None and (self.value >= self.bound if self.at_least else self.value <= self.bound):
            return Verdict.MET
        return Verdict.OUT_OF_REACH if self.limit is not None and self.limit > self.bound else Verdict.MISSED

    def sentence(self) -> str:
        """What is wrong when it is not."""
        if self.value is None:
            return f"{self.what}: not measured"
        beyond = f" (the limit is {self.limit:.3f})" if self.verdict() is Verdict.OUT_OF_REACH else ""
        return f"{self.what} is {self.value:.3f}, and must be at {self._side} {self.bound:.3f}{beyond}"

    def row(self) -> str:
        """A line of the table."""
        value = "-" if self.value is None else f"{self.value:.3f}"
        verdict = self.verdict()
        beyond = f" (limit {self.limit:.3f})" if verdict is Verdict.OUT_OF_REACH else ""
        return f"{self.what:46}{value:>8}  at {self._side:5} {self.bound:.3f}  {verdict.value}{beyond}"

    @property
    def _side(self) -> str:
        return "least" if self.at_least else "most"


def judge(results: Results) -> list[Target]:
    """All targets of a comparison."""

    def ratio(figure: str, phase: str, other: str, ours: str = ROKCTL) -> float | None:
        if (phase, ours) not in results or (phase, other) not in results:
            return None
        return float(getattr(results[phase, ours], figure) / getattr(results[phase, other], figure))

    def against(what: str, figure: str, phase: str, other: str, bound: float) -> Target:
        return Target(what, ratio(figure, phase, other), bound, limit=ratio(figure, phase, other, LIMIT))

    def whole(ours: str) -> float | None:
        sizes = [repository(results, name) for name in (ours, RESTIC)]
        return None if sizes[0] is None or sizes[1] is None else sizes[0] / sizes[1]

    def of_limit(phase: str) -> float | None:
        return ratio("wall", phase, ROKCTL, LIMIT)

    peak = max(figures.peak for (_, name), figures in results.items() if name in (ROKCTL, STRONG))
    return [
        against("first push: wall / restic's", "wall", FIRST, RESTIC, 1 / 3.5),
        against("first push: wall / borg's", "wall", FIRST, BORG, 1 / 3.5),
        against("first push: CPU / restic's", "cpu", FIRST, RESTIC, 1 / 3),
        Target("first push: the machine's limit / wall", of_limit(FIRST), 0.85, at_least=True),
        Target("repository of three images: bytes / restic's", whole(ROKCTL), 0.90),
        Target("the same at zstd level 3", whole(STRONG), 0.875),
        Target("what the second volume adds: bytes / restic's", ratio("stored", SECOND, RESTIC), 0.70),
        Target("daily push, full scan: wall / restic's", ratio("wall", DAILY, RESTIC), 1 / 4),
        Target("daily push, reflinks: wall / restic's", ratio("wall", DELTA, RESTIC), 1 / 10),
        Target("daily push, reflinks: CPU / restic's", ratio("cpu", DELTA, RESTIC), 1 / 10),
        against("restore: wall / restic's", "wall", RESTORE, RESTIC, 1 / 4),
        Target("restore: the machine's limit / wall", of_limit(RESTORE), 0.85, at_least=True),
        against("verify: CPU / restic's", "cpu", VERIFY, RESTIC, 1 / 3),
        Target("peak memory of all phases / 256 MiB", peak / (256 * MIB), 1.0),
    ]


def repository(results: Results, name: str) -> int | None:
    """The bytes of a program's repository after the three ext4 images."""
    if not all((phase, name) in results for phase in EXT4):
        return None
    return sum(results[phase, name].stored for phase in EXT4)


def table(results: Results, targets: list[Target], runs: int) -> str:
    """For people: seconds, and MiB."""
    return "\n".join(lines(results, targets, runs))


def lines(results: Results, targets: list[Target], runs: int) -> Iterator[str]:
    """The phases, the repositories, the targets."""
    line = "{:24}{:>8}{:>8}{:>10}{:>10}{:>12}{:>12}{:>12}".format
    yield f"{CORES} cores, encrypted, medians of {runs} {'run' if runs == 1 else 'runs'}"
    yield line("", "wall s", "CPU s", "peak MiB", "read MiB", "stored MiB", "wall/restic", "CPU/restic")
    for phase in PHASES:
        rows = {name: results[phase, name] for name in PROGRAMS if (phase, name) in results}
        if rows:
            yield phase
        other = rows.get(RESTIC)
        for name, row in rows.items():
            sizes = (
                f"{row.peak / MIB:.0f}",
                f"{row.read / MIB:.0f}",
                f"{row.stored / MIB:.1f}" if name != LIMIT else "",
            )
            shares = (f"{row.wall / other.wall:.2f}", f"{row.cpu / other.cpu:.2f}") if other else ("", "")
            yield line(f"  {name}", f"{row.wall:.2f}", f"{row.cpu:.2f}", *sizes, *shares)
    yield "repository of the three ext4 images, MiB"
    for name in PROGRAMS:
        if (size := repository(results, name)) is not None:
            yield f"  {name:60}{size / MIB:>12.1f}"
    yield "targets"
    yield from (f"  {target.row()}" for target in targets)


def as_json(results: Results, targets: list[Target], runs: int) -> str:
    """For scripts, in one line: seconds, and bytes."""
    phases = {
        phase: {name: asdict(results[phase, name]) for name in PROGRAMS if (phase, name) in results} for phase in PHASES
    }
    judged = [{**asdict(target), "verdict": target.verdict().value} for target in targets]
    return json.dumps({"cores": CORES, "runs": runs, "phases": phases, "targets": judged})
