"""The index of a node that keeps what it has read, against a plain dictionary: whatever happens to store and cache."""

import os
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from engine.repo import keys as keys_module
from engine.repo.cache import Part
from engine.repo.condemnation import seal_condemnation
from engine.repo.index import Index
from engine.repo.pack import RAW_BIT, ChunkId, Directory, PackBuilder, PackKind, PackName
from engine.repo.repository import open_repository
from engine.repo.segment import PackFacts, encode_segment, facts_of
from engine.repo.stated import Stated, statement_of
from engine.repo.table import fold_tables, open_table, said_of, write_table
from engine.store.memory import MemoryStore
from engine.units import KIB
from tests.counting_entropy import CountingEntropy
from tests.repositories import CLOCK, new_repository

# Few values for each half, so that prefixes share halves and stand in several packs. In a pack their first 12 bytes differ.
HIGHS = [bytes(8), b"\xff" * 8, bytes(7) + b"\x01", b"\x01" + bytes(7), b"\x80" * 8]
LOWS = [bytes(8), b"\xff" * 8, bytes(3) + b"\x01" + bytes(4), b"\x01" + bytes(7), b"\x80" * 8]
PREFIXES = [high + low for high in HIGHS for low in LOWS]
chunks = st.lists(st.sampled_from(PREFIXES[:-2]), max_size=12, unique=True)


class Untelling(MemoryStore):
    """As a directory, it tells sizes only of blobs that are looked at."""

    def keys(self, prefix):
        return dict.fromkeys(super().keys(prefix))


class Node:
    """A repository as one node sees it."""

    def __init__(self, store, caches, seed):
        self._arguments = store, caches, seed
        self.reopen()

    def reopen(self):
        store, caches, seed = self._arguments
        self.repository = open_repository(store, None, clock=CLOCK, entropy=CountingEntropy(seed), caches=caches)


class Writer:
    """Puts packs, segments and condemnations into a store, and knows where each chunk is."""

    def __init__(self, seed=0, kind=MemoryStore):
        self.store = kind(CLOCK)
        self.repository = new_repository(self.store, seed=seed)
        self.entropy = CountingEntropy(7)
        self.facts = {}  # of each pack that is there
        self.segments = {}  # name -> what it states
        self.condemned = set()
        self.given_up = set()  # those that are condemned since they are damaged

    def add_pack(self, prefixes, kind=PackKind.CHUNKS):
        name = PackName(self.entropy(16).hex(), 0)
        pack = PackBuilder(name, kind, bytearray(16 * KIB), self.repository.keyring, self.entropy)
        for number, prefix in enumerate(prefixes):
            pack.add(ChunkId(prefix * 2), bytes(number + 1), raw=number % 2 == 0, blocks=1)
        blob = bytes(pack.finish())
        self.store.create(name.key, blob)
        self.facts[name] = facts_of(Directory(name, kind, len(blob), tuple(pack.records)))
        return name

    def add_segment(self, packs, *, change=lambda facts: facts):
        name, stated = self.entropy(16).hex(), [change(self.facts[pack]) for pack in packs]
        self.store.create(f"index/{name}", encode_segment(name, stated, self.repository.keyring, self.entropy))
        self.segments[name] = stated
        return name

    def condemn(self, pack, *, damaged=False):
        name = self.entropy(16).hex()
        blob = seal_condemnation(name, [pack], self.repository.keyring, self.entropy, damaged=damaged)
        self.store.create(f"gc/{name}", blob)
        self.condemned.add(pack)
        self.given_up |= {pack} if damaged else set()

    def readable(self):
        """The packs that are there and not given up, with their facts."""
        return {name: facts for name, facts in self.facts.items() if name not in self.given_up}

    def believed(self, pack):
        """What segments say of a pack in accord with each other and with its size, if that is told; None when they say nothing
        like that.
        """
        told = self.store.keys("pack/")[pack.key]
        said = [f for stated in self.segments.values() for f in stated if f.name == pack and told in (None, f.size)]
        return said[0] if said and all(facts.agrees_with(said[0]) for facts in said) else None

    def places(self, *, to_stay=False):
        """Where each chunk is, by what can be believed, else by the packs themselves."""
        found = {prefix: set() for prefix in PREFIXES}
        for name, true in self.readable().items():
            facts = self.believed(name) or true
            if not to_stay or (name not in self.condemned and facts.size == true.size):
                for record in facts.records():
                    found[record.chunk].add((name, record.offset, record.length, record.raw))
        return found


