"""What a restore promises: nothing is touched that need not be, and an interrupted one says so."""

import random
import threading
import time

import pytest

from engine.device import blockio
from engine.device.base import Outcome
from engine.errors import Busy, Damaged, Failed, Refused
from engine.ops.restore import RestoreOptions, restore_to_file, restore_to_stream
from engine.progress import Silent
from engine.repo.reader import Reader
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB
from tests.repositories import (
    CLOCK,
    content,
    discard,
    new_pool,
    new_repository,
    push_snapshots,
    restore,
    snapshot,
    write,
)

SIZE = 66 * MIB + 512


@pytest.fixture
def pool():
    pool, rnd = new_pool(), random.Random(5)
    pool.create_volume("volume", SIZE)
    write(pool, "volume", (MIB, rnd.randbytes(900 * KIB)), (64 * MIB, rnd.randbytes(MIB)), (SIZE - 512, b"end" * 170))
    return pool


@pytest.fixture
def store():
    return MemoryStore(CLOCK)


@pytest.fixture
def repository(pool, store):
    repository = new_repository(store)
    push_snapshots(repository, snapshot(pool, "a", "volume"))
    write(pool, "volume", (MIB, b"b" * 4096))
    discard(pool, "volume", 64 * MIB, 512 * KIB)
    push_snapshots(repository, snapshot(pool, "b", "volume"))
    return repository


def test_in_place_only_the_difference_is_written(pool, repository):
    first = repository.versions()[0]

    report = restore(repository, first, pool, "volume", in_place=True)

    assert (report.base, report.outcome) == ("b", Outcome.CHANGED)
    assert 512 * KIB <= report.written < 1500 * KIB
    assert content(pool, "volume") == content(pool, "volume", "a")


def test_in_place_a_volume_that_is_right_already_is_left_alone(pool, repository):
    report = restore(repository, repository.versions()[1], pool, "volume", in_place=True)
    assert (report.written, report.discarded, report.outcome) == (0, 0, Outcome.UNCHANGED)


def test_in_place_without_a_common_snapshot_everything_is_written_and_holes_are_made(pool, repository):
    pool.create_volume("other", 70 * MIB)
    write(pool, "other", (0, b"old" * 1000), (30 * MIB, b"old" * 1000), (69 * MIB, b"old" * 1000))

    report = restore(repository, repository.versions()[0], pool, "other", in_place=True)

    assert report.base is None
    assert content(pool, "other") == content(pool, "volume", "a", size=70 * MIB)


def test_an_existing_volume_is_not_overwritten_by_accident(pool, repository):
    before = content(pool, "volume")
    with pytest.raises(Refused, match="exists") as refusal:
        restore(repository, repository.versions()[0], pool, "volume")
    assert "--in-place" in refusal.value.hint
    assert content(pool, "volume") == before


def test_a_volume_smaller_than_the_version_is_refused(pool, repository):
    pool.create_volume("small", MIB)
    with pytest.raises(Refused, match="needs"):
        restore(repository, repository.versions()[0], pool, "small", in_place=True)


def test_a_volume_in_use_is_refused(pool, repository):
    pool.set_mounted("volume", True)
    with pytest.raises(Busy):
        restore(repository, repository.versions()[0], pool, "volume", in_place=True)


@pytest.mark.slow
def test_a_restore_that_fails_at_any_call_says_so_and_can_be_run_again(pool, repository):
    first, second = repository.versions()
    wanted, failures = content(pool, "volume", "a"), 0
    for number in range(1, 1000):
        before = pool.calls
        pool.fail_at(number)
        try:
            restore(repository, first, pool, f"new{number}")
        except Failed:
            failures += 1
        else:
            pool.revive()
            break
        existing = {volume.name: volume for volume in pool.volumes()}.get(f"new{number}")
        if existing is not None and existing.restoring is not None:
            assert existing.restoring == first.version
            with pytest.raises(Refused):
                pool.create_snapshots({f"new{number}": "s"})
            with pytest.raises(Refused, match="unfinished restore"):
                restore(repository, second, pool, f"new{number}")
        # Before the mark is set, an existing volume may be someone's: then overwriting it must be asked for.
        again = existing is not None and existing.restoring is None
        restore(repository, first, pool, f"new{number}", in_place=again)
        assert content(pool, f"new{number}") == wanted
        assert pool.volume(f"new{number}").restoring is None
        assert pool.calls > before
    assert failures > 5


