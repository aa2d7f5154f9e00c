"""The machine's clock, behind a protocol, so that tests and simulations own the time."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """The time of day, with a time zone; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back, and counts while the machine is suspended."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after about this many seconds."""
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