def assert_right(repository, writer):
    """The index answers as a dictionary does, asked in any way."""
    index, orphans = repository.catalog.index_for_writing()
    places, staying = writer.places(), writer.places(to_stay=True)
    assert index.packs == writer.readable().keys()
    assert {pack.name for pack in orphans} == {
        name for name in writer.facts.keys() - writer.condemned if writer.believed(name) is None
    }
    assert index.chunks == sum(facts.entries for facts in writer.readable().values() if facts.kind is PackKind.CHUNKS)
    assert index.distinct == sum(map(bool, places.values()))
    for prefix, wanted in places.items():
        found = [(one.pack, one.offset, one.length, one.raw) for one in index.find_all(prefix)]
        assert len(found) == len(wanted)
        assert set(found) == wanted
    for prefix, location in zip(PREFIXES, index.locations(PREFIXES), strict=True):
        for one in (location, index.find(prefix)):
            assert (one is None) == (not places[prefix])
            assert one is None or (one.pack, one.offset, one.length, one.raw) in places[prefix]
    assert [index.claim(prefix) for prefix in PREFIXES] == [not staying[prefix] for prefix in PREFIXES]


def as_it_is(facts):
    return facts


def of_another_size(facts):
    return replace(facts, size=facts.size + 1)


def in_another_order(facts):
    """A lie that nothing but another statement or the pack itself tells from the truth."""
    prefixes = [facts.prefixes[at : at + 16] for at in range(0, len(facts.prefixes), 16)]
    return replace(facts, prefixes=b"".join(reversed(prefixes)))


class CachedIndex(RuleBasedStateMachine):
    """Two nodes that share a folder, and a third that has none, while packs and segments come and go."""

    kind = MemoryStore

    @initialize()
    def start(self):
        self.folder = tempfile.TemporaryDirectory(prefix="rokctl-test-")
        self.caches = Path(self.folder.name) / "cache"
        self.writer = Writer(kind=self.kind)
        self.nodes = [
            Node(self.writer.store, caches, 11 + n) for n, caches in enumerate([self.caches, self.caches, None])
        ]

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule(node=st.integers(0, 2), anew=st.booleans())
    def a_node_looks(self, node, anew):
        if anew:
            self.nodes[node].reopen()
        assert_right(self.nodes[node].repository, self.writer)

    @rule(contents=st.lists(chunks, max_size=4), kind=st.sampled_from(PackKind))
    def a_push_comes(self, contents, kind):
        self.writer.add_segment([self.writer.add_pack(content, kind) for content in contents])

    @rule(count=st.integers(9, 40))
    def a_large_push_comes(self, count):
        self.writer.add_segment([self.writer.add_pack(PREFIXES[:5]) for _ in range(count)])

    @rule(content=chunks)
    def a_push_dies_before_its_segment(self, content):
        self.writer.add_pack(content)

    @precondition(lambda self: self.writer.facts)
    @rule(
        choice=st.randoms(use_true_random=False),
        change=st.sampled_from([as_it_is, as_it_is, of_another_size, in_another_order]),
    )
    def packs_are_stated_once_more(self, choice, change):
        packs = sorted(self.writer.facts)
        self.writer.add_segment(choice.sample(packs, choice.randint(0, len(packs))), change=change)

    @precondition(lambda self: self.writer.segments)
    @rule(choice=st.randoms(use_true_random=False))
    def a_segment_goes(self, choice):
        name = choice.choice(sorted(self.writer.segments))
        self.writer.store.delete(f"index/{name}")
        del self.writer.segments[name]

    @precondition(lambda self: self.writer.facts)
    @rule(choice=st.randoms(use_true_random=False), damaged=st.booleans())
    def a_pack_is_condemned(self, choice, damaged):
        self.writer.condemn(choice.choice(sorted(self.writer.facts)), damaged=damaged)

    @precondition(lambda self: self.writer.condemned)
    @rule(choice=st.randoms(use_true_random=False))
    def a_condemned_pack_goes(self, choice):
        name = choice.choice(sorted(self.writer.condemned))
        self.writer.store.delete(name.key)
        self.writer.facts.pop(name, None)

    @rule(
        which=st.integers(0, 99),
        place=st.integers(0, 1 << 20),
        how=st.sampled_from(["flip", "cut", "lengthen", "remove", "empty"]),
    )
    def a_file_of_the_cache_is_damaged(self, which, place, how):
        # Names and sizes of the files differ from run to run: what is drawn must not depend on them.
        files = sorted(path for path in self.caches.glob("*/*") if path.name != "lock")
        if files:
            damage(files[which % len(files)], place, how)


