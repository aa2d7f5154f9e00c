"""Marks: what is live is what the versions reach, however they came and went, and at 20 bytes each."""

import random
import tracemalloc
from contextlib import closing, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Damaged
from engine.repo import marks as marks_module
from engine.repo.map import REGION_BLOCKS, ZEROS, RegionBuilder, encode_page, encode_top
from engine.repo.marks import Keys, Marks
from engine.store.directory import DirectoryStore
from engine.store.memory import MemoryStore
from tests.manual_clock import ManualClock

REPOSITORY = "ab" * 16
MANY = 60_000
A_MARK = 20  # bytes

# Few, so that maps share what they name, and regions name a chunk twice.
chunks = st.integers(1, 40).map(lambda number: random.Random(number).randbytes(16))
volumes = st.lists(st.lists(chunks, min_size=1, max_size=5), min_size=1, max_size=3)
versions_of_volumes = st.frozensets(st.tuples(st.integers(0, 3), st.sampled_from("ab")), max_size=4)
histories = st.lists(st.tuples(versions_of_volumes, st.booleans()), max_size=6)


@given(st.tuples(*[volumes] * 4), histories, st.integers(1, 5), st.integers(1, 5))
@settings(deadline=None)
def test_what_is_live_is_what_the_versions_reach(contents, history, piece, run):
    maps, cache, marks = Maps(), MemoryStore(ManualClock()), Marks()
    roots = [maps.of(content) for content in contents]
    with small_pieces(piece, run):
        for chosen, is_kept in history:
            versions = {f"{volume}{name}": (roots[volume],) for volume, name in chosen}
            marks.update(versions, maps.read)
            if is_kept:
                marks.save(cache, REPOSITORY)
                marks = Marks.load(cache, REPOSITORY)

            live = maps.reached({root for (root,) in versions.values()})
            assert found(marks, maps.everything) == live
            assert len(marks) == len(live)
            assert marks.versions == versions


@pytest.fixture(scope="module")
def large():
    maps, rnd = Maps(), random.Random(2026)
    content, more = (
        [[rnd.randbytes(16) for _ in range(500)] for _ in range(count // 500)] for count in (MANY, MANY // 10)
    )
    return maps, {"one": (maps.of(content),)}, {"one": (maps.of(content),), "two": (maps.of(more),)}


@pytest.mark.slow
def test_marks_are_made_where_they_stand(large):
    maps, one, _ = large
    with small_pieces(1 << 11, 1 << 11), allocated() as peak:
        marks = Marks()
        marks.update(one, maps.read)

    assert peak() < 1.25 * A_MARK * len(marks)


@pytest.mark.slow
def test_marks_are_read_changed_and_kept_where_they_stand(large, tmp_path):
    maps, one, two = large
    with small_pieces(1 << 11, 1 << 11), closing(DirectoryStore(tmp_path)) as cache:
        made = Marks()
        made.update(one, maps.read)
        made.save(cache, REPOSITORY)
        del made
        with allocated() as peak:
            marks = Marks.load(cache, REPOSITORY)
            marks.update(two, maps.read)
            marks.update(one, maps.read)
            marks.save(cache, REPOSITORY)

    assert peak() < 1.1 * 1.25 * A_MARK * len(marks)


def test_marks_that_become_shorter_while_they_are_read_are_damaged():
    maps, cache, marks = Maps(), Outdated(ManualClock()), Marks()
    marks.update({"one": (maps.of([[bytes(15) + b"x"]]),)}, maps.read)
    marks.save(cache, REPOSITORY)

    with pytest.raises(Damaged, match="shorter"):
        Marks.load(cache, REPOSITORY)


class Outdated(MemoryStore):
    """Tells of each blob the size that it once had."""

    def stat(self, key):
        now = super().stat(key)
        return now._replace(size=2 * now.size)


class Maps:
    """Made up maps, and what each names."""

    def __init__(self):
        self._encoded, self._named = {}, {}

    def of(self, content):
        """The root of a volume whose regions are of these chunks."""
        regions = [self._add(region(names), names) for names in content]
        page = self._add(encode_page(regions), regions)
        return self._add(encode_top([page]), [page])

    def _add(self, encoded, named):
        reference = random.Random(encoded).randbytes(16)
        self._encoded[reference], self._named[reference] = encoded, named
        return reference

    def read(self, references):
        return [self._encoded[reference] for reference in references]

    @property
    def everything(self):
        return {*self._named}.union(*self._named.values())

    def reached(self, references):
        named = {name for reference in references for name in self._named.get(reference, ())}
        return references | self.reached(named) if named else set(references)


def region(names):
    builder = RegionBuilder()
    for name in names:
        builder.add(1, name)
    builder.add(REGION_BLOCKS - builder.blocks, ZEROS)
    return builder.encode()


def found(marks, references):
    listed = sorted(references)
    _, is_live = marks.find(Keys.of(b"".join(listed)))
    return {reference for reference, live in zip(listed, is_live.tolist(), strict=True) if live}


@contextmanager
def small_pieces(piece, run):
    """Few marks are as many pieces and runs as many are."""
    names = {"_PIECE": piece, "_RUN": run, "_READ": 8 * piece}
    before = {name: getattr(marks_module, name) for name in names}
    for name, value in names.items():
        setattr(marks_module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(marks_module, name, value)


@contextmanager
def allocated():
    """Gives what gives the peak of memory, numpy's included, above what there was."""
    tracemalloc.start()
    try:
        peaks = []
        yield lambda: peaks[0]
        peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
