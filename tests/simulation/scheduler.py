"""Actors that take turns at store calls: one runs at a time, and every choice is made by a `Dice`.

An actor runs in a thread of its own over a `Gate`, a store that asks for the turn before each call. What happens then
is a choice: who goes on, or what the network or the time do first; whether the call is lost, repeated late, or never
made because the node dies. The same choices give the same run. A choice of 0 is the ordinary course: who runs goes
on, and the call is done.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum

from engine.errors import Busy, NotFound, Refused, RokError, Unreachable
from engine.store.base import BlobExists, NoSuchBlob
from engine.store.faulty import Crashed

HOUR = 3600.0
REQUEST_LIMIT = 12 * HOUR  # no request is under way longer, however long its node was suspended: far below grace time
START = datetime(2030, 1, 1, tzinfo=UTC)
EXPECTED = (Unreachable, NotFound, Refused, Busy)  # what an operation may end in when calls are lost, or others forget


class Lost(Exception):
    """A version that stands cannot be had any more."""


class Fate(Enum):
    """What becomes of a call."""

    DONE = "done"
    CRASH = "the node dies before it"
    LOST = "done, and the answer is lost"
    LATE = "no answer, and it is done later"
    TWICE = "done, and once more later"


@dataclass(frozen=True)
class Weather:
    """What may happen in a run, and how often at most. `jumps` are the seconds by which the store's time may go on."""

    crashes: int = 0
    losses: int = 0
    jumps: tuple[float, ...] = ()
    jump_limit: int = 0
    late_packs: bool = False
    paged: bool = False  # a listing may be read in two requests, with whatever others do in between
    sized: bool = True  # the keys come with sizes; otherwise a push asks for those of the packs that it relies on
    stale: bool = False  # who reads or pushes may be shown the index as it was one change before


class Dice:
    """Makes the choices, and remembers them by number."""

    def __init__(self):
        self.choices: list[int] = []

    def choose(self, kind: str, options: list):
        """One of the options. `kind`: `turn`, `next` (who ran cannot go on), `fate`, `page` or `stale`."""
        if len(options) == 1:
            return options[0]
        choice = self.pick(kind, options)
        self.choices.append(choice)
        return options[choice]

    def pick(self, kind: str, options: list) -> int:
        """The number of the next choice; this dice always takes the ordinary course."""
        return 0


@dataclass(eq=False)
class Actor:
    """A node that carries out one operation of the product."""

    name: str
    work: Callable[["Actor"], object]
    ready: Callable[[], bool] = lambda: True
    hours_fast: float = 0.0
    rate: float = 1.0  # how fast its clock goes
    may_be_stale: bool = False
    thread: threading.Thread | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)
    slept: float = 0.0
    waiting_since: float = 0.0
    ended: bool = False
    crashed: bool = False
    error: BaseException | None = None
    result: object = None
    about: str = ""  # the call that it is about to make
    last: tuple[str, str] = ("", "")  # the call before: operation and folder
    collecting: bool = False  # works on a record of condemned packs
    seen: int = 0  # a hash of all answers it got: all that decides what it does next


@dataclass(frozen=True)
class Request:
    """A write that is still under way."""

    operation: str
    key: str
    body: bytes
    deadline: float


class NodeClock:
    """The clock of one actor: fast or slow by hours, at its own rate; it sleeps without waiting for anyone."""

    def __init__(self, run, actor):
        self._run, self._actor = run, actor

    def monotonic(self):
        return self._run.time * self._actor.rate + self._actor.slept

    def now(self):
        return START + timedelta(seconds=self.monotonic() + self._actor.hours_fast * HOUR)

    def sleep(self, seconds):
        self._actor.slept += seconds


