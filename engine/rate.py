"""A limit on bytes per second, shared by any number of threads."""

import threading

from engine.clock import Clock


class RateLimit:
    """At most `bytes_per_second`, on average over any stretch of work. Time that went unused is not made up for."""

    def __init__(self, bytes_per_second: int, clock: Clock) -> None:
        assert bytes_per_second > 0, f"a limit of {bytes_per_second} bytes per second"
        self._rate = bytes_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._spent_until = clock.monotonic()

    def take(self, amount: int) -> None:
        """Return when `amount` more bytes have had their time. Threads are served in the order of their calls."""
        with self._lock:
            now = self._clock.monotonic()
            self._spent_until = max(self._spent_until, now) + amount / self._rate
            wait_seconds = self._spent_until - now
        if wait_seconds > 0:
            self._clock.sleep(wait_seconds)
