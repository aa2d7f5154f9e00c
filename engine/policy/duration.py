"""Stretches of the calendar as people write them: `30d`, `12h`, `2w`, `1y6m`."""

import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta, tzinfo

from engine.errors import Refused
from engine.values import dataclass

_DURATION = re.compile(
    r"(?:(?P<years>\d{1,5})y)?(?:(?P<months>\d{1,5})m)?(?:(?P<weeks>\d{1,5})w)?(?:(?P<days>\d{1,5})d)?(?:(?P<hours>\d{1,5})h)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Duration:
    """Years, months, weeks and days by the calendar, and hours by the clock; none negative, one of them more than 0."""

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0
    hours: int = 0

    def before(self, moment: datetime, zone: tzinfo) -> datetime:
        """The moment that lies this long before another one, in UTC; the first there is when it lies before that.

        Years and months are taken first: of a day that the month does not have, the last one it has. Then weeks and
        days, all at the same time of day in `zone`, be a day of 23 or 25 hours between. Of a time of day that comes
        twice it is the first. Then hours.
        """
        try:
            return self._day_before(moment, zone).astimezone(UTC) - timedelta(hours=self.hours)
        except (OverflowError, ValueError):
            return datetime.min.replace(tzinfo=UTC)

    def _day_before(self, moment: datetime, zone: tzinfo) -> datetime:
        if not (self.years or self.months or self.weeks or self.days):
            return moment  # stays the second of two equal times of day, if that is what it is
        local = moment.astimezone(zone)
        year, month = divmod(local.year * 12 + local.month - 1 - self.years * 12 - self.months, 12)
        day = min(local.day, monthrange(year, month + 1)[1])
        return local.replace(year=year, month=month + 1, day=day) - timedelta(weeks=self.weeks, days=self.days)

    def __str__(self) -> str:
        parts = (self.years, "y"), (self.months, "m"), (self.weeks, "w"), (self.days, "d"), (self.hours, "h")
        return "".join(f"{number}{unit}" for number, unit in parts if number)


def parse_duration(text: str) -> Duration:
    """`1y6m2w3d12h`, or a part of it in this order. Raises Refused when the text is no duration, or is one of nothing."""
    match = _DURATION.fullmatch(text)
    duration = Duration(**{unit: int(number or 0) for unit, number in match.groupdict().items()}) if match else None
    if duration is None or duration == Duration():
        raise Refused(
            f"{text!r} is not a duration",
            hint="write it as 12h, 30d, 2w or 1y6m: years, months, weeks, days, hours, in this order",
        )
    return duration
