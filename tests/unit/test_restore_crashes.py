"""A restore that dies at any call of the pool is not taken for a finished one, and can be run again."""

import random

import pytest

from engine.errors import Failed, NotFound, Refused
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import (
    CLOCK,
    content,
    new_pool,
    new_repository,
    push_snapshots,
    reopen,
    restore,
    snapshot,
    write,
)


@pytest.fixture(scope="module")
def pushed():
    """A repository with one version of a volume of 66 MiB, and the hash of what it holds."""
    pool, store, rnd = new_pool(), MemoryStore(CLOCK), random.Random(3)
    pool.create_volume("volume", 66 * MIB)
    write(pool, "volume", (0, rnd.randbytes(900 * KIB)), (65 * MIB, rnd.randbytes(300 * KIB)))
    push_snapshots(new_repository(store), snapshot(pool, "a", "volume"))
    return store, content(pool, "volume")


@pytest.mark.slow
def test_a_restore_that_dies_at_any_call_says_so_and_can_be_run_again(pushed):
    store, wanted = pushed
    repository = reopen(store)
    [manifest] = repository.versions()
    undisturbed = new_pool()
    restore(repository, manifest, undisturbed, "copy")
    for number in range(1, undisturbed.calls + 1):
        pool = new_pool()
        pool.die_at(number)
        with pytest.raises(Failed):
            restore(repository, manifest, pool, "copy")
        pool.revive()

        try:
            left = pool.volume("copy")
        except NotFound:
            pass
        else:
            assert left.restoring == manifest.version, f"died at call {number}"
            with pytest.raises(Refused, match="only partly written"):
                snapshot(pool, "half", "copy")
        restore(repository, manifest, pool, "copy")
        assert content(pool, "copy") == wanted
        assert pool.volume("copy").restoring is None
