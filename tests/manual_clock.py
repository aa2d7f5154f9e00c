"""A clock that goes only when it is told to, or when someone sleeps."""

import threading
from datetime import UTC, datetime, timedelta


class ManualClock:
    """Starts at noon of the first of January 2030. `slept` lists the sleeps, in seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passed_seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2030, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        with self._lock:
            return self._passed_seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._passed_seconds += seconds
