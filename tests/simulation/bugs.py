"""Every hole that a looser protocol has (the table in the design notes names them), planted in the real code.

Each has a scenario, and a plan: a schedule in which the hole costs a version. By the same plan the product as it is
loses nothing. `PLANTS` are the smallest changes that make the holes; a test carries them out by `monkeypatch`.
"""

import copy
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from blake3 import blake3

from engine.errors import NotFound
from engine.repo import catalog, collect, look, repository, session
from engine.repo.condemnation import GC_PREFIX
from engine.repo.index import Index
from engine.repo.pack import Directory, PackBuilder, PackName
from engine.repo.segment import facts_of
from engine.repo.session import session_of
from engine.store.base import BlobExists, Unknown
from tests.simulation.scenarios import Scenario, base, dead, forget_when_there, inherited, old, waiting, when
from tests.simulation.scheduler import Fate, Weather

SWEEP_AT_ONCE = timedelta(seconds=-1)


@dataclass(frozen=True)
class Hole:
    """How a bug is found: `fates` become of the calls that begin so."""

    scenario: Scenario
    plan: tuple = ()
    fates: tuple = ()


def push_and_collect(world, run):
    return {"W": (world.pushing(run, "w1"),), "C": (world.collecting(run),)}


def alone(world):
    world.node("w1", "a")


def reuse(world, run):
    return {**push_and_collect(world, run), "F": (world.forgetting(run, "old", 1),)}


def two_collectors(world, run):
    return {
        "C1": (world.collecting(run),),
        "C2": (world.collecting(run),),
        "F": (world.forgetting(run, "old", 1),),
        "W": (world.pushing(run, "w1", full=True),),
    }


def inherit(world, run):
    return {
        "W": (world.pushing(run, "base", 1),),
        "C": (world.collecting(run),),
        "F": (world.forgetting(run, "base", 0),),
    }


def chain(world, run):
    return {
        "W1": (world.pushing(run, "base", 1),),
        "C": (world.collecting(run),),
        "F0": (world.forgetting(run, "base", 0),),
        "W2": (world.pushing(run, "base", 2), when(world, "base", 1)),
        "F1": forget_when_there(world, run, "base", 1),
    }


def twins(world):
    """The letter a stands in two packs; one of them comes to hold dead letters when version `twin 0` is forgotten."""
    world.node("old", "ab", "a.")
    world.node("twin", "acdefg", "a.....")
    world.prepare("twin", 0)
    world.prepare("old", 0, dedup=False)
    world.prepare("twin", 1)
    world.prepare("old", 1)
    world.direct().forget(world.version("old", 0))


TWIN_ACTORS = lambda world, run: {  # noqa: E731 # one of a table of such functions
    "C1": (world.collecting(run),),
    "C2": (world.collecting(run),),
    "F": (world.forgetting(run, "twin", 0),),
}


def fresh_copy(world):
    """A pack with a dead b; what a collection copies out of it belongs to two versions."""
    world.node("old", "abx", "a..")
    world.node("other", "x")
    world.prepare("old", 0)
    world.prepare("old", 1)
    world.prepare("other")
    world.direct().forget(world.version("old", 0))


def two_nodes(world):
    world.node("w1", "a")
    world.node("w2", "a")


def named_by_content(world):
    world.node("old", "a")
    world.node("w1", "a")
    world.prepare("old")
    world.direct().forget(world.version("old"))
    waiting(world)


BREAK_AND_SWEEP = lambda world, run: {  # noqa: E731
    "W": (world.pushing(run, "w1"),),
    "B": (world.breaking(run),),
    "C": (world.collecting(run, tombstones=SWEEP_AT_ONCE),),
}
LOST_ACK = lambda world, run: {  # noqa: E731
    **push_and_collect(world, run),
    "F": forget_when_there(world, run, "w1"),
}
READ = lambda world, run: {"R": (world.restoring(run, "old", 1),), "C": (world.collecting(run),)}  # noqa: E731

REPUSH = lambda world, run: {  # noqa: E731
    "C1": (world.collecting(run),),
    "C2": (world.collecting(run),),
    "W": (world.pushing(run, "w1"),),
}
FRESH_ACTORS = lambda world, run: {  # noqa: E731
    "C1": (world.collecting(run),),
    "C2": (world.collecting(run),),
    "F": (world.forgetting(run, "other"),),
}
LATE_PACK = lambda world, run: {  # noqa: E731
    "C1": (world.collecting(run),),
    "C2": (world.collecting(run),),
    "F": forget_when_there(world, run, "w1"),
    "W1": (world.pushing(run, "w1"),),
    "W2": (world.pushing(run, "w2"),),
}

