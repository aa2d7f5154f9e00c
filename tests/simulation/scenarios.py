"""Small scenarios for exhaustive search: a few actors whose interleavings have cost versions in looser protocols.

Each is a past, some actors, and what may happen to them. Nodes' clocks stand still, so a writer never knows that its
lease is over: sessions are broken at any moment, and every writer may be a zombie.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from engine.errors import RokError
from engine.progress import Silent
from engine.repo.collect import CollectOptions, collect
from tests.simulation.explore import Directed, explore
from tests.simulation.scheduler import Actor, Lost, Run, Weather
from tests.simulation.world import PACK_SIZE, Broken, World


def sparse(actor, operation, key):
    """Where turns may change: before what decides of sessions, versions, and packs that are condemned."""
    folder = key.partition("/")[0]
    if actor.name.startswith("C") and not actor.collecting and folder != "gc":
        return False
    return dense(actor, operation, key) and folder not in ("index", "s0") and actor.last != (operation, folder)


def dense(actor, operation, key):
    """Where turns may change: before every write and every listing."""
    return operation in ("list", "put", "create", "delete")


CALM = Weather()


@dataclass(frozen=True)
class Scenario:
    """`past` prepares a world; `actors` gives the names and the works of a run's actors."""

    past: Callable[[World], None]
    actors: Callable[[World, Run], dict]
    weather: Weather = CALM

    def explore(self, *, preemptions, points=dense, limit=100_000):
        """Search all schedules; of the last states that are equal one is enough to be judged."""
        world, ends = self.prepared(), set()

        def perform(dice, on_turn):
            return self.perform(world.copy(), dice, ends, points=points, on_turn=on_turn)

        return explore(perform, preemptions=preemptions, limit=limit)

    def direct(self, plan, fates=()):
        """The run of a plan, and what it broke or None."""
        return self.perform(self.prepared(), Directed(plan, fates), set())

    def prepared(self):
        world = World()
        self.past(world)
        return world

    def perform(self, world, dice, ends, **options):
        run = Run(world.store, dice, self.weather, **options)
        for name, (work, *ready) in self.actors(world, run).items():
            run.add(Actor(name, work, *ready, rate=0.0))
        try:
            run.go()
            if not run.aborted and world.store.digest not in ends:
                ends.add(world.store.digest)
                world.settle()
        except (Lost, Broken, RokError) as failure:
            return run, failure
        return run, None


def when(world, node, number=0):
    return lambda: world.version(node, number) is not None


def old(world):
    """Version `old` of letter a, in a pack with a dead b: a collection condemns it while a is live."""
    world.node("old", "ab", "a.")
    world.prepare("old", 0)
    world.prepare("old", 1)
    world.direct().forget(world.version("old", 0))
    world.node("w1", "a")
    world.node("w2", "a")


def dead(world):
    old(world)
    world.direct().forget(world.version("old", 1))


def waiting(world):
    """Condemn what is to be condemned, for the collections that follow to finish."""
    options = CollectOptions(grace=timedelta(days=1), pack_size=PACK_SIZE)
    collect(world.direct(seed="past"), options, progress=Silent())


def inherited(world):
    """What `dead` leaves, and a node with two versions elsewhere: a copy of the second relies on a, by an index of the first."""
    dead(world)
    world.node("copied", "c.", "ca")


def twins(world):
    """The letter a stands in two packs, each with something dead in it."""
    world.node("old", "ab", "a.")
    world.node("twin", "ac", "a.")
    for node in ("old", "twin"):
        world.prepare(node, 0, dedup=False)
    for node in ("old", "twin"):
        world.prepare(node, 1)
        world.direct().forget(world.version(node, 0))


def base(world):
    """A node whose next push inherits a from `base 0`, in a pack with a dead b."""
    world.node("other", "ab")
    world.prepare("other")
    world.node("base", "a.", "ac", "ad")
    world.prepare("base", 0)
    world.direct().forget(world.version("other"))


