"""What all tests share."""

from datetime import UTC, datetime, timedelta

import pytest
from blake3 import blake3


class FakeClock:
    """A clock that the test moves; sleeping moves it too."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self):
        return datetime(2026, 11, 24, 8, 0, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds


class CountingEntropy:
    """Random bytes that are the same in every run, and never the same twice in one."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.count = 0

    def __call__(self, size):
        self.count += 1
        return blake3(f"{self.seed} {self.count}".encode()).digest(length=size)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def entropy():
    return CountingEntropy()
