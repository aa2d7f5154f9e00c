"""What the LVM pools of a node share: its clock, its randomness, and the locks that its processes hold on each pool."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Final

from engine.clock import Clock, SystemClock
from engine.errors import Busy, Failed
from engine.values import dataclass

_PATIENCE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.1
_COUNT_SPACE: Final = 32


class Work(Enum):
    """What only one process at a time may do to a pool. The two kinds go on side by side."""

    CHANGE = "change"
    DELTA = "delta"  # reading metadata, which may take minutes: a pool has but one metadata snapshot


@dataclass(frozen=True, slots=True)
class Node:
    """The machine. Tests give it another clock and another place for locks."""

    clock: Clock = field(default_factory=SystemClock)
    entropy: Callable[[int], bytes] = os.urandom
    locks: Path = Path("/run/rokctl")

    @contextmanager
    def working(self, work: Work, pool_uuid: str, pool_name: str) -> Iterator[int]:
        """Hold the lock for this work on a pool; gives how often it had begun and ended before, as `counted` tells it.

        Raises Busy when another process has held it for a minute. The kernel drops the lock when its holder dies, so there
        are no stale ones.
        """
        file = self._open_lock(work, pool_uuid)
        try:
            waited = 0.0
            while not _lock(file):
                if waited >= _PATIENCE_SECONDS:
                    raise Busy(f"another process has been at work on pool {pool_name} for a minute", hint="try later")
                self.clock.sleep(_PAUSE_SECONDS)
                waited += _PAUSE_SECONDS
            before = _read_count(file)
            begun = before + 1 + before % 2  # odd: at work
            _write_count(file, begun, self.locks)
            yield before
            _write_count(file, begun + 1, self.locks)
        finally:
            os.close(file)

    def counted(self, work: Work) -> dict[str, int]:
        """How often this work has begun and ended on each pool, by UUID; an odd number while it goes on, or broke off.

        The same even number before and after: nobody did any of it meanwhile.
        """
        suffix = f".{work.value}"
        counts: dict[str, int] = {}
        with suppress(OSError):  # no lock was ever taken, or none that we may see: no count that would equal another
            for path in self.locks.iterdir():
                if path.name.endswith(suffix):
                    counts[path.name.removesuffix(suffix)] = _parse_count(path.read_bytes())
        return counts

    @contextmanager
    def idle(self, work: Work, pool_uuid: str) -> Iterator[bool]:
        """Whether nobody does this work on the pool now; if so, nobody begins before the end of the `with`."""
        file = self._open_lock(work, pool_uuid)
        try:
            yield _lock(file)
        finally:
            os.close(file)

    def _open_lock(self, work: Work, pool_uuid: str) -> int:
        path = self.locks / f"{pool_uuid}.{work.value}"
        try:
            self.locks.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Failed(f"cannot open the lock {path}: {error.strerror}", hint="run as root") from error


THIS_NODE: Final = Node()


def _read_count(file: int) -> int:
    return _parse_count(os.pread(file, _COUNT_SPACE, 0))


def _parse_count(text: bytes) -> int:
    """What is no number counts as work that broke off."""
    return int(text) if text.isdigit() and len(text) < _COUNT_SPACE else 1 if text else 0


def _write_count(file: int, count: int, locks: Path) -> None:
    try:
        os.pwrite(file, b"%d" % count, 0)
    except OSError as error:
        raise Failed(f"cannot write to a lock in {locks}: {error.strerror}", hint="give it space") from error


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
