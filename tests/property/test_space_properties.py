"""Where the space goes, counted by arrays, is what it is counted one by one."""

import random
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.ops.space import Grouping, space
from engine.progress import Silent
from engine.repo.map import BLOCK, ZEROS
from engine.repo.naming import ObjectName
from engine.repo.pack import PackKind, parse_pack_key, read_directory
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import CLOCK, new_pool, new_repository, push_snapshots, reopen, snapshot, write

SIZE = 65 * MIB  # two regions

steps = st.lists(
    st.tuples(
        st.sampled_from(["a/x", "a/y", "b/x"]),  # the object pushed to
        st.integers(0, 5),  # what is written: the same number, the same bytes
        st.sampled_from([0, 700 * KIB, 64 * MIB]),  # where
        st.sampled_from(["push", "push", "push blindly", "forget"]),
    ),
    max_size=8,
)


class Blind:
    """A store that shows no packs: a push through it sends what is there already once more."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def list(self, prefix):
        return iter(()) if prefix == "pack/" else self._store.list(prefix)

    def keys(self, prefix):
        return {} if prefix == "pack/" else self._store.keys(prefix)


def happen(store, history):
    pool = new_pool()
    pool.create_volume("volume", SIZE)
    for number, (name, seed, offset, what) in enumerate(history):
        is_blind = what == "push blindly"
        repository = reopen(Blind(store) if is_blind else store, seed=number + 2)
        if what == "forget":
            for manifest in repository.versions()[-1:]:
                repository.forget(manifest.version)
            continue
        rnd = random.Random(seed)
        write(pool, "volume", (offset, rnd.randbytes(300 * KIB) + b"pressed " * 5000))
        taken = snapshot(pool, f"s{number}", "volume")
        push_snapshots(repository, taken, ObjectName(*name.split("/")), full=is_blind, level=19 if is_blind else 1)


def records_of(repository):
    """Each record of each pack: its reference, its length, whether it is a chunk's."""
    for blob in repository.store.list("pack/"):

        def read(offset, length, key=blob.key):
            return repository.store.get_range(key, offset, length)

        directory = read_directory(parse_pack_key(blob.key), blob.size, read, repository.keyring)
        for record in directory.records:
            yield record.chunk[:16], record.length, directory.kind is PackKind.CHUNKS


def needs_of(repository, manifest):
    """The maps and the chunks (with their bytes) that a version needs."""
    reader, maps, chunks = repository.reader(), set(), {}
    for member in manifest.members:
        maps.add(member.root)
        for number, page in enumerate(reader.pages(member.root, member.size)):
            maps.add(page)
            for offset, region in enumerate(reader.regions(page, number, member.size)):
                maps.add(region)
                for entry in reader.region(region, offset, member.size):
                    if not entry.is_hole:
                        chunks[entry.chunk] = entry.blocks * BLOCK
    return maps - {ZEROS}, chunks


def counted_one_by_one(repository, group_of):
    """What `space` promises, from sets and sums."""
    records = list(records_of(repository))
    length = {}
    for reference, stored, _ in records:
        length[reference] = min(stored, length.get(reference, stored))
    maps, chunks, versions = defaultdict(set), defaultdict(dict), defaultdict(list)
    for manifest in repository.versions():
        group = group_of(manifest.object)
        versions[group].append(manifest)
        of_version = needs_of(repository, manifest)
        maps[group] |= of_version[0]
        chunks[group].update(of_version[1])

    def usage(manifests, needed, parts, unique):
        data, distinct = sum(m.totals.data for m in manifests), sum(parts.values())
        pressed = sum(length[chunk] for chunk in parts)
        return {
            "versions": len(manifests),
            "logical": SIZE * len(manifests),
            "data": data,
            "chunks": len(parts),
            "distinct": distinct,
            "unique": sum(map(length.get, unique)),
            "shared": sum(map(length.get, needed)) - sum(map(length.get, unique)),
            "dedup_ratio": round(data / distinct, 3) if distinct else None,
            "compression_ratio": round(distinct / pressed, 3) if pressed else None,
        }

    needs = {group: maps[group] | set(chunks[group]) for group in versions}
    alone = {
        group: needed - set().union(*(other for name, other in needs.items() if name != group))
        for group, needed in needs.items()
    }
    groups = {group: usage(versions[group], needs[group], chunks[group], alone[group]) for group in versions}
    everything = set().union(*needs.values())
    parts = {chunk: size for group in chunks.values() for chunk, size in group.items()}
    total = usage([m for group in versions.values() for m in group], everything, parts, set().union(*alone.values()))
    stored = sum(stored for _, stored, _ in records)
    packs = sum(blob.size for blob in repository.store.list("pack/"))
    return groups, total, (stored - sum(map(length.get, everything)), packs - stored, packs)


def as_dict(usage):
    return {name: getattr(usage, name) for name in usage.__slots__}


@pytest.mark.slow
@given(steps, st.sampled_from([1, 256]))
@settings(max_examples=25, deadline=None, phases=set(Phase) - {Phase.shrink}, suppress_health_check=list(HealthCheck))
def test_every_figure_is_that_of_a_count_one_by_one(history, maps_at_once):
    store = MemoryStore(CLOCK)
    new_repository(store)
    happen(store, history)
    repository = reopen(store)
    for grouping, group_of in (
        (Grouping.OBJECT, lambda name: (name.bucket, name.name)),
        (Grouping.BUCKET, lambda name: (name.bucket, None)),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("engine.ops.space._MAPS_AT_ONCE", maps_at_once)
            report = space(repository, grouping, Silent())
        groups, total, rest = counted_one_by_one(repository, group_of)
        assert {(group.bucket, group.object): as_dict(group.usage) for group in report.groups} == groups
        assert as_dict(report.total) == total
        assert (report.unneeded, report.overhead, report.packs) == rest
        assert report.total.unique + report.total.shared + report.unneeded + report.overhead == report.packs
        assert report.lost == 0