def damage(path, place, how):
    """Put a damaged file in the place of a good one, which others may have mapped."""
    body = bytearray(path.read_bytes())
    at = place % len(body) if body else 0
    if how == "flip" and body:
        body[at] ^= 1 << place % 8
    elif how == "cut":
        del body[at:]
    elif how == "lengthen":
        body += b"\0"
    elif how == "empty":
        body.clear()
    path.unlink()
    if how != "remove":
        path.write_bytes(body)


class CachedIndexWithoutSizes(CachedIndex):
    kind = Untelling


TestCachedIndex = pytest.mark.slow(CachedIndex.TestCase)
TestCachedIndex.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestCachedIndexWithoutSizes = pytest.mark.slow(CachedIndexWithoutSizes.TestCase)
TestCachedIndexWithoutSizes.settings = TestCachedIndex.settings


@pytest.mark.slow
@given(
    st.integers(1, 20),
    st.lists(
        st.lists(st.tuples(st.lists(chunks, max_size=3), st.booleans()), min_size=1, max_size=4), min_size=1, max_size=4
    ),
)
@settings(max_examples=60, deadline=None)
def test_a_fold_holds_what_was_chosen_of_its_parts(keys_at_once, layers):
    """Each layer is a list of segments, each a list of packs' contents and whether it is chosen."""
    parts, wanted, kept, number = [], [], {}, 0
    for layer in layers:
        segments = []
        for contents, is_chosen in layer:
            packs = [made_up_facts(number + at, content) for at, content in enumerate(contents)]
            number += len(packs)
            segments.append((f"segment {len(parts)}-{len(segments)}", packs))
            wanted += packs if is_chosen else []
            kept |= {segments[-1][0]: packs} if is_chosen else {}
        parts.append(Part(table_of(write_table, segments), np.array([is_chosen for _, is_chosen in layer])))

    before, keys_module._RANGE = keys_module._RANGE, keys_at_once
    try:
        folded = table_of(fold_tables, parts)
    finally:
        keys_module._RANGE = before

    assert folded.names == [name for part in parts for name, c in zip(part.layer.names, part.chosen, strict=True) if c]
    whole = Part(folded, np.ones(len(folded.names), np.bool_))
    stated = Stated([whole])
    believed = stated.believed({str(facts.name): facts.size for facts in wanted})
    assert believed.packs == {str(facts.name) for facts in wanted}
    assert stated.segments == {name: list(map(statement_of, said)) for name, said in kept.items()}
    for facts in wanted:
        assert facts.agrees_with(believed.facts(facts.name))
        assert believed.said(facts.name) == (facts.size, said_of(facts))
    index = Index.over(believed.tables, [])
    expected = [(f.name, r.chunk, r.offset, r.length, r.raw) for f in wanted for r in f.records()]
    assert len(folded.keys) == len(expected)
    found = [(o.pack, prefix, o.offset, o.length, o.raw) for prefix in PREFIXES for o in index.find_all(prefix)]
    assert sorted(found) == sorted(expected)


