"""The simulation finds every hole that a looser protocol has; and by the same schedules the product loses nothing."""

import pytest

from tests.simulation.bugs import HARMLESS_HERE, HOLES, plant
from tests.simulation.scenarios import SCENARIOS, sparse
from tests.simulation.scheduler import Lost
from tests.simulation.world import Broken

BY_CIRCUMSTANCES = ("tombstone-swept", "late-pack")  # no change of the code, but times that are chosen too short


@pytest.mark.parametrize("bug", HOLES)
def test_the_simulation_finds(bug, monkeypatch):
    plant(bug, monkeypatch)
    hole = HOLES[bug]
    _, failure = hole.scenario.direct(hole.plan, hole.fates)
    assert isinstance(failure, Lost | Broken)


@pytest.mark.parametrize("bug", [bug for bug in HOLES if bug not in BY_CIRCUMSTANCES])
def test_without_the_bug_the_same_schedule_is_harmless(bug):
    hole = HOLES[bug]
    run, failure = hole.scenario.direct(hole.plan, hole.fates)
    assert failure is None, "\n".join(run.trace)


@pytest.mark.slow
@pytest.mark.parametrize("bug", HARMLESS_HERE)
def test_an_order_that_only_matters_where_packs_do_not_describe_themselves_loses_nothing(bug, monkeypatch):
    plant(bug, monkeypatch)
    found = SCENARIOS["index"].explore(preemptions=1)
    assert found.failure is None, "\n".join([repr(found.failure), *found.trace])
    assert found.complete
    assert found.states > 100


@pytest.mark.parametrize("bug", [bug for bug in HOLES if bug not in BY_CIRCUMSTANCES])
def test_of_calls_that_are_made_at_once_either_may_come_first(bug, monkeypatch):
    plant("other-first", monkeypatch)
    run, failure = HOLES[bug].scenario.direct(HOLES[bug].plan, HOLES[bug].fates)
    assert failure is None, "\n".join(run.trace)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "heir", "reuse", "twins"])
def test_whichever_comes_first_no_schedule_loses_a_version(name, monkeypatch):
    plant("other-first", monkeypatch)
    found = SCENARIOS[name].explore(points=sparse, preemptions=1)
    assert found.failure is None, "\n".join([repr(found.failure), *found.trace])
    assert found.complete
    assert found.states > 100
