"""A copy in another repository is what a push of the same volume would have made there."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.ops.copy import copy, plan_copy
from engine.ops.intake import Effort
from engine.ops.scope import Scope
from engine.progress import Silent
from engine.repo.naming import ObjectName
from engine.store.memory import MemoryStore
from tests.histories import happen, histories
from tests.repositories import CLOCK, content, findings, new_pool, new_repository, push_snapshots, restore, snapshot


@pytest.mark.slow
@given(histories(), st.sets(st.integers(0, 3)))
@settings(max_examples=10, deadline=None, phases=set(Phase) - {Phase.shrink}, suppress_health_check=list(HealthCheck))
def test_copies_have_the_content_and_the_maps_of_direct_pushes(history, copied_after):
    """Of the versions some are copied when they are the newest, and the others in the end: by deltas over one or several."""
    size, periods = history
    source, destination = (new_repository(MemoryStore(CLOCK), seed=seed) for seed in (0, 50))
    pool = new_pool()
    pool.create_volume("volume", size)
    for number, steps in enumerate(periods):
        happen(pool, "volume", steps)
        push_snapshots(source, snapshot(pool, f"s{number}", "volume"))
        if number in copied_after:
            copy_versions(source, destination, newest_only=True)
    copy_versions(source, destination)

    assert findings(destination) == ()
    names = {manifest.version: manifest.members[0].origin.snapshot for manifest in destination.versions()}
    assert sorted(names.values()) == [f"s{number}" for number in range(len(periods))]
    for manifest in destination.versions():
        name = names[manifest.version]
        restored = new_pool("restored")
        restore(destination, manifest, restored, "copy")
        assert content(restored, "copy") == content(pool, "volume", name)
        direct = push_snapshots(
            destination, [(pool, pool.snapshot("volume", name))], ObjectName("direct", name), full=True
        )
        assert direct.new_chunks == 0
        pushed, copied = destination.manifest(direct.version).members[0], manifest.members[0]
        assert (pushed.root, pushed.data, pushed.chunks) == (copied.root, copied.data, copied.chunks)


def copy_versions(source, destination, *, newest_only=False):
    plan = plan_copy(source, destination, [Scope()], [])
    if newest_only:
        plan = replace(plan, steps=plan.steps[-1:])
    report = copy(source, destination, plan, Effort(workers=2), node="n", tool="t", progress=Silent())
    assert report.damaged == 0