INHERIT = lambda world, run: {  # noqa: E731
    "W": (world.copying(run, "copied"),),
    "C1": (world.collecting(run),),
    "C2": (world.collecting(run),),
}

ONE_LOST, TWO_LOST = Weather(losses=1), Weather(losses=2)
COMMIT = "create versions/"
LOOK = "list gc/"  # a collector's second: its look begins

HOLES = {
    "manifest-first": Hole(Scenario(alone, push_and_collect)),
    "no-second-look": Hole(Scenario(dead, push_and_collect), (("C", "create gc/"), ("W",), ("C",))),
    "dedup-condemned": Hole(Scenario(dead, push_and_collect), (("C", "create s0/"), ("W", COMMIT), ("C",), ("W",))),
    "sessions-first": Hole(Scenario(dead, push_and_collect), (("C", "create gc/"), ("W", COMMIT), ("C",), ("W",))),
    "trust-index": Hole(Scenario(dead, push_and_collect), (("C", "delete index/"), ("W",))),
    "index-before-gc": Hole(
        Scenario(dead, push_and_collect), (("C", "create s0/"), ("W", "list gc/"), ("C",), ("W",))
    ),
    "pardon": Hole(
        Scenario(lambda world: (old(world), waiting(world)), two_collectors),
        (("C2", LOOK), ("C2", LOOK), ("C2", "list versions/"), ("C1",), ("F",), ("W", COMMIT), ("C2",), ("W",)),
    ),
    "content-names": Hole(
        Scenario(named_by_content, REPUSH), (("C2", "delete pack/"), ("C1",), ("W",), ("C2",))
    ),
    "forget-deletes": Hole(
        Scenario(dead, LOST_ACK, ONE_LOST),
        (("W", COMMIT), ("W", COMMIT), ("C", "create s0/"), ("C", "now"), ("F",), ("C",), ("W",)),
        ((COMMIT, Fate.LOST),),
    ),
    "tombstone-swept": Hole(Scenario(alone, BREAK_AND_SWEEP), (("W", COMMIT), ("B",), ("C",), ("W",))),
    "count-condemned": Hole(
        Scenario(twins, TWIN_ACTORS),
        (("C2", "list versions/"), ("C1", "delete pack/"), ("F",), ("C2",), ("C1",)),
    ),
    "abort-deletes-pending": Hole(
        Scenario(alone, push_and_collect, TWO_LOST), (("W",), ("C",)), ((COMMIT, Fate.LATE), (COMMIT, Fate.LATE))
    ),
    "writer-cleans-up": Hole(
        Scenario(alone, push_and_collect, TWO_LOST), (("W",),), ((COMMIT, Fate.LOST), (COMMIT, Fate.LOST))
    ),
    "base-unchecked": Hole(
        Scenario(base, inherit), (("W", "create pending/"), ("F",), ("C", "delete pack/"), ("W",), ("C",))
    ),
    "no-base-look": Hole(Scenario(base, inherit), (("C", "create s0/"), ("W", COMMIT), ("F",), ("C",), ("W",))),
    "base-one-list": Hole(
        Scenario(base, inherit),
        (
            ("C", "create s0/"), ("W", COMMIT), ("F",), ("C", "now"), ("C", "list versions/"), ("C", "list pending/"),
            ("W",), ("C",),
        ),
    ),
    "came-and-went": Hole(
        Scenario(base, chain),
        (
            ("C", "create s0/"), ("W1", COMMIT), ("F0",), ("C", "now"), ("C", "list versions/"), ("C", "list pending/"),
            ("W1",), ("C", "list versions/"), ("W2", COMMIT), ("F1",), ("C",), ("W2",),
        ),
    ),
    "heir-ignores-gc": Hole(
        Scenario(inherited, INHERIT),
        (("W", "list pack/"), ("C1",), ("W", COMMIT), ("W", COMMIT), ("C2",), ("W",)),
    ),
    "heir-too-late": Hole(
        Scenario(inherited, INHERIT), (("W", "list pack/"), ("C1",), ("W", "create pending/"), ("C2",), ("W",))
    ),
    "look-by-index": Hole(
        Scenario(fresh_copy, FRESH_ACTORS),
        (("C2", "list versions/"), ("C1", "create index/"), ("F",), ("C2",), ("C1",)),
    ),
    "late-pack": Hole(
        Scenario(two_nodes, LATE_PACK, Weather(losses=1, late_packs=True)),
        (("W1",), ("F",), ("C2", "delete pack/"), ("C1",), ("network",), ("W2",), ("C2",)),
        (("create pack/", Fate.TWICE),),
    ),
    "record-before-pack": Hole(Scenario(dead, push_and_collect), (("C", "delete pack/"), ("W",), ("C",))),
    "stale-list": Hole(Scenario(dead, push_and_collect), (("W", COMMIT), ("C",), ("W",))),
    "reread-once": Hole(Scenario(old, READ), (("R", "read_into"), ("C",), ("R",))),
}  # fmt: skip


