"""Where the space of a repository goes, as people and scripts read it; used by `repo info`."""

from typing import TYPE_CHECKING

from engine.errors import DoneInPart
from engine.units import format_size
from engine.values import dataclass
from rokctl.render import Amount, plain
from rokctl.wiring import Session

if TYPE_CHECKING:
    from engine.ops.growth import Period
    from engine.ops.space import Grouping, SpaceReport, Usage


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table: a group, or all together."""

    name: str
    usage: "Usage"


def show_space(session: Session, grouping: "Grouping") -> None:
    """What each object or bucket takes. Raises DoneInPart when something is lost, so that the figures are too small."""

    with session.repository(uses="engine.ops.space") as repository, session.progress() as progress:
        from engine.ops.space import space

        report = space(repository, grouping, progress)
    if session.output.as_json:
        for group in report.groups:
            session.output.result("", {"bucket": group.bucket, "object": group.object, **plain(group.usage)})
        rest = {"unneeded": report.unneeded, "overhead": report.overhead, "packs": report.packs, "lost": report.lost}
        session.output.result("", {**plain(report.total), **rest})
    else:
        _show_table(session, report, grouping)
    if report.lost:
        raise DoneInPart(
            f"{report.lost} chunks, maps or manifests are lost, so that the figures are too small",
            hint="`rokctl repo check` names what is damaged",
        )


def _show_table(session: Session, report: "SpaceReport", grouping: "Grouping") -> None:
    rows = [_Row("/".join(filter(None, (group.bucket, group.object))), group.usage) for group in report.groups]
    session.output.listing(
        [*rows, _Row("(total)", report.total)],
        {
            grouping.name: lambda row: row.name,
            "VERS": lambda row: row.usage.versions,
            "LOGICAL": lambda row: Amount(row.usage.logical),
            "DATA": lambda row: Amount(row.usage.data),
            "UNIQUE": lambda row: Amount(row.usage.unique),
            "SHARED": lambda row: Amount(row.usage.shared),
            "DEDUP": lambda row: _times(row.usage.dedup_ratio),
            "COMPR": lambda row: _times(row.usage.compression_ratio),
        },
    )
    needed = report.total.unique + report.total.shared
    session.output.talk(
        f"of {format_size(report.packs)} in packs, versions need {format_size(needed)}, nobody needs "
        f"{format_size(report.unneeded)}, and {format_size(report.overhead)} are overhead"
    )


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}x"


def show_growth(session: Session, period: "Period") -> None:
    """What was sent in each day, week, month or year."""

    with session.repository(uses="engine.ops.growth") as repository:
        from engine.ops.growth import growth

        grown = growth(repository.versions(), period)
    session.output.listing(
        grown,
        {
            period.name: lambda step: step.period,
            "VERSIONS": lambda step: step.versions,
            "DATA": lambda step: Amount(step.data),
            "READ": lambda step: Amount(step.read),
            "STORED": lambda step: Amount(step.stored),
            "SO FAR": lambda step: Amount(step.stored_so_far),
        },
    )