def made_up_facts(number, content):
    lengths = np.arange(17, 17 + len(content), dtype=np.uint32) | np.uint32(RAW_BIT * (number % 2))
    return PackFacts(PackName("ab" * 16, number), PackKind.CHUNKS, 1000 + number, b"".join(content), lengths)


def table_of(write, contents):
    file = os.memfd_create("table")
    try:
        write(file, "00" * 16, contents)
        return open_table(file, "00" * 16)
    finally:
        os.close(file)


@pytest.fixture
def writer():
    return Writer()


@pytest.fixture
def node(writer, tmp_path):
    return Node(writer.store, tmp_path / "cache", 1)


def cached_files(tmp_path):
    return sorted(path for path in tmp_path.glob("cache/*/*") if path.name != "lock")


LISTINGS = ("list", "keys")


class Reads:
    """A store that notes what is asked of it."""

    def __init__(self, store):
        self._store = store
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, arguments[0]))
            return getattr(self._store, name)(*arguments)

        return call if callable(getattr(self._store, name)) else getattr(self._store, name)


def looked(writer, tmp_path):
    """What a new process asks of the store to load the index."""
    reads = Reads(writer.store)
    repository = open_repository(reads, None, clock=CLOCK, entropy=CountingEntropy(3), caches=tmp_path / "cache")
    reads.calls.clear()
    repository.catalog.index_for_writing()
    return reads.calls


def test_a_segment_is_read_once(writer, tmp_path):
    first = writer.add_segment([writer.add_pack(PREFIXES[:4])])
    assert ("get", f"index/{first}") in looked(writer, tmp_path)
    second = writer.add_segment([writer.add_pack(PREFIXES[4:8])])

    assert [call for call in looked(writer, tmp_path) if call[0] not in LISTINGS] == [("get", f"index/{second}")]
    assert [call for call in looked(writer, tmp_path) if call[0] not in LISTINGS] == []


def test_with_a_cache_too_condemnations_are_read_before_segments_and_packs_are_listed_last(writer, tmp_path):
    writer.condemn(writer.add_pack(PREFIXES[:1]))
    for _ in range(2):
        writer.add_segment([writer.add_pack(PREFIXES[:4])])
        calls = looked(writer, tmp_path)
        folders = [key.partition("/")[0] for _, key in calls]
        assert folders == sorted(folders, key=["gc", "index", "pack"].index)
        assert {name for name, key in calls if key == "pack/"} == {"keys"}


def test_what_is_condemned_is_found_and_stored_again_and_what_is_given_up_is_not_found(writer, node):
    kept, condemned, damaged = (writer.add_pack([prefix]) for prefix in PREFIXES[:3])
    writer.add_segment([kept, condemned, damaged])
    writer.condemn(condemned)
    writer.condemn(damaged, damaged=True)
    for _ in range(2):
        index = node.repository.catalog.index_for_writing()[0]
        assert [index.find(prefix) is not None for prefix in PREFIXES[:3]] == [True, True, False]
        assert [index.claim(prefix) for prefix in PREFIXES[:3]] == [False, True, True]
        assert index.distinct == 2
        node.reopen()


@pytest.mark.parametrize("kind", [MemoryStore, Untelling])
def test_what_is_in_a_pack_that_was_cut_short_is_stored_again_unless_another_one_has_it(kind, tmp_path):
    writer = Writer(kind=kind)
    short, whole = writer.add_pack(PREFIXES[:2]), writer.add_pack(PREFIXES[1:3])
    writer.add_segment([short, whole])
    writer.store.put(short.key, writer.store.get(short.key)[:-1])
    index = Node(writer.store, tmp_path / "cache", 1).repository.catalog.index_for_writing()[0]
    assert [index.claim(prefix) for prefix in PREFIXES[:3]] == [True, False, False]


