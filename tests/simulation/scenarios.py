"""Small scenarios for exhaustive search: a few actors whose interleavings have cost versions in looser protocols.

Each is a past, some actors, and what may happen to them. Nodes' clocks stand still, so a writer never knows that its
lease is over: sessions are broken at any moment, and every writer may be a zombie.
"""

from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import RokError
from tests.simulation.explore import explore
from tests.simulation.scheduler import Actor, Lost, Run, Weather
from tests.simulation.world import Broken, World


def sparse(actor, operation, key):
    """Where turns may change: before what decides of sessions, versions, and packs that are condemned."""
    folder = key.partition("/")[0]
    if actor.name.startswith("C") and not actor.collecting and folder != "gc":
        return False
    return dense(actor, operation, key) and folder not in ("index", "s0") and actor.last != (operation, folder)


def dense(actor, operation, key):
    """Where turns may change: before every write and every listing."""
    return operation in ("list", "put", "create", "delete")


@dataclass(frozen=True)
class Scenario:
    """`past` prepares a world; `actors` gives the names and the works of a run's actors."""

    past: Callable[[World], None]
    actors: Callable[[World, Run], dict]
    weather: Weather = Weather()

    def explore(self, *, preemptions, points=dense, limit=100_000):
        """Search all schedules; of the last states that are equal one is enough to be judged."""
        world, ends = World(), set()
        self.past(world)

        def perform(dice, on_turn):
            copy = world.copy()
            run = Run(copy.store, dice, self.weather, points=points, on_turn=on_turn)
            for name, (work, *ready) in self.actors(copy, run).items():
                run.add(Actor(name, work, *ready, rate=0.0))
            try:
                run.go()
                if not run.aborted:
                    if copy.store.digest not in ends:
                        ends.add(copy.store.digest)
                        copy.settle()
            except (Lost, Broken, RokError) as failure:
                return run, failure
            return run, None

        return explore(perform, preemptions=preemptions, limit=limit)


def _when(world, node, number=0):
    return lambda: world.version(node, number) is not None


def _old(world):
    """Version `old` of letter a, in a pack with a dead b: a collection condemns it while a is live."""
    world.node("old", "ab", "a.")
    world.prepare("old", 0)
    world.prepare("old", 1)
    world.direct().forget(world.version("old", 0))
    world.node("w1", "a")
    world.node("w2", "a")


def _dead(world):
    _old(world)
    world.direct().forget(world.version("old", 1))


def _twins(world):
    """The letter a stands in two packs, each with something dead in it."""
    world.node("old", "ab", "a.")
    world.node("twin", "ac", "a.")
    for node in ("old", "twin"):
        world.prepare(node, 0, dedup=False)
    for node in ("old", "twin"):
        world.prepare(node, 1)
        world.direct().forget(world.version(node, 0))


def _base(world):
    """A node whose next push inherits a from `base 0`, in a pack with a dead b."""
    world.node("other", "ab")
    world.prepare("other")
    world.node("base", "a.", "ac", "ad")
    world.prepare("base", 0)
    world.direct().forget(world.version("other"))


def _forget_when_there(world, run, node, number=0):
    return world.forgetting(run, node, number), _when(world, node, number)


SCENARIOS = {
    "reuse": Scenario(
        _old,
        lambda world, run: {
            "W": (world.pushing(run, "w1"),),
            "C": (world.collecting(run),),
            "F": (world.forgetting(run, "old", 1),),
            "B": (world.breaking(run),),
        },
    ),
    "reuse-next": Scenario(
        _dead,
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
            "F": _forget_when_there(world, run, "w1"),
            "C": (world.collecting(run), lambda: world.oracle.tombstones),
        },
        Weather(losses=1),
    ),
    "two-collect": Scenario(
        _old,
        lambda world, run: {
            "C1": (world.collecting(run),),
            "C2": (world.collecting(run),),
            "W": (world.pushing(run, "w1"),),
            "F": (world.forgetting(run, "old", 1),),
        },
    ),
    "twins": Scenario(
        _twins,
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
        _base,
        lambda world, run: {
            "W": (world.pushing(run, "base", 1),),
            "C": (world.collecting(run),),
            "F": (world.forgetting(run, "base", 0),),
            "B": (world.breaking(run),),
        },
    ),
    "base-chain": Scenario(
        _base,
        lambda world, run: {
            "W1": (world.pushing(run, "base", 1),),
            "C": (world.collecting(run),),
            "F": (world.forgetting(run, "base", 0),),
            "W2": (world.pushing(run, "base", 2), _when(world, "base", 1)),
        },
    ),
    "chain2": Scenario(
        _base,
        lambda world, run: {
            "W1": (world.pushing(run, "base", 1),),
            "C": (world.collecting(run),),
            "F0": (world.forgetting(run, "base", 0),),
            "W2": (world.pushing(run, "base", 2), _when(world, "base", 1)),
            "F1": _forget_when_there(world, run, "base", 1),
        },
    ),
    "read": Scenario(
        _old,
        lambda world, run: {
            "R": (world.restoring(run, "old", 1),),
            "C1": (world.collecting(run),),
            "C2": (world.collecting(run),),
        },
    ),
    "late": Scenario(
        _old,
        lambda world, run: {
            "W": (world.pushing(run, "w1"),),
            "C": (world.collecting(run),),
            "F": (world.forgetting(run, "old", 1),),
        },
        Weather(losses=1, crashes=1),
    ),
}