class Run:
    """One run of some actors over an `oracle.SimStore`, by the choices of a dice.

    No more than `at_once` have begun and not ended. The turn changes only before calls that `points` chooses, and when an
    actor has ended. `on_turn` is called before each choice of who goes on.
    """

    def __init__(self, store, dice, weather, *, at_once=100, points=lambda *call: True, on_turn=lambda run: None):
        self.store, self.dice, self.weather, self.at_once = store, dice, weather, at_once
        self.actors: list[Actor] = []
        self.waiting: list[Actor] = []  # have not begun
        self.begun: list[Actor] = []  # and have not ended
        self.trace: list[str] = []
        self.flight: list[Request] = []
        self.steps = self.crashes = self.losses = self.jumps = 0
        self.failure: BaseException | None = None
        self.current: Actor | None = None
        self.aborted = False
        self._points, self._on_turn = points, on_turn
        self._over = threading.Lock()

    @property
    def time(self):
        """Seconds by the store's clock."""
        return self.store.time

    def add(self, actor):
        actor.turn.acquire()
        self.actors.append(actor)
        self.waiting.append(actor)

    def go(self):
        """Let all actors run until each has ended, or can never begin. Raises what broke the run."""
        self._over.acquire()
        self._wake(self._next(None))
        self._over.acquire()
        for actor in self.actors:
            if actor.thread is not None:
                actor.thread.join()
        for request in self.flight:
            self.arrive(request)
        self.flight = []
        if self.failure is not None:
            raise self.failure

    def abort(self, failure=None):
        """End the run: every actor dies at its next call."""
        self.failure = self.failure or failure
        self.aborted = True

    def before_call(self, actor, operation, key):
        """Wait for the turn; the fate of the call. Raises Crashed."""
        if not actor.crashed:
            actor.waiting_since, actor.about = self.time, f"{operation} {key}"
            chosen = self._next(actor) if self._points(actor, operation, key) else actor
            if chosen is not actor:
                self._wake(chosen)
                actor.turn.acquire()
            fate = self._fate(operation, key)
            self.steps += 1
            self.note(f"{actor.name:10} {operation:9} {key}{'' if fate is Fate.DONE else f'   ({fate.value})'}")
            actor.last = (operation, key.partition("/")[0])
            if key.startswith("gc/") and operation != "list":
                actor.collecting = operation != "delete"
            actor.crashed = self.aborted or fate is Fate.CRASH
        if actor.crashed:
            raise Crashed(f"{actor.name} at {operation} {key}")
        return fate

    def note(self, line):
        self.trace.append(line)

    def arrive(self, request):
        """A late copy of a write reaches the store."""
        self.note(f"{'network':10} {request.operation:9} {request.key}   (arrives)")
        with suppress(BlobExists):  # nobody waits for the answer
            self.carry_out(request.operation, request.key, request.body)

    def carry_out(self, operation, key, body):
        """A write takes effect; the run ends when the oracle sees that something was lost by it."""
        try:
            self.store.write(operation, key, body)
        finally:
            if self.store.oracle.lost:
                self.abort(Lost(self.store.oracle.lost))

    # -- choices ---------------------------------------------------------------------------------------------

    def _next(self, running):
        """Who goes on. What the network and the time do meanwhile happens here."""
        while True:
            if self.aborted:
                return running or next(iter(self.begun), None)
            self.current = running
            able = [] if running is None else [running]
            able += [actor for actor in self.begun if actor is not running]
            if len(self.begun) < self.at_once:
                able += [actor for actor in self.waiting if actor.ready()]
            if not able:
                return None
            self._on_turn(self)
            if self.aborted:
                continue
            jumps = self.weather.jumps if self.jumps < self.weather.jump_limit else ()
            chosen = self.dice.choose("next" if running is None else "turn", [*able, *self.flight, *jumps])
            if isinstance(chosen, Actor):
                return chosen
            if isinstance(chosen, Request):
                self.flight.remove(chosen)
                self.arrive(chosen)
            else:
                self._jump(chosen)

    def _jump(self, seconds):
        self.jumps += 1
        limits = [request.deadline for request in self.flight]
        limits += [actor.waiting_since + REQUEST_LIMIT for actor in self.begun]
        self.store.time = max(self.time, min([self.time + seconds, *limits]))
        self.note(f"{'time':10} {self.time / HOUR:.1f} h have passed")

    def _fate(self, operation, key):
        fates = [Fate.DONE]
        if self.crashes < self.weather.crashes:
            fates.append(Fate.CRASH)
        if self.losses < self.weather.losses and operation in ("put", "create", "delete"):
            fates += [Fate.LOST]
            if self.weather.late_packs or not key.startswith("pack/"):
                fates += [Fate.LATE, Fate.TWICE]
        if len(fates) == 1 or self.aborted:
            return Fate.DONE
        fate = self.dice.choose("fate", fates)
        self.crashes += fate is Fate.CRASH
        self.losses += fate in (Fate.LOST, Fate.LATE, Fate.TWICE)
        return fate

    # -- threads ---------------------------------------------------------------------------------------------

    def _wake(self, actor):
        if actor is None:
            self._over.release()
        elif actor.thread is None:
            self.waiting.remove(actor)
            self.begun.append(actor)
            actor.thread = threading.Thread(target=self._perform, args=(actor,), name=actor.name, daemon=True)
            actor.thread.start()
        else:
            actor.turn.release()

    def _perform(self, actor):
        try:
            actor.result = actor.work(actor)
        except NoSuchBlob as error:
            self.abort(error)  # where a blob may be gone, who reads it knows what that means, and says so
        except (*EXPECTED, Crashed) as error:
            actor.error = error
        except BaseException as error:  # noqa: BLE001 # raised again by `go`: whatever it is, the run is over
            self.abort(error)
        actor.ended = True
        self.begun.remove(actor)
        self.note(f"{actor.name:10} ended{'' if actor.error is None else f': {actor.error!r}'}")
        self._wake(self._next(None))


