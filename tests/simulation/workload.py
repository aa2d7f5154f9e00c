"""Random episodes: a few nodes that push, forget, collect, check and restore at once, with all that can go wrong."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from engine.errors import RokError
from tests.simulation.explore import Random, Scripted, shrink
from tests.simulation.scheduler import HOUR, Actor, Lost, Run, Weather
from tests.simulation.world import Broken, World

GRACE = timedelta(hours=24)
WORDS = ("ab", "a.", ".b", "cb", "..", "cd")  # short: what one forgets, another often pushes
PUSHES = {"push": 8, "full push": 8}
OTHERS = {"forget": 9, "collect": 9, "check": 2, "read check": 1, "restore": 2, "status": 1, "break": 1}
AT_ONCE = 5


@dataclass
class Episode:
    """One run, by a seed, and by a script of choices instead of the seed's where one is given."""

    seed: str
    script: list | None = None
    run: Run | None = None
    failure: Exception | None = None
    happened: Counter = field(default_factory=Counter)

    def perform(self):
        rnd = random.Random(f"workload {self.seed}")
        world, grace = _world(rnd), rnd.choice([timedelta(), timedelta(), timedelta(), GRACE])
        dice = Random(f"schedule {self.seed}") if self.script is None else Scripted(self.script)
        self.run = Run(world.store, dice, _weather(rnd, grace), at_once=AT_ONCE)
        for number in range(rnd.randint(12, 30)):
            self._add(world, number, rnd, grace)
        try:
            self.run.go()
            world.settle()
        except (Lost, Broken, RokError) as failure:
            self.failure = failure
        self._count(world)
        return self

    def _add(self, world, number, rnd, grace):
        run = self.run
        kind = rnd.choices([*PUSHES, *OTHERS], [*PUSHES.values(), *OTHERS.values()])[0]
        node = rnd.choice(sorted(world.nodes))
        at = rnd.randrange(len(world.nodes[node].words))
        works = {
            "push": lambda: world.pushing(run, node, at),
            "full push": lambda: world.pushing(run, node, at, full=True),
            "forget": lambda: world.forgetting(run, node, at, planned=rnd.random() < 0.5),
            "collect": lambda: world.collecting(run, grace=grace),
            "check": lambda: world.checking(run),
            "read check": lambda: world.checking(run, read_data=True),
            "restore": lambda: world.restoring(run, node, at),
            "status": lambda: world.looking(run),
            "break": lambda: world.breaking(run),
        }
        needs_version = kind in ("forget", "restore")

        def ready():
            return not needs_version or world.version(node, at) is not None

        run.add(
            Actor(
                f"{number} {kind}",
                works[kind](),
                ready,
                hours_fast=rnd.choice([0, 0, -30, 5]),
                rate=rnd.choice([1, 1, 0.5, 1.7]),
                may_be_stale=kind != "collect",
            )
        )

    def _count(self, world):
        for actor in self.run.actors:
            kind, outcome = actor.name.split(" ", 1)[1], type(actor.error).__name__ if actor.error else "done"
            self.happened[f"{kind}: {outcome if actor.ended else 'never began'}"] += 1
        self.happened.update({f"deleted {folder}": count for folder, count in world.oracle.deleted.items()})
        self.happened.update({f"tombstone {word.decode()}": n for word, n in world.oracle.tombstones.items() if word})
        self.happened.update(crashes=self.run.crashes, losses=self.run.losses, jumps=self.run.jumps)

    def story(self):
        """The failure, and the shortest schedule found that still leads to it."""
        script = shrink(self.run.dice.choices, lambda script: Episode(self.seed, script).perform().failure is not None)
        short = Episode(self.seed, script).perform()
        return "\n".join([f"{short.failure}", f"ROKCTL_TEST_SEED={self.seed} replays it; shortened:", *short.run.trace])


def _world(rnd):
    world = World()
    for number in range(rnd.randint(2, 4)):
        world.node(f"n{number}", *rnd.sample(WORDS, rnd.randint(1, 3)))
    for name in sorted(world.nodes):
        if rnd.random() < 0.5:
            world.prepare(name, dedup=rnd.random() < 0.7)
    return world


def _weather(rnd, grace):
    return Weather(
        crashes=rnd.choice([0, 1, 3]),
        losses=rnd.choice([0, 2, 6]),
        jumps=(60.0, 0.8 * HOUR, 7 * HOUR, 30 * HOUR),
        jump_limit=rnd.choice([0, 3, 8]),
        late_packs=grace > timedelta(),
        paged=rnd.random() < 0.5,
        stale=rnd.random() < 0.5,
        sized=rnd.random() < 0.5,
    )
