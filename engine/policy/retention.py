"""Retention: which versions of one object its rules keep, and why.

Every rule stands for itself: what one of them keeps neither helps nor hinders another. So more of a rule never keeps less,
rules applied again to what they kept keep all of it, and the order in which they are given means nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from enum import Enum
from typing import Final

from engine.errors import Refused
from engine.policy.duration import Duration
from engine.policy.period import day, hour, month, week, year
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the rules see of a version (or of anything else that is taken again and again). Times have a time zone.

    `pinned` without `pinned_until` is for ever.
    """

    id: str
    time: datetime
    tags: frozenset[str] = frozenset()
    pinned: bool = False
    pinned_until: datetime | None = None

    def is_pinned(self, now: datetime) -> bool:
        """Whether the pin holds at this time; at its very end it does no more."""
        return self.pinned and (self.pinned_until is None or now < self.pinned_until)


@dataclass(frozen=True, slots=True)
class Rules:
    """How many to keep, and which. A negative count is Refused."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Duration | None = None
    tags: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly"):
            if (count := getattr(self, name)) < 0:
                raise Refused(f"the rule {name!r} cannot keep {count} versions", hint="give a number of 0 or more")

    @property
    def are_void(self) -> bool:
        """Whether they could keep nothing, whatever the versions."""
        return self == Rules()


class Rule(Enum):
    """Why a version is kept. The order is that of the reasons of a decision."""

    PINNED = "pinned"
    FUTURE = "future"
    LAST = "last"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
    WITHIN = "within"
    TAG = "tag"
    NEWEST = "newest"


# What holds a version whatever the rules that were asked for.
PROTECTIONS: Final = frozenset({Rule.PINNED, Rule.FUTURE, Rule.NEWEST})


@dataclass(frozen=True, slots=True)
class Reason:
    """A rule that keeps a version, and what about it: the day, the tag, the end of the pin; empty where that is all."""

    rule: Rule
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.rule.value} {self.detail}".rstrip()


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one version. It is dropped when nothing speaks for it."""

    candidate: Candidate
    reasons: tuple[Reason, ...]

    @property
    def keep(self) -> bool:
        """Does it stay?"""
        return bool(self.reasons)

    @property
    def is_chosen(self) -> bool:
        """Is there a rule that keeps it, and not just a protection?"""
        return any(reason.rule not in PROTECTIONS for reason in self.reasons)


def decide(
    candidates: Iterable[Candidate], rules: Rules, now: datetime, zone: tzinfo, *, allow_last: bool = False
) -> list[Decision]:
    """What the rules keep of the versions of one object, oldest first.

    The newer of two versions is the one with the later time; of equal times, the one that stands later in `candidates`.

    - `last`: the newest so many.
    - `hourly` to `yearly`: of each of the newest so many hours, days, ISO weeks, months or years that have a version at
      all, the newest one. They begin and end by the calendar of `zone`; an hour that a clock change repeats is two.
    - `within`: those that are at most so much older than the newest. Not than `now`: neither pushes that have ceased nor a
      clock that jumped ahead must let every version go.
    - `tags`: those that have one of the tags.

    Whatever the rules say, three things stay: what is pinned now; what lies in the future of `now`, which the rules by time
    neither keep nor count, because a clock that ran ahead must not crowd out what came after; and the newest version,
    together with the newest that does not lie in the future, unless `allow_last`.
    """
    ordered = sorted(candidates, key=lambda candidate: candidate.time)
    reasons: dict[str, list[Reason]] = {candidate.id: [] for candidate in ordered}
    assert len(reasons) == len(ordered), "two versions have one id"
    counted = [candidate for candidate in reversed(ordered) if candidate.time <= now]
    for candidate, reason in (*_held(ordered, now), *_by_time(counted, rules, zone), *_by_tag(ordered, rules)):
        reasons[candidate.id].append(reason)
    if not allow_last:
        for newest in (*ordered[-1:], *counted[:1]):
            reasons[newest.id] = reasons[newest.id] or [Reason(Rule.NEWEST)]
    return [Decision(candidate, tuple(reasons[candidate.id])) for candidate in ordered]


def _held(candidates: Iterable[Candidate], now: datetime) -> Iterator[tuple[Candidate, Reason]]:
    for candidate in candidates:
        if candidate.is_pinned(now):
            end = candidate.pinned_until
            yield candidate, Reason(Rule.PINNED, f"until {end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if end else "")
        if candidate.time > now:
            yield candidate, Reason(Rule.FUTURE)


def _by_time(counted: Sequence[Candidate], rules: Rules, zone: tzinfo) -> Iterator[tuple[Candidate, Reason]]:
    """Of versions that come newest first, those that the rules by number and age keep."""
    yield from ((candidate, Reason(Rule.LAST)) for candidate in counted[: rules.last])
    periods: tuple[tuple[Rule, int, Callable[[datetime], str]], ...] = (
        (Rule.HOURLY, rules.hourly, hour),
        (Rule.DAILY, rules.daily, day),
        (Rule.WEEKLY, rules.weekly, week),
        (Rule.MONTHLY, rules.monthly, month),
        (Rule.YEARLY, rules.yearly, year),
    )
    for rule, count, period_of in periods:
        yield from _newest_of_each(counted, rule, count, period_of, zone)
    if rules.within is not None and counted:
        start = rules.within.before(counted[0].time, zone)
        yield from ((c, Reason(Rule.WITHIN, str(rules.within))) for c in counted if c.time >= start)


def _newest_of_each(
    counted: Iterable[Candidate], rule: Rule, count: int, period_of: Callable[[datetime], str], zone: tzinfo
) -> Iterator[tuple[Candidate, Reason]]:
    # A set and not the period before: where a clock change just after midnight goes back to the day before, a day is not
    # one stretch of time.
    seen: set[str] = set()
    for candidate in counted:
        if len(seen) == count:
            return
        period = period_of(candidate.time.astimezone(zone))
        if period not in seen:
            seen.add(period)
            yield candidate, Reason(rule, period)


def _by_tag(candidates: Iterable[Candidate], rules: Rules) -> Iterator[tuple[Candidate, Reason]]:
    for candidate in candidates:
        for tag in sorted(candidate.tags & rules.tags):
            yield candidate, Reason(Rule.TAG, tag)