def test_a_size_that_was_not_told_is_asked_for_once_when_a_claim_comes_upon_the_pack(tmp_path):
    writer = Writer(kind=Untelling)
    kept, gone, left = (writer.add_pack(PREFIXES[at : at + 2]) for at in (0, 2, 4))
    writer.add_segment([kept, gone, left])
    reads = Reads(writer.store)
    index = Node(reads, tmp_path / "cache", 1).repository.catalog.index_for_writing()[0]
    assert "stat" not in {name for name, _ in reads.calls}

    writer.store.delete(gone.key)
    assert [index.claim(prefix) for prefix in PREFIXES[:4]] == [False, False, True, True]

    assert [key for name, key in reads.calls if name == "stat"] == [kept.key, gone.key]


@pytest.mark.parametrize("kind", [MemoryStore, Untelling])
def test_of_statements_that_differ_in_the_size_alone_the_true_one_counts(kind, tmp_path):
    writer = Writer(kind=kind)
    pack = writer.add_pack(PREFIXES[:2])
    for change in (of_another_size, as_it_is):
        writer.add_segment([pack], change=change)
    assert_right(Node(writer.store, tmp_path / "cache", 1).repository, writer)


def test_a_segment_damaged_later_is_used_until_a_check_finds_it(writer, node):
    pack = writer.add_pack(PREFIXES[:4])
    name = writer.add_segment([pack])
    assert node.repository.catalog.index_for_writing()[1] == []
    writer.store.put(f"index/{name}", b"damaged")
    node.reopen()
    assert node.repository.catalog.index_for_writing()[1] == []  # it was read when it was whole

    assert list(node.repository.catalog.segments()) == [(name, None)]

    assert [facts.name for facts in node.repository.catalog.index_for_writing()[1]] == [pack]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_every_byte_of_a_table_counts_or_does_not_matter(writer, node, tmp_path, count):
    for number in range(count):
        writer.add_segment([writer.add_pack(PREFIXES[number : 4 * number + 4])])
        assert_right(node.repository, writer)
    choice = random.Random(1)
    for _ in range(60):
        (path,) = cached_files(tmp_path)
        damage(path, choice.randrange(1 << 20), choice.choice(["flip", "flip", "cut"]))
        node.reopen()
        assert_right(node.repository, writer)


def test_segments_of_another_repository_are_not_believed(writer, node, tmp_path):
    other = Writer(seed=99)
    theirs = other.add_segment([other.add_pack(PREFIXES[4:8])])
    Node(other.store, tmp_path / "cache", 2).repository.catalog.index_for_writing()
    mine = writer.add_segment([writer.add_pack(PREFIXES[:4])])
    assert mine == theirs
    (path,) = cached_files(tmp_path)
    (path.parent.parent / writer.repository.id).mkdir(mode=0o700)
    path.rename(path.parent.parent / writer.repository.id / path.name)
    assert_right(node.repository, writer)


@pytest.mark.slow
def test_layers_grow_geometrically_and_what_is_gone_goes(writer, node, tmp_path):
    sizes = []
    for _ in range(60):
        writer.add_segment([writer.add_pack(PREFIXES[:10])])
        node.reopen()
        node.repository.catalog.index_for_writing()
        sizes.append(len(cached_files(tmp_path)))
    assert max(sizes) <= 3
    for name in list(writer.segments)[:-1]:
        writer.store.delete(f"index/{name}")
        del writer.segments[name]
    assert_right(node.repository, writer)
    assert sum(path.stat().st_size for path in cached_files(tmp_path)) < 2 * KIB


def test_layers_that_a_crash_left_beside_their_fold_are_removed(writer, node, tmp_path):
    kept = {}
    for number in range(3):
        writer.add_segment([writer.add_pack(PREFIXES[number : number + 4])])
        kept |= {path: path.read_bytes() for path in cached_files(tmp_path)}
        assert_right(node.repository, writer)
    (path,) = cached_files(tmp_path)
    size = path.stat().st_size
    for path, body in kept.items():
        path.write_bytes(body)
    assert len(cached_files(tmp_path)) == 3

    node.reopen()
    assert_right(node.repository, writer)

    (path,) = cached_files(tmp_path)
    assert path.stat().st_size == size