def forget_when_there(world, run, node, number=0):
    return world.forgetting(run, node, number), when(world, node, number)


SCENARIOS = {
    "reuse": Scenario(
        old,
        lambda world, run: {
            "W": (world.pushing(run, "w1"),),
            "C": (world.collecting(run),),
            "F": (world.forgetting(run, "old", 1),),
            "B": (world.breaking(run),),
        },
    ),
    "reuse-next": Scenario(
        dead,
        lambda world, run: {
            "W1": (world.pushing(run, "w1"),),
            "W2": (world.pushing(run, "w2"),),
            "C": (world.collecting(run),),
            "B": (world.breaking(run),),
        },
    ),
    "lost-ack": Scenario(
        lambda world: world.node("w1", "a"),
        lambda world, run: {
            "W": (world.pushing(run, "w1"),),
            "F": forget_when_there(world, run, "w1"),
            "C": (world.collecting(run), lambda: world.oracle.tombstones),
        },
        Weather(losses=1),
    ),
    "two-collect": Scenario(
        old,
        lambda world, run: {
            "C1": (world.collecting(run),),
            "C2": (world.collecting(run),),
            "W": (world.pushing(run, "w1"),),
            "F": (world.forgetting(run, "old", 1),),
        },
    ),
    "twins": Scenario(
        twins,
        lambda world, run: {
            "C1": (world.collecting(run),),
            "C2": (world.collecting(run),),
            "F": (world.forgetting(run, "old", 1),),
        },
    ),
    "zombie": Scenario(
        lambda world: (world.node("w1", "a"), world.node("w2", "a")),
        lambda world, run: {
            "W1": (world.pushing(run, "w1"),),
            "B": (world.breaking(run), lambda: any(world.store.list("pending/"))),
            "C": (world.collecting(run), lambda: world.oracle.tombstones),
            "W2": (world.pushing(run, "w2"),),
        },
    ),
    "base": Scenario(
        base,
        lambda world, run: {
            "W": (world.pushing(run, "base", 1),),
            "C": (world.collecting(run),),
            "F": (world.forgetting(run, "base", 0),),
            "B": (world.breaking(run),),
        },
    ),
    "base-chain": Scenario(
        base,
        lambda world, run: {
            "W1": (world.pushing(run, "base", 1),),
            "C": (world.collecting(run),),
            "F": (world.forgetting(run, "base", 0),),
            "W2": (world.pushing(run, "base", 2), when(world, "base", 1)),
        },
    ),
    "chain2": Scenario(
        base,
        lambda world, run: {
            "W1": (world.pushing(run, "base", 1),),
            "C": (world.collecting(run),),
            "F0": (world.forgetting(run, "base", 0),),
            "W2": (world.pushing(run, "base", 2), when(world, "base", 1)),
            "F1": forget_when_there(world, run, "base", 1),
        },
    ),
    "heir": Scenario(
        inherited,
        lambda world, run: {
            "W": (world.copying(run, "copied"),),
            "C1": (world.collecting(run),),
            "C2": (world.collecting(run),),
        },
    ),
    "heir-broken": Scenario(
        inherited,
        lambda world, run: {
            "W": (world.copying(run, "copied"),),
            "C1": (world.collecting(run),),
            "C2": (world.collecting(run),),
            "B": (world.breaking(run),),
        },
    ),
    "read": Scenario(
        old,
        lambda world, run: {
            "R": (world.restoring(run, "old", 1),),
            "C1": (world.collecting(run),),
            "C2": (world.collecting(run),),
        },
    ),
    "index": Scenario(
        old,
        lambda world, run: {
            "W": (world.pushing(run, "w1"),),
            "C": (world.collecting(run),),
        },
    ),
    "late": Scenario(
        old,
        lambda world, run: {
            "W": (world.pushing(run, "w1"),),
            "C": (world.collecting(run),),
            "F": (world.forgetting(run, "old", 1),),
        },
        Weather(losses=1, crashes=1),
    ),
}
