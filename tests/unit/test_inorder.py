"""A member as a stream: its bytes in order, made by workers who are a piece ahead, and stop when nobody wants more."""

import random
import threading
import time

import pytest

from engine.errors import Damaged
from engine.extent import Extent
from engine.hand import Hand
from engine.ops.inorder import ContentInOrder
from engine.repo.reader import Reader
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import CLOCK, new_pool, new_repository, push_snapshots, snapshot, write

pytestmark = pytest.mark.slow

SIZE = 150 * MIB + 512
DATA = ((0, 70 * MIB), (71 * MIB + 64 * KIB, 8 * MIB), (SIZE - MIB - 512, MIB + 512))
HOLES = (9 * MIB, 66 * MIB)  # within pieces; the second in one that is made where the first was


@pytest.fixture(scope="module")
def body():
    content, rnd = bytearray(SIZE), random.Random(6)
    for start, length in DATA:
        content[start : start + length] = rnd.randbytes(length)
    for start in HOLES:
        content[start : start + 8 * KIB] = bytes(8 * KIB)
    return bytes(content)


@pytest.fixture(scope="module")
def repository(body):
    pool, repository = new_pool(), new_repository(MemoryStore(CLOCK))
    pool.create_volume("volume", SIZE)
    write(pool, "volume", *((start, body[start : start + length]) for start, length in DATA))
    push_snapshots(repository, snapshot(pool, "a", "volume"))
    return repository


def refuse(extent, error):
    raise error


def stream(repository, workers, lose=refuse):
    [manifest] = repository.versions()
    return ContentInOrder(repository.reader(), manifest.member(None), workers=workers, lose=lose)


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
def test_it_is_what_was_pushed_however_many_workers_make_it(repository, body, workers):
    streamed = bytearray()
    for view in stream(repository, workers).views():
        assert len(view) > 0
        streamed += view
    assert streamed == body


def test_while_a_piece_is_taken_the_next_one_is_made_and_none_after_it(repository, body, monkeypatch):
    made, tries = [], Reader.tries

    def noting(reader, entries, room):
        for entry, body in tries(reader, entries, room):
            made.append(entry)
            yield entry, body

    monkeypatch.setattr(Reader, "tries", noting)
    view = next(stream(repository, 2).views())
    assert len(view) >= 31 * MIB
    wait_until(lambda: not at_work())
    ahead = sum(entry.blocks for entry in made) * 4 * KIB - len(view)
    assert 24 * MIB < ahead <= 32 * MIB
    assert view == memoryview(body)[: len(view)], "the next piece is made elsewhere"


def test_when_it_is_stopped_nobody_works_any_more(repository, monkeypatch):
    made, tries = [], Reader.tries

    def slow(reader, entries, room):
        for found in tries(reader, entries, room):
            time.sleep(0.01)
            made.append(found)
            yield found

    monkeypatch.setattr(Reader, "tries", slow)
    content = stream(repository, 2)
    first = len(next(content.views()))
    assert at_work()
    content.stop()
    assert not at_work()
    assert sum(entry.blocks for entry, _ in made) * 4 * KIB < first + 24 * MIB, "the next piece was not made to its end"


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_lost_is_told_and_zeros_stand_for_it_unless_that_raises(body, workers):
    store, pool = MemoryStore(CLOCK), new_pool()
    pool.create_volume("volume", SIZE)
    write(pool, "volume", *((start, body[start : start + length]) for start, length in DATA))
    repository = new_repository(store)
    push_snapshots(repository, snapshot(pool, "a", "volume"))
    [manifest] = repository.versions()
    reader, member = repository.reader(), manifest.member(None)
    chunk = reader.region(list(reader.all_regions(member.root, SIZE))[1], 1, SIZE)[5].chunk
    place = repository.catalog.index_for_reading().find(chunk)
    damaged = bytearray(store.get(place.pack.key))
    damaged[place.offset] ^= 1
    store.put(place.pack.key, damaged)

    with pytest.raises(Damaged):
        list(stream(repository, workers).views())
    assert not at_work()
    lost: list[Extent] = []
    streamed = b"".join(map(bytes, stream(repository, workers, lambda extent, _: lost.append(extent)).views()))
    [extent] = lost
    assert extent.start > 64 * MIB, "made where something else was"
    assert streamed == body[: extent.start] + bytes(extent.length) + body[extent.end :]


def at_work():
    return [thread for thread in threading.enumerate() if isinstance(thread, Hand) and thread.is_at_work]


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
