"""Ctrl-C at any store call of a push: the session is ended, whatever it had come to."""

import threading

import pytest

from engine.store.memory import MemoryStore
from engine.units import MIB
from tests.repositories import (
    CLOCK,
    findings,
    new_pool,
    new_repository,
    push_snapshots,
    reopen,
    snapshot,
    write,
)

pytestmark = pytest.mark.slow


class Interrupting:
    """Passes calls on to `store`; the `number`-th of the main thread, which alone gets signals, meets a Ctrl-C."""

    def __init__(self, store, number, *, done):
        self._store, self._number, self._done = store, number, done
        self.calls = 0

    def __getattr__(self, name):
        attribute = getattr(self._store, name)
        if not callable(attribute) or threading.current_thread() is not threading.main_thread():
            return attribute

        def call(*words):
            self.calls += 1
            if self.calls == self._number and not self._done:
                raise KeyboardInterrupt
            answer = attribute(*words)
            if self.calls == self._number:
                raise KeyboardInterrupt
            return answer

        return call


@pytest.fixture(scope="module")
def snapshots():
    pool = new_pool()
    pool.create_volume("volume", 4 * MIB)
    write(pool, "volume", (0, b"x" * MIB))
    return snapshot(pool, "a", "volume")


@pytest.mark.parametrize("done", [False, True], ids=["before the call", "after the call"])
def test_an_interrupted_push_leaves_no_session_open(snapshots, done):
    committed, number = [], 0
    while True:
        number += 1
        store = MemoryStore(CLOCK)
        new_repository(store)
        interrupting = Interrupting(store, number, done=done)
        try:
            push_snapshots(reopen(interrupting), snapshots)
        except KeyboardInterrupt:
            interrupted_in_push = True
        else:
            interrupted_in_push = False
        assert [*store.list("pending/")] == [], f"interrupted at call {number}"
        repository = reopen(store)
        assert findings(repository) == ()
        committed.append(len(repository.versions()))
        if not interrupted_in_push:
            break
        assert push_snapshots(reopen(store, seed=number + 2), snapshots).outcome.value == (
            "already there" if committed[-1] else "created"
        )
    assert committed == sorted(committed), "a version that was committed stays"
    assert committed[-2:] == [1, 1], "the last call comes after the commit"
