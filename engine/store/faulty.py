"""A store that fails where it is told to: the tool of crash tests.

A test runs the same work once for every call `n` of an undisturbed run, with `Faulty(store, at(n, CRASH_BEFORE))` and with
`CRASH_AFTER`, and then looks at `store` as the next process would find it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from typing import Final

from engine.errors import RokError
from engine.store.base import Blob, Buffer, Store
from engine.values import dataclass


class Crashed(BaseException):
    """The process died at a store call, as far as the code under test goes.

    Neither a RokError nor an Exception, so that no handler takes it for something to live on with. Of what runs on the way
    out (`finally`, `with`) nothing reaches the store: every later call raises Crashed too.
    """


class Moment(Enum):
    """When a call fails."""

    BEFORE = "nothing was done"
    AFTER = "it was done, and the answer was lost"


@dataclass(frozen=True, slots=True)
class Fault:
    """A call that fails with `error`, or kills the process when that is None.

    A listing that fails AFTER has delivered its first half.
    """

    moment: Moment
    error: RokError | None = None


CRASH_BEFORE: Final = Fault(Moment.BEFORE)
CRASH_AFTER: Final = Fault(Moment.AFTER)


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a store has had: the first has number 1. The key of `list` and `keys` is their prefix, of `now` it is empty."""

    number: int
    operation: str
    key: str

    @property
    def writes(self) -> bool:
        """Whether the call changes the store."""
        return self.operation in ("put", "create", "delete")


Plan = Callable[[Call], Fault | None]


def never(call: Call) -> Fault | None:
    """The plan without a fault, to count the calls."""
    return None


def at(number: int, fault: Fault) -> Plan:
    """The plan whose only fault is at the call of that number."""
    return lambda call: fault if call.number == number else None


class Faulty:
    """Passes everything on to `store` but for the faults of `plan`, and remembers the calls.

    The plan is asked once for each call, by one thread at a time. `close` is no call, and passes always.
    """

    def __init__(self, store: Store, plan: Plan = never) -> None:
        self._store = store
        self._plan = plan
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._crashed = False

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls up to now, the one that crashed included, those after it not."""
        with self._lock:
            return tuple(self._calls)

    @property
    def url(self) -> str:
        """That of the store inside."""
        return self._store.url

    def put(self, key: str, body: Buffer) -> None:
        """Put, or fail."""
        with self._call("put", key):
            self._store.put(key, body)

    def create(self, key: str, body: Buffer) -> None:
        """Create, or fail."""
        with self._call("create", key):
            self._store.create(key, body)

    def get(self, key: str) -> bytes:
        """Get, or fail."""
        with self._call("get", key):
            return self._store.get(key)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Get, or fail."""
        with self._call("get_range", key):
            return self._store.get_range(key, offset, length)

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """Read, or fail."""
        with self._call("read_into", key):
            return self._store.read_into(key, offset, target)

    def list(self, prefix: str) -> Iterator[Blob]:
        """List, fail, or fail half-way."""
        fault = self._begin("list", prefix)
        listing = self._store.list(prefix)
        if fault is None:
            return self._while_alive(listing)
        blobs = [*listing]
        return self._broken_off(iter(blobs[: len(blobs) // 2]), fault)

    def keys(self, prefix: str) -> Mapping[str, int | None]:
        """List, or fail."""
        with self._call("keys", prefix):
            return self._store.keys(prefix)

    def stat(self, key: str) -> Blob:
        """Look, or fail."""
        with self._call("stat", key):
            return self._store.stat(key)

    def delete(self, key: str) -> None:
        """Delete, or fail."""
        with self._call("delete", key):
            self._store.delete(key)

    def now(self) -> datetime:
        """Ask, or fail."""
        with self._call("now", ""):
            return self._store.now()

    def close(self) -> None:
        """Close the store inside."""
        self._store.close()

    @contextmanager
    def _call(self, operation: str, key: str) -> Iterator[None]:
        fault = self._begin(operation, key)
        try:
            yield
        except RokError:  # an error is an answer as well, and can be lost like any
            self._end(fault)
            raise
        self._end(fault)

    def _begin(self, operation: str, key: str) -> Fault | None:
        """Count the call; the fault that it will end in."""
        with self._lock:
            if self._crashed:
                raise Crashed(f"at {operation} {key}, after the crash")
            call = Call(len(self._calls) + 1, operation, key)
            self._calls.append(call)
            fault = self._plan(call)
        if fault is not None and fault.moment is Moment.BEFORE:
            self._fail(fault)
        return fault

    def _end(self, fault: Fault | None) -> None:
        if fault is not None:
            self._fail(fault)
        self._check_alive()  # another thread may have died meanwhile: no answer reaches a dead process

    def _fail(self, fault: Fault) -> None:
        if fault.error is not None:
            raise fault.error
        with self._lock:
            self._crashed = True
        raise Crashed("by plan")

    def _check_alive(self) -> None:
        with self._lock:
            if self._crashed:
                raise Crashed("in another thread")

    def _while_alive(self, listing: Iterator[Blob]) -> Iterator[Blob]:
        for blob in listing:
            self._check_alive()
            yield blob

    def _broken_off(self, listing: Iterator[Blob], fault: Fault) -> Iterator[Blob]:
        yield from self._while_alive(listing)
        self._fail(fault)