class Plants:
    """What makes each hole. `m` is pytest's monkeypatch."""

    def manifest_first(self, m):
        send, create_version, held = session.Session._send, session.Session._create_version, []
        m.setattr(session.Session, "_send", lambda self, pack, blob: held.append((pack, bytes(blob))))

        def create_first(self, blob):
            create_version(self, blob)
            for pack, body in held:
                send(self, pack, memoryview(body))

        m.setattr(session.Session, "_create_version", create_first)

    def no_second_look(self, m):
        m.setattr(collect, "settled_versions", lambda repository, known: dict(known))

    def dedup_condemned(self, m):
        m.setattr(catalog, "read_condemnations", lambda grounds: [])

    def sessions_first(self, m):
        condemn = collect._Collection._condemn

        def condemn_after_listing(self):
            self.early = {session_of(blob.key) for blob in self._repository.store.list("pending/")}
            condemn(self)

        m.setattr(collect._Collection, "_condemn", condemn_after_listing)
        m.setattr(collect._Collection, "_awaited", lambda self, record: getattr(self, "early", frozenset()))

    def trust_index(self, m):
        def load(self):
            return Index(self.stated_facts(), _condemned(self)), []

        m.setattr(catalog.Catalog, "index_for_writing", load)

    def index_before_gc(self, m):
        def load(self):
            facts, sizes = list(self.stated_facts()), self.pack_sizes()
            return Index([one for one in facts if one.name in sizes], _condemned(self)), []

        m.setattr(catalog.Catalog, "index_for_writing", load)

    def pardon(self, m):
        empty = collect._Collection._empty

        def pardon_the_living(self, subject, found, *rest):
            if any(one.needed for one in found.contents):
                self._repository.store.delete(f"{GC_PREFIX}{subject.record}")
            else:
                empty(self, subject, found, *rest)

        m.setattr(collect._Collection, "_empty", pardon_the_living)

    def content_names(self, m):
        new_pack, send = session.Session._new_pack, session.Session._send

        def name_alike(self, kind):
            pack = new_pack(self, kind)
            name = PackName(blake3(b"its content").hexdigest()[:32], pack.name.number)
            return PackBuilder(name, kind, pack.buffer, self._grounds.keyring, self._grounds.entropy)

        def send_once(self, pack, blob):
            with suppress(BlobExists):  # the same name is the same content
                send(self, pack, blob)

        m.setattr(session.Session, "_new_pack", name_alike)
        m.setattr(session.Session, "_send", send_once)

    def forget_deletes(self, m):
        m.setattr(repository.Repository, "forget", lambda self, version: self.store.delete(f"versions/{version}"))

    def tombstone_swept(self, m):
        """The collector of the scenario keeps no tombstones: that is the bug."""

    def count_condemned(self, m):
        look_into = collect.look_into
        m.setattr(collect, "look_into", lambda repo, packs, condemned, marks: look_into(repo, packs, packs, marks))

    def abort_deletes_pending(self, m):
        self._on_failure(m, lambda session: session._remove_records())

    def writer_cleans_up(self, m):
        def delete_packs(session):
            for blob in list(session._grounds.store.list("pack/")):
                if session.version in blob.key:
                    session._grounds.store.delete(blob.key)

        self._on_failure(m, delete_packs)

    def _on_failure(self, m, clean):
        create_version = session.Session._create_version

        def create_or_clean(self, blob):
            try:
                create_version(self, blob)
            except Unknown:
                clean(self)
                raise

        m.setattr(session.Session, "_create_version", create_or_clean)

    def base_unchecked(self, m):
        manifest, versions, seen = repository.Repository.manifest, repository.Repository.versions, {}

        def list_and_remember(self, *which):
            listed = versions(self, *which)
            seen.update((one.version, one) for one in listed)
            return listed

        def remember(self, version):
            try:
                seen[version] = manifest(self, version)
            except NotFound:
                if version not in seen:
                    raise
            return seen[version]

        m.setattr(repository.Repository, "versions", list_and_remember)
        m.setattr(repository.Repository, "manifest", remember)

    def no_base_look(self, m):
        m.setattr(look, "_unsettled_sessions", lambda repository, versions: ())

    def base_one_list(self, m):
        def settled(repository, known):
            first = look.list_versions(repository, known)
            if unsettled := tuple(look._unsettled_sessions(repository, first)):
                raise look.Postponed(unsettled)
            return dict(first.live)

        m.setattr(collect, "settled_versions", settled)

    def came_and_went(self, m):
        def settled(repository, known):
            first = look.list_versions(repository, known)
            if unsettled := tuple(look._unsettled_sessions(repository, first)):
                raise look.Postponed(unsettled)
            second = look.list_versions(repository, {**known, **first.live})
            return {**first.live, **second.live}

        m.setattr(collect, "settled_versions", settled)

    def heir_ignores_gc(self, m):
        m.setattr(session, "read_condemnations", lambda grounds: [])

    def heir_too_late(self, m):
        begin_heir, create_version = session.Session._begin_heir, session.Session._create_version
        purposes = []
        m.setattr(session.Session, "_begin_heir", lambda self, purpose: purposes.append(purpose))

        def create_first(self, blob):
            create_version(self, blob)
            begin_heir(self, purposes.pop())

        m.setattr(session.Session, "_create_version", create_first)

    def look_by_index(self, m):
        def by_index(repository, name, size):
            facts = [one for one in repository.catalog.stated_facts() if one.name == name]
            records = tuple(facts[0].records()) if facts else ()
            return look.Directory(name, look.PackKind.CHUNKS, size, records)

        m.setattr(look, "_directory", by_index)

    def record_before_pack(self, m):
        delete = collect._Collection._delete

        def lift_and_delete(self, packs, sizes):
            for blob in list(self._repository.store.list(GC_PREFIX)):
                self._repository.store.delete(blob.key)
            delete(self, packs, sizes)

        m.setattr(collect._Collection, "_delete", lift_and_delete)

    def stale_list(self, m):
        m.setattr(collect._Collection, "_awaited", lambda self, record: frozenset())

    def late_pack(self, m):
        """The upload arrives once more after the grace time, which is none here: that is the bug."""

    def reread_once(self, m):
        m.setattr("engine.repo.reader._ROUNDS", 1)

    # What follows costs versions where nothing but the index tells what is in a pack. Here packs tell it themselves.

    def index_first(self, m):
        def state_and_send(self, pack, blob):
            facts = facts_of(Directory(pack.name, pack.kind, len(blob), tuple(pack.records)))
            self._facts.append(facts)
            self._write_segment()
            self._grounds.store.create(pack.name.key, blob)

        m.setattr(session.Session, "_send", state_and_send)

    def pack_before_index(self, m):
        def load(self):
            condemned, sizes = _condemned(self), self.pack_sizes()
            return Index([one for one in self.stated_facts() if sizes.get(one.name) == one.size], condemned), []

        m.setattr(catalog.Catalog, "index_for_writing", load)

    def consolidate_packs_first(self, m):
        survey_packs, consolidate, early = collect.survey_packs, collect.consolidate, {}

        def list_and_survey(repository, *rest):
            early[id(repository)] = repository.catalog.pack_sizes()
            return survey_packs(repository, *rest)

        def by_early_list(repository, *rest, **options):
            hasty = copy.copy(repository)
            hasty.catalog = copy.copy(repository.catalog)
            hasty.catalog.pack_sizes = lambda: early[id(repository)]
            return consolidate(hasty, *rest, **options)

        m.setattr(collect, "survey_packs", list_and_survey)
        m.setattr(collect, "consolidate", by_early_list)

    def consolidate_deletes_first(self, m):
        consolidate = collect.consolidate

        def delete_and_write(repository, *rest, **options):
            hasty = copy.copy(repository)
            hasty.store = Late(repository.store)
            done = consolidate(hasty, *rest, **options)
            hasty.store.catch_up()
            return done

        m.setattr(collect, "consolidate", delete_and_write)

    # Nodes make these calls at once. Here, where each makes one at a time, it is the first that is made first.

    def other_first(self, m):
        def turned_round(self, one, other):
            found = other()
            return one(), found

        m.setattr(repository.Repository, "both", turned_round)


def _condemned(of):
    return {pack for record in catalog.read_condemnations(of._grounds) for pack in record.packs}


class Late:
    """A store that makes segments when everything else is done."""

    def __init__(self, store):
        self._store, self._held = store, []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def create(self, key, body):
        self._held.append((key, bytes(body)))

    def catch_up(self):
        for key, body in self._held:
            self._store.create(key, body)


HARMLESS_HERE = ("index-first", "pack-before-index", "consolidate-packs-first", "consolidate-deletes-first")


def plant(name, monkeypatch):
    getattr(Plants(), name.replace("-", "_"))(monkeypatch)
