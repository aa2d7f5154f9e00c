"""The versions that a node recalls, against those that are in the store: whatever happens to store and cache."""

import random
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.device.base import Outcome
from engine.errors import Damaged, NotFound
from engine.repo import manifestcache
from engine.repo.manifest import FORGOTTEN, Manifest, Totals, open_manifest, seal_manifest
from engine.repo.naming import ObjectName, parse_reference
from engine.repo.repository import open_repository
from engine.store.memory import MemoryStore
from engine.units import MIB
from tests.counting_entropy import CountingEntropy
from tests.repositories import CLOCK, OBJECT, new_pool, new_repository, push_snapshots, snapshot, write

OBJECTS = [ObjectName(bucket, name) for bucket in ("one", "two") for name in ("a", "b")]
START = datetime(2026, 1, 1, tzinfo=UTC)


class Story:
    """A store with manifests in it, and a node that keeps what it reads of them."""

    def __init__(self, folder):
        self.store = MemoryStore(CLOCK)
        self.repository = new_repository(self.store)
        self.caches = folder / "cache"
        self.entropy = CountingEntropy(5)
        self.manifests = []  # those that stand, oldest first
        self.moment = START
        self.gets = []
        self.reopen()

    def reopen(self):
        self.node = open_repository(self, None, clock=CLOCK, entropy=CountingEntropy(6), caches=self.caches)

    def __getattr__(self, name):  # the store of the node: notes which versions are read
        return getattr(self.store, name)

    def get(self, key):
        if key.startswith("versions/"):
            self.gets.append(key.removeprefix("versions/"))
        return self.store.get(key)

    def add(self, name):
        self.moment += timedelta(hours=1)
        moment = self.moment
        totals = Totals(size=1, data=1, read=1, stored=1, chunks=1, new_chunks=1, seconds=1.0)
        manifest = Manifest(self.entropy(16).hex(), name, moment, moment, "node", "tool", "", {}, None, (), totals)
        self.store.create(
            f"versions/{manifest.version}", seal_manifest(manifest, self.repository.keyring, self.entropy)
        )
        self.manifests.append(manifest)
        return manifest

    def forget(self, manifest):
        self.store.put(f"versions/{manifest.version}", FORGOTTEN)
        self.manifests.remove(manifest)

    def files(self):
        return sorted(self.caches.glob("*/manifests-*"))

    def assert_right(self):
        assert self.node.versions() == self.manifests
        for name in [*OBJECTS, ObjectName("one", "unknown")]:
            assert self.node.versions(name.bucket, name.name) == [m for m in self.manifests if m.object == name]
            assert self.node.versions(name.bucket) == [m for m in self.manifests if m.object.bucket == name.bucket]


@pytest.fixture
def story(tmp_path):
    return Story(tmp_path)


steps = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(OBJECTS)),
    st.tuples(st.just("forget"), st.integers(0, 1000)),
    st.tuples(st.just("look"), st.booleans()),
    st.tuples(st.just("damage"), st.integers(0, 1000)),
)


@pytest.mark.slow
@given(st.lists(steps, max_size=30))
@settings(max_examples=40, deadline=None)
def test_a_node_recalls_what_is_in_the_store(chosen):
    with tempfile.TemporaryDirectory(prefix="rokctl-test-") as folder:
        story = Story(Path(folder))
        for step, argument in [*chosen, ("look", True)]:
            if step == "add":
                story.add(argument)
            elif step == "forget" and story.manifests:
                story.forget(story.manifests[argument % len(story.manifests)])
            elif step == "damage" and (files := story.files()):
                damage(files[argument % len(files)], argument)
            elif step == "look":
                if argument:
                    story.reopen()
                story.assert_right()


def damage(path, seed):
    chosen, body = random.Random(seed), bytearray(path.read_bytes())
    at = chosen.randrange(len(body))
    body[at] ^= 1 << chosen.randrange(8)
    path.write_bytes(body if seed % 3 else body[:at])


@pytest.mark.slow
def test_every_byte_of_a_file_counts_or_does_not_matter(story):
    for name in OBJECTS:
        story.add(name)
    for seed in range(50):
        story.assert_right()
        damage(story.files()[0], seed)
        story.reopen()
    story.assert_right()


def test_a_version_is_read_once_and_only_its_object_is_opened(story, monkeypatch):
    for number in range(30):
        story.add(OBJECTS[number % 4])
    story.assert_right()
    assert len(story.gets) == 30
    new = story.add(OBJECTS[0])
    story.gets.clear()
    story.reopen()
    story.assert_right()
    assert story.gets == [new.version]

    opened = []
    monkeypatch.setattr(manifestcache, "open_manifest", lambda *args: opened.append(args[0]) or open_manifest(*args))
    wanted = story.node.versions(OBJECTS[1].bucket, OBJECTS[1].name)

    assert sorted(opened) == sorted(manifest.version for manifest in wanted)


def test_no_name_is_written_in_clear(story):
    story.add(ObjectName("bucket-of-secrets", "object-of-secrets"))
    assert len(story.node.versions()) == 1
    (path,) = story.files()
    assert b"of-secrets" not in path.read_bytes()


def test_a_version_is_found_by_its_name_and_what_is_near_it_is_told(story):
    manifest = story.add(OBJECTS[0])
    story.add(OBJECTS[1])
    for _ in range(2):
        assert story.node.resolve(parse_reference(f"one/a@{manifest.version[:6]}")) == manifest
        with pytest.raises(NotFound, match="one/c") as refusal:
            story.node.resolve(parse_reference("one/c"))
        assert "one/a" in refusal.value.hint
        story.reopen()


def test_a_manifest_damaged_later_is_recalled_until_a_survey_finds_it(story):
    manifest = story.add(OBJECTS[0])
    story.assert_right()
    blob = bytearray(story.store.get(f"versions/{manifest.version}"))
    blob[40] ^= 1
    story.store.put(f"versions/{manifest.version}", blob)
    assert story.node.versions() == [manifest]

    assert set(story.node.survey().damaged) == {manifest.version}

    assert story.node.versions() == []
    with pytest.raises(Damaged):
        story.node.resolve(parse_reference(f"one/a@{manifest.version}"))


def test_a_blob_that_is_named_as_no_version_is_told_to_be_damaged(story):
    manifest = story.add(OBJECTS[0])
    name = "f" * 60
    story.store.create(
        f"versions/{name}", seal_manifest(replace(manifest, version=name), story.repository.keyring, story.entropy)
    )
    recalled = story.node.recall()
    assert (recalled.manifests, set(recalled.damaged)) == ((manifest,), {name})


def test_a_snapshot_whose_version_was_damaged_can_be_pushed_again(story):
    pool = new_pool()
    pool.create_volume("volume", MIB)
    write(pool, "volume", (0, b"content" * 1000))
    first, second = snapshot(pool, "first", "volume"), snapshot(pool, "second", "volume")
    lost = push_snapshots(story.node, first)
    assert push_snapshots(story.node, first).outcome is Outcome.ALREADY_THERE
    story.store.put(f"versions/{lost.version}", bytes(len(story.store.get(f"versions/{lost.version}"))))

    later, again = push_snapshots(story.node, second), push_snapshots(story.node, first)

    assert (later.outcome, later.base) == (Outcome.CREATED, None)
    assert again.outcome is Outcome.CREATED
    assert {m.version for m in story.node.survey().manifests} == {later.version, again.version}
    assert story.node.survey().manifests[0].object == OBJECT
