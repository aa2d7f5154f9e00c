"""The world of a simulation: nodes with volumes, the operations that they carry out, and what must hold at the end.

Contents are words: each letter is one chunk, at a place of its own in the volume, and a dot is a hole. Node `n` with
the words `("ab", "a.")` has a volume with two snapshots, which are pushed as versions of the object `bucket/n`.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from blake3 import blake3

from engine.errors import Damaged, Failed, NotFound
from engine.ops.copy import copy, plan_copy
from engine.ops.forget import forget, plan_by_names
from engine.ops.intake import Effort
from engine.ops.push import PushOptions, push
from engine.ops.restore import RestoreOptions, restore_to_volume
from engine.ops.scope import Scope
from engine.progress import Silent
from engine.repo.check import check
from engine.repo.collect import CollectOptions, collect
from engine.repo.index import Index
from engine.repo.manifest import BROKEN, TOMBSTONE_LIMIT
from engine.repo.naming import ObjectName, VersionReference
from engine.repo.repository import Repository
from engine.repo.session import session_of
from engine.store.base import BlobExists
from engine.store.memory import MemoryStore
from engine.store.retry import Patience, Retrying
from tests.counting_entropy import CountingEntropy
from tests.manual_clock import ManualClock
from tests.repositories import content, new_pool, new_repository, snapshot, write
from tests.simulation.oracle import STRIDE, Oracle, SimStore, letter_block
from tests.simulation.scheduler import HOUR, Gate, NodeClock

PATIENCE = Patience(attempts=2, first_pause_seconds=1)
TOMBSTONES = timedelta(hours=48)
PACK_SIZE = 1 << 16  # room for all that a push sends here; a large buffer costs more than all the rest
SIZE = STRIDE * 4096


class Broken(Exception):
    """The product did what it must never do."""


@dataclass(frozen=True)
class Node:
    """A machine with one volume and its snapshots."""

    name: str
    words: tuple[str, ...]
    pool: object
    snapshots: tuple[object, ...]

    @property
    def object(self):
        return ObjectName("bucket", self.name)


class World:
    """A repository in a simulated store, and the nodes that use it."""

    def __init__(self):
        contents = {}
        made = new_repository(SimStore(Oracle(None, contents)), clock=ManualClock())
        self.descriptor, self.keyring = made.descriptor, made.keyring
        self.store = made.store
        self.store.oracle.keyring = made.keyring
        self.nodes = {}
        self._sources = {}  # by node: a repository that holds all its versions, and that nobody writes to any more

    @property
    def oracle(self):
        return self.store.oracle

    def copy(self):
        """Another world of the same past: nodes and sources are only read, so both may have them."""
        made = object.__new__(World)
        made.__dict__.update(self.__dict__, store=self.store.copy())
        return made

    def node(self, name, *words):
        """Set up a node whose volume held one word after the other."""
        pool = new_pool(name, ManualClock())
        pool.create_volume("volume", len(words[0]) * SIZE)
        taken = []
        for number, word in enumerate(words):
            for at, letter in enumerate(word):
                if number == 0 or letter != words[number - 1][at]:
                    write(pool, "volume", (at * SIZE, bytes(4096) if letter == "." else letter_block(letter)))
            taken += snapshot(pool, f"s{number}", "volume")
            self.oracle.contents[taken[-1][1].uuid] = word
        self.nodes[name] = Node(name, words, pool, tuple(record for _, record in taken))
        return self.nodes[name]

    def version(self, node, number=0):
        """The version that was last made of a node's snapshot; None before its first commit."""
        versions = self.oracle.committed.get(self.nodes[node].snapshots[number].uuid)
        return versions[-1] if versions else None

    # -- repositories ----------------------------------------------------------------------------------------

    def repository(self, run, actor):
        """The repository as an actor has it, behind its own clock and its own troubles with the network."""
        clock = NodeClock(run, actor)
        store = Retrying(Gate(run, actor), clock, CountingEntropy(f"{actor.name} pauses"), PATIENCE)
        entropy = CountingEntropy(actor.name)
        return Repository(store, self.descriptor, self.keyring, clock, entropy, connections=1)

    def direct(self, kind=Repository, seed="direct"):
        """The repository without scheduler and faults."""
        return kind(self.store, self.descriptor, self.keyring, ManualClock(), CountingEntropy(seed), connections=1)

    def prepare(self, node, number=0, *, dedup=True):
        """Push a snapshot before the actors begin; without `dedup` all its chunks are stored once more."""
        kind = Repository if dedup else _Blind
        self._push(self.direct(kind, f"{node} {number}"), self.nodes[node], number, full=not dedup)

    def _push(self, repository, node, number, *, full):
        options = PushOptions(workers=0, uploaders=0, pack_size=PACK_SIZE, full=full)
        taken = [(node.pool, node.snapshots[number])]
        return push(repository, taken, node.object, options, node=node.name, tool="sim", progress=Silent())

    # -- what actors do --------------------------------------------------------------------------------------

    def pushing(self, run, node, number=0, *, full=False):
        """A push; one whose session was broken, or had reason to believe so, may fail."""

        def work(actor):
            try:
                return self._push(self.repository(run, actor), self.nodes[node], number, full=full)
            except (Failed, Damaged) as error:
                if "stood still" in error.message or self._is_broken(actor):
                    return error
                raise

        return work

    def copying(self, run, node):
        """A copy of all versions of a node, from a repository that no other actor knows; it may fail as a push may."""
        if node not in self._sources:  # once for all runs
            self._sources[node] = new_repository(MemoryStore(ManualClock()), seed=f"source of {node}")
            for number in range(len(self.nodes[node].snapshots)):
                self._push(self._sources[node], self.nodes[node], number, full=False)
        source = self._sources[node]

        def work(actor):
            destination = self.repository(run, actor)
            effort = Effort(workers=0, uploaders=0, pack_size=PACK_SIZE)
            try:
                plan = plan_copy(source, destination, [Scope()], [])
                return copy(source, destination, plan, effort, node=node, tool="sim", progress=Silent())
            except (Failed, Damaged) as error:
                if "was found broken" in error.message or "given up for dead" in error.message:
                    return error
                raise

        return work

    def _is_broken(self, actor):
        session = CountingEntropy(actor.name)(16).hex()  # the first thing that an actor draws
        return any(
            blob.key == f"versions/{session}" and blob.size <= TOMBSTONE_LIMIT for blob in self.store.list("versions/")
        )

    def forgetting(self, run, node, number=0, *, planned=False):
        def work(actor):
            repository, version = self.repository(run, actor), self.version(node, number)
            if not planned:
                return repository.forget(version)
            reference = VersionReference(self.nodes[node].object, version)
            return forget(repository, plan_by_names(repository, [reference], allow_last=True))

        return work

    def breaking(self, run):
        """End all sessions that are open: a lease may expire at any moment."""

        def work(actor):
            store = self.repository(run, actor).store
            for blob in list(store.list("pending/")):
                with suppress(BlobExists):
                    store.create(f"versions/{session_of(blob.key)}", BROKEN)
                store.delete(blob.key)

        return work

    def restoring(self, run, node, number=0):
        def work(actor):
            repository, version = self.repository(run, actor), self.version(node, number)
            self._restore(repository, repository.manifest(version), actor.name)

        return work

    def checking(self, run, *, read_data=False):
        def work(actor):
            found = check(self.repository(run, actor), read_data=read_data, progress=Silent(), workers=0).findings
            if found:
                raise Broken(f"{actor.name} found damage in a sound repository: {found}")

        return work

    def collecting(self, run, *, grace=timedelta(), tombstones=TOMBSTONES):
        def work(actor):
            options = CollectOptions(grace=grace, keep_tombstones=tombstones, pack_size=PACK_SIZE)
            return collect(self.repository(run, actor), options, progress=Silent())

        return work

    def clean(self):
        """Collect until nothing is left to do: a run that condemns leaves facts that dangle, for the next to drop."""
        options = CollectOptions(
            grace=timedelta(), live_share=1.0, dangling_share=0.0, keep_tombstones=TOMBSTONES, pack_size=PACK_SIZE
        )
        for number in range(3):
            collect(self.direct(seed=f"clean {number}"), options, progress=Silent())

    def looking(self, run):
        return lambda actor: self.repository(run, actor).status()

    def _restore(self, repository, manifest, name):
        pool = new_pool(name.replace(" ", "-"), ManualClock())
        member, options = manifest.members[0], RestoreOptions(workers=0)
        try:
            restore_to_volume(
                repository, manifest, member, pool, "copy", in_place=False, options=options, progress=Silent()
            )
        except Damaged as error:
            if manifest.version in self.oracle.live:
                raise Broken(f"version {manifest.version} stands, and cannot be restored: {error.message}") from error
            raise NotFound("forgotten meanwhile") from error
        word = self.oracle.contents[member.origin.snapshot_uuid]
        if content(pool, "copy") != _hash(word):
            raise Broken(f"version {manifest.version} came back otherwise than it was pushed")

    # -- the end ---------------------------------------------------------------------------------------------

    def settle(self):
        """When all is quiet, nothing is left that nobody needs, and everything is there that was not forgotten."""
        self.store.time += 100 * HOUR
        self.clean()
        repository = self.direct(seed="end")
        if findings := check(repository, read_data=True, progress=Silent(), workers=0).findings:
            raise Broken(f"at the end there is damage: {findings}")
        survey = repository.survey()
        if {manifest.version for manifest in survey.manifests} != set(self.oracle.live):
            raise Broken("the versions that are listed are not those that stand")
        for manifest in survey.manifests:
            self._restore(repository, manifest, "end")
        left = [blob.key for blob in self.store.list("") if blob.key.startswith(("pending/", "gc/", "s0/", "probe/"))]
        left += self.oracle.dead_packs() + [f"facts of {pack}" for pack in self.oracle.dangling(self.store)]
        if left:
            raise Broken(f"garbage stays: {left}")
        if self.oracle.lost:
            raise Broken(self.oracle.lost)


def _hash(word):
    hasher = blake3()
    for letter in word:
        hasher.update((bytes(4096) if letter == "." else letter_block(letter)) + bytes(SIZE - 4096))
    return hasher.digest()


class _Blind(Repository):
    """A repository that believes it holds nothing."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.catalog.index_for_writing = lambda: (Index([]), [])