class Gate:
    """The store as one actor has it: each call waits for its turn, and may be lost on the way."""

    url = "simulated:"

    def __init__(self, run, actor):
        self._run, self._actor, self._store = run, actor, run.store

    def put(self, key, body):
        self._write("put", key, body)

    def create(self, key, body):
        self._write("create", key, body)

    def delete(self, key):
        self._write("delete", key, b"")

    def get(self, key):
        return self._read("get", key, lambda: self._store.get(key))

    def get_range(self, key, offset, length):
        return self._read("get_range", key, lambda: self._store.get_range(key, offset, length))

    def read_into(self, key, offset, target):
        body = self._read("read_into", key, lambda: self._store.get_range(key, offset, len(target)))
        target[: len(body)] = body
        return len(body)

    def stat(self, key):
        return self._read("stat", key, lambda: self._store.stat(key))

    def now(self):
        return self._read("now", "", self._store.now)

    def list(self, prefix):
        blobs = self._read("list", prefix, lambda: self._listing(prefix))
        weather, dice = self._run.weather, self._run.dice
        if weather.paged and len(blobs) > 1 and dice.choose("page", [False, True]):
            return self._in_pages(prefix, blobs[: len(blobs) // 2])
        return iter(blobs)

    def keys(self, prefix):
        return {blob.key: blob.size if self._run.weather.sized else None for blob in self.list(prefix)}

    def _listing(self, prefix):
        may_be_stale = prefix == "index/" and self._run.weather.stale and self._actor.may_be_stale
        if may_be_stale and self._run.dice.choose("stale", [False, True]):
            return self._store.index_before
        return tuple(self._store.list(prefix))

    def _in_pages(self, prefix, page):
        yield from page
        rest = self._read("list", prefix, lambda: tuple(self._store.list(prefix)))
        yield from (blob for blob in rest if blob.key > page[-1].key)

    def close(self):
        pass

    def _read(self, operation, key, call):
        self._run.before_call(self._actor, operation, key)
        try:
            answer = call()
        except RokError as error:
            self._heard(type(error))
            raise
        self._heard(answer)
        return answer

    def _write(self, operation, key, body):
        run, body = self._run, bytes(body)
        fate = run.before_call(self._actor, operation, key)
        if fate in (Fate.LATE, Fate.TWICE):
            run.flight.append(Request(operation, key, body, run.time + REQUEST_LIMIT))
        answer = None
        try:
            if fate is not Fate.LATE:
                run.carry_out(operation, key, body)
        except BlobExists as error:
            answer = error
        if fate in (Fate.LOST, Fate.LATE):
            answer = Unreachable(f"no answer to {operation} {key}")
        self._heard(type(answer))
        if answer is not None:
            raise answer

    def _heard(self, answer):
        self._actor.seen = hash((self._actor.seen, answer))
