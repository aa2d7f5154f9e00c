"""Whatever is written to a volume, its versions give it back; and how a version was pushed leaves no trace in it."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.repo.naming import ObjectName
from engine.store.memory import MemoryStore
from tests.histories import happen, histories
from tests.repositories import (
    CLOCK,
    OBJECT,
    content,
    findings,
    new_pool,
    new_repository,
    push_snapshots,
    reopen,
    restore,
    snapshot,
)


@pytest.mark.slow
@given(histories())
@settings(
    max_examples=15, deadline=None, phases=set(Phase) - {Phase.shrink}, suppress_health_check=[HealthCheck.too_slow]
)
def test_full_incremental_and_foreign_pushes_of_one_content_make_equal_maps(history):
    size, periods = history
    store = MemoryStore(CLOCK)
    repository, pool = new_repository(store), new_pool()
    pool.create_volume("volume", size)
    for number, steps in enumerate(periods):
        happen(pool, "volume", steps)
        taken = snapshot(pool, f"s{number}", "volume")
        incremental = push_snapshots(repository, taken)
        assert (incremental.base is not None) == (number > 0)
    last = f"s{len(periods) - 1}"

    full = push_snapshots(repository, taken, full=True)
    elsewhere = new_pool("elsewhere")
    newest = repository.versions()[-1]
    restore(repository, newest, elsewhere, "copy")
    foreign = push_snapshots(repository, snapshot(elsewhere, "s", "copy"), ObjectName("other", "object"))

    manifests = {manifest.version: manifest for manifest in repository.versions()}
    members = [manifests[report.version].members[0] for report in (incremental, full, foreign)]
    assert len({(member.root, member.size, member.data, member.chunks) for member in members}) == 1
    assert full.new_chunks == 0
    assert foreign.new_chunks == 0
    assert content(elsewhere, "copy") == content(pool, "volume", last)


@pytest.mark.slow
@given(histories(), st.randoms(use_true_random=False))
@settings(
    max_examples=15, deadline=None, phases=set(Phase) - {Phase.shrink}, suppress_health_check=[HealthCheck.too_slow]
)
def test_every_version_restores_to_what_its_snapshot_holds(history, rnd):
    size, periods = history
    store = MemoryStore(CLOCK)
    repository, pool = new_repository(store), new_pool()
    pool.create_volume("volume", size)
    for number, steps in enumerate(periods):
        happen(pool, "volume", steps)
        push_snapshots(repository, snapshot(pool, f"s{number}", "volume"), workers=rnd.choice([1, 2, 3]))
    versions = repository.versions(OBJECT.bucket, OBJECT.name)
    assert findings(repository) == ()

    for number, manifest in enumerate(versions):
        restore(reopen(store), manifest, pool, f"new{number}")
        assert content(pool, f"new{number}") == content(pool, "volume", f"s{number}")

    # In place, over local changes, in any order; the volume may have grown since: then its end reads as zeros.
    for number in rnd.sample(range(len(versions)), len(versions)):
        happen(pool, "volume", [("noise", rnd.randrange(size), 5000, 1), ("discard", rnd.randrange(size), 70_000, 2)])
        report = restore(repository, versions[number], pool, "volume", in_place=True)
        assert report.base is not None
        assert content(pool, "volume") == content(pool, "volume", f"s{number}", size=pool.volume("volume").size)