@pytest.mark.parametrize("obstacle", ["file", "read-only", "open to others", "full", "faulty"])
def test_a_folder_that_cannot_be_used_is_done_without(writer, tmp_path, obstacle, monkeypatch):
    caches = tmp_path / "cache"
    folder = caches / writer.repository.id
    if obstacle == "file":
        caches.write_text("not a folder")
    else:
        folder.mkdir(parents=True)
        folder.chmod(0o500 if obstacle == "read-only" else 0o777 if obstacle == "open to others" else 0o700)
    if obstacle in ("full", "faulty"):
        monkeypatch.setattr(os, "pwrite", bad_disk(os.pwrite, folder, is_full=obstacle == "full"))
    node = Node(writer.store, caches, 1)
    for _ in range(3):
        writer.add_segment([writer.add_pack(PREFIXES[:4])])
        assert_right(node.repository, writer)
        assert_right(node.repository, writer)
    if obstacle == "open to others":
        assert list(folder.iterdir()) == []
    if obstacle in ("full", "faulty"):
        assert [path.name for path in folder.iterdir()] == ["lock"]
        monkeypatch.undo()
        node.reopen()
        assert_right(node.repository, writer)
        assert len(cached_files(tmp_path)) == 1


def bad_disk(pwrite, folder, *, is_full):
    def write(file, body, offset):
        if not Path(f"/proc/self/fd/{file}").readlink().is_relative_to(folder):
            return pwrite(file, body, offset)
        if is_full:
            raise OSError(28, "No space left on device")
        return pwrite(file, bytes(255 - byte for byte in body), offset)

    return write


def test_only_we_can_read_what_is_kept(writer, node, tmp_path):
    writer.add_segment([writer.add_pack(PREFIXES[:4])])
    node.repository.catalog.index_for_writing()
    folder = tmp_path / "cache" / writer.repository.id
    assert (folder.parent.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o700, 0o700)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_while_another_writes_a_node_does_without_and_leaves_the_folder_alone(writer, node, tmp_path):
    writer.add_segment([writer.add_pack(PREFIXES[:4])])
    other = Node(writer.store, tmp_path / "cache", 2)
    other.repository.catalog.index_for_writing()
    before = cached_files(tmp_path)
    writer.add_segment([writer.add_pack(PREFIXES[4:8])])
    with other.repository.catalog._facts._layers._folder.writing() as lock:
        assert lock.keeps
        assert_right(node.repository, writer)
    assert cached_files(tmp_path) == before
    assert_right(node.repository, writer)
    node.reopen()
    assert_right(node.repository, writer)


def test_what_a_dead_writer_left_is_removed(writer, node, tmp_path):
    writer.add_segment([writer.add_pack(PREFIXES[:4])])
    node.repository.catalog.index_for_writing()
    draft = cached_files(tmp_path)[0].parent / "draft-00"
    draft.write_bytes(b"half")
    writer.add_segment([writer.add_pack(PREFIXES[4:8])])
    node.repository.catalog.index_for_writing()
    assert not draft.exists()


@pytest.mark.slow
@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=5, deadline=None)
def test_several_processes_may_use_a_folder_at_once(pushes, choice):
    with tempfile.TemporaryDirectory(prefix="rokctl-test-") as folder:
        writer, caches = Writer(), Path(folder) / "cache"
        for count in pushes:
            writer.add_segment([writer.add_pack(choice.sample(PREFIXES, choice.randint(1, 12))) for _ in range(count)])
            # Each node has its own descriptors and mappings, as a process has: threads are as good, and much faster.
            nodes = [Node(writer.store, caches, seed) for seed in range(4)]
            with ThreadPoolExecutor(len(nodes)) as crew:
                for done in [crew.submit(assert_right, node.repository, writer) for node in nodes for _ in range(2)]:
                    done.result()
