"""How a repository grew: what was sent day by day, or by longer periods, from the manifests alone."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from engine.policy.period import day, month, week, year
from engine.repo.manifest import Manifest
from engine.values import dataclass


class Period(Enum):
    """How long a step of growth is, by the calendar in UTC."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


_PERIOD_OF: Final[Mapping[Period, Callable[[datetime], str]]] = {
    Period.DAY: day,
    Period.WEEK: week,
    Period.MONTH: month,
    Period.YEAR: year,
}


@dataclass(frozen=True, slots=True)
class Growth:
    """What the pushes of one period did, as far as their versions stand. Bytes; `stored_so_far` includes earlier periods."""

    period: str
    versions: int
    data: int
    read: int
    stored: int
    stored_so_far: int


def growth(manifests: Iterable[Manifest], period: Period) -> list[Growth]:
    """What was sent in each period that has a version, by the clock of the store at each push.

    What versions sent that were forgotten is not in it, whether it is still needed or not.
    """
    groups: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        groups.setdefault(_PERIOD_OF[period](manifest.store_time.astimezone(UTC)), []).append(manifest)
    grown: list[Growth] = []
    for name in sorted(groups):
        totals = [manifest.totals for manifest in groups[name]]
        stored = sum(one.stored for one in totals)
        grown.append(
            Growth(
                period=name,
                versions=len(totals),
                data=sum(one.data for one in totals),
                read=sum(one.read for one in totals),
                stored=stored,
                stored_so_far=stored + (grown[-1].stored_so_far if grown else 0),
            )
        )
    return grown
