"""A copy that dies at any store call leaves both repositories whole, and is taken up without sending anything twice."""

import random

import pytest

from engine.ops.copy import copy, plan_copy
from engine.ops.intake import Effort
from engine.ops.scope import Scope
from engine.progress import Silent
from engine.repo.tags import TagChange, Tags, change_tags, tags_of
from engine.store.faulty import CRASH_AFTER, CRASH_BEFORE, Crashed, Faulty, at
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import (
    CLOCK,
    content,
    findings,
    is_new,
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
    """The store of a repository with two versions, of which the first is pinned; and the hashes of their content."""
    pool, rnd, store = new_pool(), random.Random(11), MemoryStore(CLOCK)
    source = new_repository(store)
    pool.create_volume("volume", 2 * MIB)
    write(pool, "volume", (0, rnd.randbytes(600 * KIB)))
    push_snapshots(source, snapshot(pool, "a", "volume"))
    write(pool, "volume", (300 * KIB, rnd.randbytes(100 * KIB)))
    push_snapshots(source, snapshot(pool, "b", "volume"))
    change_tags(source, source.versions()[0].version, TagChange(add=frozenset({"release"}), pin=True))
    return store, [content(pool, "volume", name) for name in "ab"]


def new_destination():
    store = MemoryStore(CLOCK)
    new_repository(store, seed=50)
    return store


def copy_between(source, destination, seed):
    """Copy all from store to store, as a process would: it opens both, and plans."""
    here, there = reopen(source, seed=seed), reopen(destination, seed=seed + 1000)
    plan = plan_copy(here, there, [Scope()], [])
    return copy(here, there, plan, Effort(workers=2), node="n", tool="t", progress=Silent())


def undisturbed(store):
    source, destination = Faulty(store), Faulty(new_destination())
    copy_between(source, destination, seed=1)
    return len(source.calls), len(destination.calls), reopen(destination).status().chunks


def check(store, contents):
    """The destination is sound, and what it has of the versions is right and complete."""
    repository = reopen(store, seed=7)
    assert findings(repository) == ()
    versions = repository.versions()
    for manifest, expected in zip(versions, contents, strict=False):
        pool = new_pool("restored")
        restore(repository, manifest, pool, "copy")
        assert content(pool, "copy") == expected
    for number, manifest in enumerate(versions):
        wanted = Tags(frozenset({"release"}), pinned=True) if number == 0 else Tags()
        assert tags_of(repository, manifest.version) == wanted
    return repository


@pytest.mark.slow
@pytest.mark.parametrize("fault", [CRASH_BEFORE, CRASH_AFTER], ids=["before", "after"])
@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_copy_that_dies_at_any_call_is_taken_up_by_the_next(pushed, fault, side):
    store, contents = pushed
    *calls, chunks = undisturbed(store)
    met = set()
    for number in range(1, calls[side == "destination"] + 1):
        destination = new_destination()
        sides = {"source": store, "destination": destination}
        sides[side] = Faulty(sides[side], at(number, fault))
        with pytest.raises(Crashed):
            copy_between(**sides, seed=1)
        if not is_new(destination, met):
            continue
        before = len(check(destination, contents).versions())

        report = copy_between(store, destination, seed=2 * number + 1)

        assert (report.created, report.already_there) == (2 - before, before), f"after a crash at call {number}"
        repository = check(destination, contents)
        assert len(repository.versions()) == 2
        assert repository.status().chunks == chunks, "what had arrived was not sent again"
