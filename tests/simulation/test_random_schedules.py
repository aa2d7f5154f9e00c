"""Many nodes use one repository at random, at every interleaving of their store calls, and nothing is ever lost.

`ROKCTL_TEST_STEPS=10000000` makes that many store calls instead of 100 000. The seed is printed. `ROKCTL_TEST_SEED=SEED`
makes the same run again, and the seed of one episode, which a failure names and which has dashes in it, that episode
alone; a failure also tells the shortest schedule found that leads to it.
"""

import os
import subprocess
import sys
from collections import Counter

import pytest

from tests.node import ROOT, say
from tests.simulation.workload import Episode

STEPS = int(os.environ.get("ROKCTL_TEST_STEPS", "100000"))
LONG = STEPS > 1_000_000
SEED = os.environ.get("ROKCTL_TEST_SEED") or str(int.from_bytes(os.urandom(4)))
PARTS = 4
SEEN = [
    "collect: done", "forget: done", "push: done", "restore: done", "full push: done",
    "deleted pack", "deleted gc", "deleted s0", "deleted index", "deleted pending", "deleted versions",
    "tombstone broken", "tombstone forgotten", "crashes", "losses", "jumps",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(0 if LONG else 300)
@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_at_once_no_version_is_lost_and_no_garbage_stays(part):
    seeds = [SEED] if "-" in SEED else (f"{SEED}-{part}-{number}" for number in range(sys.maxsize))
    say(f"ROKCTL_TEST_SEED={SEED}")
    steps, happened = 0, Counter()
    for seed in seeds:
        episode = Episode(seed).perform()
        assert episode.failure is None, episode.story()
        steps += episode.run.steps
        happened += episode.happened
        if steps >= STEPS / PARTS:
            assert [event for event in SEEN if not happened[event]] == [], (
                "the episodes were too quiet to prove anything"
            )
            break


TRACE = "from tests.simulation.workload import Episode; print(*Episode('1-2-3').perform().run.trace, sep='\\n')"


@pytest.mark.slow
def test_a_seed_gives_the_same_run_in_every_process():
    traces = [
        subprocess.run(
            [sys.executable, "-c", TRACE],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert traces[0].count(b"\n") > 100
