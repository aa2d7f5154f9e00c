"""Repositories, pools and versions for tests: what several test files build their stories from."""

import random

from blake3 import blake3

from engine.device.sim import SimPool
from engine.errors import Damaged
from engine.extent import Extent
from engine.ops.push import PushOptions, push
from engine.ops.restore import RestoreOptions, restore_to_volume
from engine.progress import Silent
from engine.repo.check import check
from engine.repo.keyblob import passphrase_secret
from engine.repo.naming import ObjectName
from engine.repo.pack import parse_pack_key, read_directory
from engine.repo.repair import repair
from engine.repo.repository import initialise, open_repository
from engine.store.memory import MemoryStore
from engine.units import GIB, KIB, MIB
from tests.counting_entropy import CountingEntropy
from tests.manual_clock import ManualClock


class TickingClock(ManualClock):
    """A clock by which no two moments are the same."""

    def now(self):
        self.advance(0.001)
        return super().now()


CLOCK = TickingClock()

PASSPHRASE = "correct horse"
OBJECT = ObjectName("bucket", "object")


def new_repository(store, *, encrypted=False, seed=0, clock=None):
    """Unencrypted unless asked: the key derivation takes a fifth of a second."""
    secret = passphrase_secret(PASSPHRASE) if encrypted else None
    return initialise(store, secret, clock=clock or CLOCK, entropy=CountingEntropy(seed))


def reopen(store, *, seed=1, clock=None):
    return open_repository(
        store, lambda: passphrase_secret(PASSPHRASE), clock=clock or CLOCK, entropy=CountingEntropy(seed)
    )


def new_pool(name="pool", clock=None):
    return SimPool(name, 4 * GIB, clock or CLOCK)


def write(pool, volume, *pieces):
    with pool.open_target(volume) as target:
        for offset, body in pieces:
            target.write(offset, body)


def discard(pool, volume, offset, length):
    with pool.open_target(volume) as target:
        target.discard(Extent(offset, length))


def snapshot(pool, name, *volumes):
    return [(pool, made.item) for made in pool.create_snapshots(dict.fromkeys(volumes, name))]


def push_snapshots(repository, snapshots, destination=OBJECT, **options):
    options = PushOptions(**{"workers": 2, **options})
    return push(repository, snapshots, destination, options, node="node", tool="test", progress=Silent())


def two_versions(*, encrypted=False):
    """A repository with two versions, of the snapshots `a` and `b` of one volume; the pool they came from, and the store."""
    pool, rnd, store = new_pool(), random.Random(3), MemoryStore(CLOCK)
    pool.create_volume("volume", 70 * MIB)
    repository = new_repository(store, encrypted=encrypted)
    write(pool, "volume", (8 * MIB, rnd.randbytes(300 * KIB)), (66 * MIB, b"x" * 300 * KIB))
    push_snapshots(repository, snapshot(pool, "a", "volume"), workers=1)  # in one pack
    write(pool, "volume", (8 * MIB, rnd.randbytes(64 * KIB)))
    push_snapshots(repository, snapshot(pool, "b", "volume"), workers=1)
    return pool, store, repository


def packs(store, repository, kind):
    """The key and directory of each pack of a kind."""
    for blob in list(store.list("pack/")):
        name = parse_pack_key(blob.key)
        directory = read_directory(
            name, blob.size, lambda o, n, key=blob.key: store.get_range(key, o, n), repository.keyring
        )
        if directory.kind is kind:
            yield blob.key, directory


def flip(store, key, position, mask=1):
    body = bytearray(store.get(key))
    body[position] ^= mask
    store.put(key, body)


def restorable(store, pool):
    """Try every version; what comes back must be right. Returns how many could be restored in whole."""
    repository, whole = reopen(store), 0
    for manifest in repository.versions():
        elsewhere = new_pool("elsewhere")
        try:
            restore(repository, manifest, elsewhere, "copy")
        except Damaged:
            continue
        name = manifest.members[0].origin.snapshot
        assert content(elsewhere, "copy") == content(pool, "volume", name), "a wrong byte was restored"
        whole += 1
    return whole


def restore(repository, manifest, pool, volume, *, member=None, in_place=False, around_damage=False, workers=2):
    return restore_to_volume(
        repository,
        manifest,
        manifest.member(member),
        pool,
        volume,
        in_place=in_place,
        options=RestoreOptions(workers=workers, around_damage=around_damage),
        progress=Silent(),
    )


def content(pool, volume, name=None, *, size=None):
    """The hash of what a volume or snapshot holds, as if zeros followed up to `size`."""
    hasher, step = blake3(), bytearray(MIB)
    with pool.open_source(volume, name) as source:
        for offset in range(0, source.size, MIB):
            piece = memoryview(step)[: min(MIB, source.size - offset)]
            source.read_into(offset, piece)
            hasher.update(piece)
        for offset in range(source.size, size or source.size, MIB):
            hasher.update(bytes(min(MIB, (size or 0) - offset)))
    return hasher.digest()


def findings(repository, *, read_data=True, workers=2):
    return check(repository, read_data=read_data, progress=Silent(), workers=workers).findings


def mend(repository, *, from_packs=False, read_data=True, dry_run=False):
    """Repair; the steps taken, as pairs of what was done and to which blob, and the report."""
    steps = []
    report = repair(
        repository,
        from_packs=from_packs,
        read_data=read_data,
        dry_run=dry_run,
        progress=Silent(),
        listen=lambda step: steps.append((step.mend, step.blob)),
    )
    assert report.steps == len(steps)
    return steps, report


def is_new(store, met):
    """Whether the blobs of a store are others than those of every store before, of which `met`, a set, keeps note.

    Most calls only read: who dies at one of them leaves what who died at the call before has left, but for the moments of
    a clock that ticks, and what follows from that need be seen once.
    """
    blobs = frozenset((blob.key, store.get(blob.key)) for blob in store.list(""))
    known = blobs in met
    met.add(blobs)
    return not known


def copy_of(store, clock=CLOCK):
    """Another store that holds the same."""
    copy = MemoryStore(clock)
    for blob in list(store.list("")):
        copy.put(blob.key, store.get(blob.key))
    return copy
