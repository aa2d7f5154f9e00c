"""Time: the machine's clock, behind a protocol, so that tests and simulations own it; and moments as they are written."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

FIRST_MOMENT: Final = datetime.min.replace(tzinfo=UTC)
LAST_MOMENT: Final = datetime.max.replace(tzinfo=UTC)

_DAY: Final = timedelta(days=1)
_LOOK_SECONDS: Final = 0.2


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """The time of day, with a time zone; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back, and counts while the machine is suspended."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after about this many seconds; at once when the program is to end (`StoppableClock`)."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """The time of day in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """CLOCK_BOOTTIME: unlike CLOCK_MONOTONIC it counts suspended time, which a lease must not overlook."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


class StoppableClock(SystemClock):
    """The clock of this machine, for a program that must be able to end while threads of it sleep.

    They sleep for minutes where a store does not answer or a rate is low, and whoever ends the work waits for them.
    """

    def __init__(self) -> None:
        self._stopped = False

    def stop(self) -> None:
        """Wake all who sleep, and let nobody sleep again. May be called in a signal handler: it takes no lock."""
        self._stopped = True

    def sleep(self, seconds: float) -> None:
        """Sleep, but no longer than until the clock is stopped."""
        end = self.monotonic() + seconds
        while not self._stopped and (rest := end - self.monotonic()) > 0:
            super().sleep(min(rest, _LOOK_SECONDS))


def parse_moment(text: str, *, latest: datetime = LAST_MOMENT - _DAY) -> datetime:
    """A moment, ISO 8601. Raises ValueError also when it has no time zone, or lies at an end of the calendar.

    Without a time zone it could not be compared with other moments, and at the ends not be told in every time zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not FIRST_MOMENT + _DAY <= moment <= latest:
        raise ValueError("no moment of every time zone")
    return moment