def test_a_version_with_a_lost_chunk_is_refused_before_anything_is_touched(pool, store, repository):
    first = repository.versions()[0]
    write(pool, "volume", (0, b"precious"))
    before = content(pool, "volume")
    for blob in list(store.list("pack/")):
        if blob.key.startswith(f"pack/{first.version}"):
            store.delete(blob.key)

    with pytest.raises(Damaged):
        restore(repository, first, pool, "volume", in_place=True)
    with pytest.raises(Damaged):
        restore(repository, first, pool, "new")

    assert content(pool, "volume") == before
    assert pool.volume("volume").restoring is None
    assert [volume.name for volume in pool.volumes()] == ["volume"]


@pytest.mark.slow
def test_a_file_appears_whole_or_not_at_all(pool, store, repository, tmp_path):
    first = repository.versions()[0]
    target = tmp_path / "volume.img"
    options = RestoreOptions(workers=2)

    report = restore_to_file(repository, first, first.member(None), target, options=options, progress=Silent())

    written = target.read_bytes()
    assert len(written) == report.size == SIZE
    streamed = bytearray()
    restore_to_stream(repository, first, first.member(None), streamed.extend, options=options, progress=Silent())
    assert written == streamed
    assert target.stat().st_blocks * 512 < 3 * MIB, "holes stay holes"
    with pytest.raises(Refused, match="exists"):
        restore_to_file(repository, first, first.member(None), target, options=options, progress=Silent())

    for blob in list(store.list("pack/")):
        body = bytearray(store.get(blob.key))
        body[len(body) // 2] ^= 1
        store.put(blob.key, body)
    with pytest.raises(Damaged):
        restore_to_file(repository, first, first.member(None), tmp_path / "2", options=options, progress=Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["volume.img"]


@pytest.mark.slow
def test_a_restore_that_fails_ends_when_no_write_is_under_way(repository, tmp_path, monkeypatch):
    first = repository.versions()[0]
    begun, in_time = threading.Event(), []
    write, tries = blockio.FileTarget.write, Reader.tries

    def slow_write(target, offset, body):
        begun.set()
        time.sleep(0.2)
        write(target, offset, body)
        in_time.append(True)

    def fail_later(reader, entries, room):
        yield from tries(reader, entries, room)
        room.hand_over()
        begun.wait()
        raise Damaged("it broke")

    monkeypatch.setattr(blockio.FileTarget, "write", slow_write)
    monkeypatch.setattr(Reader, "tries", fail_later)
    options = RestoreOptions(workers=1)
    with pytest.raises(Damaged, match="it broke"):
        restore_to_file(repository, first, first.member(None), tmp_path / "x", options=options, progress=Silent())
    assert in_time == [True], "the write had ended, and its file was open"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_that_a_dead_restore_left_half_made_is_taken_over(repository, tmp_path):
    first = repository.versions()[0]
    (tmp_path / ".volume.img.partial").write_bytes(b"half")
    options = RestoreOptions(workers=2)

    restore_to_file(repository, first, first.member(None), tmp_path / "volume.img", options=options, progress=Silent())

    assert [path.name for path in tmp_path.iterdir()] == ["volume.img"]
    streamed = bytearray()
    restore_to_stream(repository, first, first.member(None), streamed.extend, options=options, progress=Silent())
    assert (tmp_path / "volume.img").read_bytes() == streamed
