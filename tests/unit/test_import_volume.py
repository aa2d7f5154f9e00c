"""Importing disk images, over the simulated pool."""

import io
import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.device.blockio import open_source
from engine.device.sim import SimPool
from engine.errors import Failed, NotFound, Refused, RokError
from engine.extent import between
from engine.ops import volume
from engine.ops.volume import IMPORTING, Stream, import_volume, spooled
from engine.pages import begins_a_page
from engine.progress import Silent
from engine.units import KIB, MIB

SIZE = 4 * MIB + 512


class StoppedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing here sleeps, least of all {seconds} seconds")


class Tally:
    """A listener that adds up."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0
        self.has_ended = False

    def begin(self, activity: str, total: int | None) -> None:
        self.total = total

    def advance(self, amount: int) -> None:
        self.done += amount

    def end(self) -> None:
        self.has_ended = True


@pytest.fixture
def pool() -> SimPool:
    return SimPool("tank", 64 * MIB, StoppedClock())


@pytest.fixture
def content() -> bytes:
    body = bytearray(SIZE)
    body[0:100] = b"x" * 100
    body[MIB + 63 * KIB : MIB + 65 * KIB] = random.Random(1).randbytes(2 * KIB)
    body[-1] = 1
    return bytes(body)


def read(pool: SimPool, volume: str) -> bytes:
    with pool.open_source(volume) as source:
        body = bytearray(source.size)
        source.read_into(0, memoryview(body))
    return bytes(body)


def image(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("by", ["file", "stream"])
def test_the_volume_has_the_size_and_content_of_the_image(
    pool: SimPool, content: bytes, tmp_path: Path, by: str
) -> None:
    origin = image(tmp_path, content) if by == "file" else Stream(io.BytesIO(content), SIZE)
    tally = Tally()

    report = import_volume(pool, "vol", origin, progress=tally)

    assert read(pool, "vol") == content
    assert report.volume == pool.volume("vol")
    assert report.volume.restoring is None
    assert report.written == 3 * 64 * KIB + 512, "only what is not zeros was written"
    assert list(pool.allocated("vol")) == [between(0, 64 * KIB), between(MIB, MIB + 128 * KIB), between(4 * MIB, SIZE)]
    assert (tally.total, tally.done, tally.has_ended) == (SIZE, SIZE, True)


def test_a_sparse_image_is_imported_without_reading_its_holes(pool: SimPool, tmp_path: Path) -> None:
    path = tmp_path / "sparse.img"
    with path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"x")
    tally = Tally()
    assert import_volume(pool, "vol", path, progress=tally).written == 4 * KIB
    assert tally.done == 1 << 40


class Pipe(io.BytesIO):
    """Gives no more than 60 KiB at a time, as a pipe may."""

    def readinto(self, target: memoryview) -> int:
        return super().readinto(target[: 60 * KIB])


def test_zeros_are_found_however_a_stream_is_cut(pool: SimPool) -> None:
    body = bytes(60 * KIB) + b"x" * 4 * KIB + bytes(64 * KIB) + b"y" * 64 * KIB + bytes(MIB)
    report = import_volume(pool, "vol", Stream(Pipe(body), len(body)), progress=Silent())
    assert read(pool, "vol") == body
    assert report.written == 128 * KIB


def test_a_pipe_that_cannot_be_waited_for_is_not_taken_for_ended(pool: SimPool, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb", buffering=0) as producer:
        producer.write(b"x" * 4 * KIB)
        with pytest.raises(Failed, match="not to be waited for"), spooled(pipe, tmp_path):
            pytest.fail("half of it")
        producer.write(b"x" * 4 * KIB)
        with pytest.raises(Failed, match="not to be waited for"):
            import_volume(pool, "vol", Stream(pipe, SIZE), progress=Silent())
    assert pool.volume("vol").restoring == IMPORTING


@pytest.mark.parametrize(("size", "hint"), [(511, "truncate -s 512 "), (4097, "truncate -s 4608 ")])
def test_an_image_that_is_not_whole_sectors_is_refused(pool: SimPool, tmp_path: Path, size: int, hint: str) -> None:
    for origin in (image(tmp_path, b"x" * size), Stream(io.BytesIO(b"x" * size), size)):
        with pytest.raises(Refused, match=str(size)) as caught:
            import_volume(pool, "vol", origin, progress=Silent())
        assert hint in caught.value.hint
    assert pool.volumes() == []


def test_an_empty_or_missing_image_makes_no_volume(pool: SimPool, tmp_path: Path) -> None:
    with pytest.raises(Refused):
        import_volume(pool, "vol", image(tmp_path, b""), progress=Silent())
    with pytest.raises(NotFound, match="missing"):
        import_volume(pool, "vol", tmp_path / "missing", progress=Silent())
    assert pool.volumes() == []


def test_a_volume_that_holds_something_is_not_overwritten(pool: SimPool, content: bytes) -> None:
    import_volume(pool, "vol", Stream(io.BytesIO(content), SIZE), progress=Silent())
    with pytest.raises(Refused, match="vol exists"):
        import_volume(pool, "vol", Stream(io.BytesIO(bytes(SIZE)), SIZE), progress=Silent())
    pool.create_volume("restored", SIZE)
    pool.mark_restoring("restored", "v1")
    with pytest.raises(Refused, match="restored exists"):
        import_volume(pool, "restored", Stream(io.BytesIO(bytes(SIZE)), SIZE), progress=Silent())
    assert read(pool, "vol") == content


@pytest.mark.parametrize("length", [0, MIB, SIZE - 1, SIZE + 1, 2 * SIZE])
def test_a_stream_of_another_length_leaves_the_volume_marked(pool: SimPool, length: int) -> None:
    with pytest.raises(Failed, match=str(SIZE)):
        import_volume(pool, "vol", Stream(io.BytesIO(b"x" * length), SIZE), progress=Silent())
    assert pool.volume("vol").restoring == IMPORTING
    with pytest.raises(Refused):
        pool.create_snapshots({"vol": "s1"})


def test_an_import_that_failed_anywhere_is_repeated_and_leaves_nothing_of_the_first(
    pool: SimPool, content: bytes
) -> None:
    failures = 0
    for call in range(1, 100):
        name = f"vol{call}"
        pool.fail_at(call)
        try:
            import_volume(pool, name, Stream(io.BytesIO(b"y" * SIZE), SIZE), progress=Silent())
        except RokError:
            failures += 1
            pool.revive()
            import_volume(pool, name, Stream(io.BytesIO(content), SIZE), progress=Silent())
            assert read(pool, name) == content
            assert pool.volume(name).restoring is None
            pool.remove_volume(name)
        else:
            break
    assert failures > 8


class Told:
    """A source that is told what will be read next, and notes it."""

    def __init__(self, source):
        self.source, self.size, self.expected = source, source.size, []

    def read_into(self, offset, target):
        self.source.read_into(offset, target)

    def expect(self, extent):
        self.expected.append(extent)


def test_an_image_is_read_into_whole_pages_and_the_disk_is_told_what_comes_next(tmp_path):
    image, body = tmp_path / "image", random.Random(4).randbytes(9 * MIB + 512)
    image.write_bytes(body)
    with open_source(str(image), snapshot=False) as source:
        told = Told(source)
        pieces = [
            (start, bytes(piece), begins_a_page(piece)) for start, piece in volume._pieces_of_source(str(image), told)
        ]
    assert pieces == [(start, body[start : start + 4 * MIB], True) for start in (0, 4 * MIB, 8 * MIB)]
    assert told.expected == [between(4 * MIB, 8 * MIB), between(8 * MIB, 9 * MIB + 512)]


def test_an_image_that_grows_while_it_is_opened_is_refused(tmp_path):
    image = tmp_path / "image"
    image.write_bytes(random.Random(4).randbytes(8 * KIB))
    with open_source(str(image), snapshot=False) as source:
        with image.open("ab") as file:
            file.write(b"x" * 4 * KIB)
        with pytest.raises(Failed, match="longer"):
            list(volume._pieces_of_source(str(image), source))
