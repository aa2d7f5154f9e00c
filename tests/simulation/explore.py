"""Ways to choose: at random from a seed, by a script, or all schedules with few preemptions."""

import random
from dataclasses import dataclass, field

from tests.simulation.scheduler import Actor, Dice, Request

FREE = ("next", "fate")  # choices that are no preemptions: someone must go on, and faults have a budget of their own


class Random(Dice):
    """Choices from a seed. Each actor has a rank, the highest goes on, and ranks change now and then: so one is overtaken by
    whole operations of others more often than by single calls, which is what holes in protocols take.
    """

    def __init__(self, seed):
        super().__init__()
        self._rnd = random.Random(seed)
        self._restless = self._rnd.choice([0.02, 0.1, 0.3])
        self._chances = {"event": 0.03, "fate": self._rnd.choice([0, 0.02, 0.06]), "page": 0.3, "stale": 0.3}
        self._ranks = {}

    def pick(self, kind, options):
        if kind not in ("turn", "next"):
            return self._rnd.randrange(1, len(options)) if self._rnd.random() < self._chances[kind] else 0
        actors = [number for number, option in enumerate(options) if isinstance(option, Actor)]
        if len(actors) < len(options) and self._rnd.random() < self._chances["event"]:
            return self._rnd.randrange(len(actors), len(options))
        best = max(actors, key=lambda number: self._rank(options[number].name))
        if self._rnd.random() < self._restless:
            self._ranks[options[best].name] = self._rnd.random()
        return best

    def _rank(self, name):
        if name not in self._ranks:
            self._ranks[name] = self._rnd.random()
        return self._ranks[name]


class Scripted(Dice):
    """The given choices, and then 0 for ever. `asked` is what each choice was about."""

    def __init__(self, script):
        super().__init__()
        self.script = script
        self.asked = []

    def pick(self, kind, options):
        number = len(self.choices)
        self.asked.append((kind, len(options)))
        return min(self.script[number], len(options) - 1) if number < len(self.script) else 0


class Directed(Dice):
    """A plan: `("W", "create versions/")` lets W run until it is about to make such a call, `("W",)` until it ends.

    `("network",)` lets a late write arrive. `fates` are what becomes, in turn, of the calls that begin so. When the plan is
    over the actors end one by one.
    """

    def __init__(self, plan, fates=()):
        super().__init__()
        self._plan = list(plan)
        self._fates = list(fates)
        self._moved = False
        self._running = None

    def choose(self, kind, options):
        return options[self.pick(kind, options)]

    def pick(self, kind, options):
        if kind in ("turn", "next"):
            return self._turn(options)
        if kind == "fate" and self._fates and self._running.about.startswith(self._fates[0][0]):
            return options.index(self._fates.pop(0)[1])
        return 0

    def _turn(self, options):
        actors = {option.name: number for number, option in enumerate(options) if isinstance(option, Actor)}
        requests = [number for number, option in enumerate(options) if isinstance(option, Request)]
        while self._plan:
            name, *until = self._plan[0]
            if name == "network":
                self._plan.pop(0)
                return requests[0]
            if name in actors:
                self._running = options[actors[name]]
                if not (until and self._moved and self._running.about.startswith(until[0])):
                    self._moved = True
                    return actors[name]
            assert name in actors or self._moved, f"{name} cannot begin"
            self._plan.pop(0)
            self._moved = False
        self._running = options[0]
        return 0


def shrink(choices, fails, *, tries=400):
    """A script with as few choices other than 0 as `tries` attempts find, for which `fails(script)` still holds."""
    best = list(choices)
    width = max(1, len(best) // 2)
    while width and tries > 0:
        at = 0
        while at < len(best) and tries > 0:
            if any(best[at : at + width]):
                script = best[:at] + [0] * len(best[at : at + width]) + best[at + width :]
                tries -= 1
                if fails(script):
                    best = script
            at += width
        width //= 2
    return best


@dataclass
class Explored:
    """What a search has done."""

    runs: int = 0
    steps: int = 0
    states: int = 0
    complete: bool = True
    failure: object = None
    trace: list = field(default_factory=list)


def explore(perform, *, preemptions, limit=100_000):
    """Every schedule with at most so many preemptions, and all that the weather allows.

    `perform(dice, on_turn)` makes a whole run and gives it, and what it broke or None. A state that was met before with
    as many preemptions left is not followed again. Depth first, by running each schedule from the start.
    """
    found, scripts, seen = Explored(), [([], 0)], {}
    while scripts:
        if found.runs == limit:
            found.complete = False
            return found
        script, spent = scripts.pop()
        dice = Scripted(script)

        def on_turn(run, dice=dice, script=script, left=preemptions - spent):
            if len(dice.choices) > len(script):
                state = state_of(run)
                if seen.get(state, -1) >= left:
                    run.abort()
                else:
                    seen[state] = left

        run, failure = perform(dice, on_turn)
        found.runs += 1
        found.steps += run.steps
        if failure is not None:
            found.failure, found.trace = failure, run.trace
            break
        for at in range(len(script), len(dice.choices)):
            kind, count = dice.asked[at]
            cost = spent + (kind not in FREE)
            if cost <= preemptions:
                scripts += [([*dice.choices[:at], choice], cost) for choice in range(1, count)]
    found.states = len(seen)
    return found


def state_of(run):
    """All that decides what can still happen."""
    actors = tuple((a.thread is not None, a.ended, a.crashed, a.seen, a.slept, a.waiting_since) for a in run.actors)
    current = None if run.current is None else run.current.name
    return hash((run.store.digest, actors, current, tuple(run.flight), run.time, run.crashes, run.losses, run.jumps))
