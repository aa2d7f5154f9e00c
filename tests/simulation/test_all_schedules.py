"""All schedules of small scenarios with one preemption: nothing is ever lost.

`ROKCTL_TEST_STEPS=10000000` chooses the long mode, as it does for the random schedules: all scenarios, two preemptions, before
more calls, up to 30 000 schedules of each; that takes about an hour.
"""

import pytest

from tests.simulation.scenarios import SCENARIOS, dense, sparse
from tests.simulation.test_random_schedules import LONG

QUICKLY_DONE = ("base", "heir", "lost-ack", "read", "reuse", "twins", "zombie")


@pytest.mark.slow
@pytest.mark.timeout(0 if LONG else 300)
@pytest.mark.parametrize("name", SCENARIOS if LONG else QUICKLY_DONE)
def test_no_schedule_loses_a_version_or_leaves_garbage(name):
    bounds = {"points": dense, "preemptions": 2, "limit": 30_000} if LONG else {"points": sparse, "preemptions": 1}
    found = SCENARIOS[name].explore(**bounds)
    assert found.failure is None, "\n".join([repr(found.failure), *found.trace])
    assert LONG or (found.complete and found.states > 500)
