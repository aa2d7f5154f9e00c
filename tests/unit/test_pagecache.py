"""The page cache of a node is, after rokctl has read and written, what it was before."""

import ctypes
import errno
import fcntl
import io
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import native
from engine.clock import SystemClock
from engine.device import blockio, filecopy
from engine.device.directory import create_directory_pool
from engine.errors import Failed, OutOfSpace
from engine.extent import between
from engine.ops.volume import Stream, import_volume, spooled
from engine.pages import pages
from engine.progress import Silent
from engine.store.directory import DirectoryStore
from engine.units import KIB, MIB

TMPFS = 0x01021994
SIZE = 12 * MIB + 100
TRIES = 4  # the kernel takes pages back when other programs want memory, at any moment


@pytest.fixture(params=["by the kernel", "by looking before and giving back after"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How reads leave the cache alone; the first is the second where the kernel cannot."""
    if request.param != "by the kernel":
        monkeypatch.setattr(os, "preadv", preadv_of_an_older_kernel(errno.EOPNOTSUPP))


def preadv_of_an_older_kernel(refusal: int) -> Callable[..., int]:
    """Refuses flags that it does not know by that errno."""

    def preadv(file: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(refusal, os.strerror(refusal))
        [buffer] = buffers
        found = os.pread(file, len(buffer), offset)
        buffer[: len(found)] = found
        return len(found)

    return preadv


@pytest.fixture
def path(tmp_path: Path) -> Path:
    if native.filesystem_magic(str(tmp_path)) == TMPFS:
        pytest.skip("a tmpfs is nothing but page cache")
    file = tmp_path / "file"
    file.write_bytes(os.urandom(SIZE))
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return file


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("snapshot", [True, False])
def test_what_is_read_stays_in_the_cache_only_where_it_was_before(path: Path, snapshot: bool) -> None:
    content = path.read_bytes()
    for _ in range(TRIES):
        drop(path)
        touch(path, [(0, 4 * KIB), (MIB + 8 * KIB, 64 * KIB), (5 * MIB, 2 * MIB), (SIZE - 50, 50)])
        before = resident(path)
        assert 0 < sum(before) < len(before)
        with blockio.open_source(str(path), snapshot=snapshot) as source:
            body = bytearray(SIZE)
            for start in range(0, SIZE, MIB):
                source.read_into(start, memoryview(body)[start : start + MIB])
            source.read_into(2 * MIB + 512, memoryview(bytearray(512)))
        assert body == content
        if resident(path) == before:
            return
    pytest.fail("each time other pages were in the cache than before")


def read_on(path: Path, length: int, *, ahead: int, read: Callable[[int], None] = lambda start: None) -> bytearray:
    """Read a file from its start, so much at a time, and say each time what comes next; `read` is called before each."""
    body, told = bytearray(SIZE), 0
    with blockio.open_source(str(path), snapshot=True) as source:
        for start in range(0, SIZE, length):
            read(start)
            end = min(start + length, SIZE)
            source.read_into(start, memoryview(body)[start:end])
            before, told = max(told, end), min(end + ahead, SIZE)
            if before < told:
                source.expect(between(before, told))
    return body


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "ahead", [MIB, MIB + 5000, 3 * MIB, 100], ids=["as read", "and a part of a page", "more", "a bit"]
)
def test_what_was_expected_stays_in_the_cache_only_where_it_was_before(path: Path, ahead: int) -> None:
    content = path.read_bytes()
    for _ in range(TRIES):
        drop(path)
        touch(path, [(0, 4 * KIB), (MIB + 8 * KIB, 64 * KIB), (5 * MIB, 2 * MIB)])
        before = resident(path)
        assert read_on(path, MIB, ahead=ahead) == content
        if resident(path) == before:
            return
    pytest.fail("each time other pages were in the cache than before")


@pytest.mark.usefixtures("way")
def test_what_is_expected_is_read_from_the_disk_before_it_is_asked_for(path: Path) -> None:
    came = []

    def look(start: int) -> None:
        pages = slice(start // mmap.PAGESIZE, (start + MIB) // mmap.PAGESIZE)
        deadline = time.monotonic() + 5
        while not all(resident(path)[pages]) and time.monotonic() < deadline and start:
            time.sleep(0.01)
        came.append(all(resident(path)[pages]))

    for _ in range(TRIES):
        drop(path)
        came.clear()
        read_on(path, MIB, ahead=MIB, read=look)
        if came[0] is False and all(came[1:]):
            return
    pytest.fail(f"each time something was not there: {came}")


@pytest.mark.usefixtures("way")
def test_what_is_in_the_cache_is_not_read_twice_because_it_is_expected(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, advise, counts, advised = os.preadv, os.posix_fadvise, [], []

    def counted(file: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        counts.append(read(file, buffers, offset, flags))
        return counts[-1]

    def noted(file: int, offset: int, length: int, advice: int) -> None:
        advised.append(advice)
        advise(file, offset, length, advice)

    monkeypatch.setattr(os, "preadv", counted)
    monkeypatch.setattr(os, "posix_fadvise", noted)
    for _ in range(TRIES):
        path.read_bytes()
        counts.clear()
        advised.clear()
        read_on(path, MIB, ahead=MIB)
        if sum(counts) == SIZE and os.POSIX_FADV_WILLNEED not in advised:
            return
    pytest.fail(f"each time more than all was read, or asked for: {sum(counts)} of {SIZE}, {advised}")


@pytest.mark.usefixtures("way")
def test_to_expect_what_cannot_be_read_is_no_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with blockio.open_source(str(path), snapshot=True) as source:
        source.read_into(0, memoryview(bytearray(MIB)))
        os.truncate(path, MIB)
        source.expect(between(MIB, 2 * MIB))

        def broken(*_: object) -> int:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(os, "preadv", broken)
        monkeypatch.setattr(os, "posix_fadvise", broken)
        source.expect(between(0, MIB))


@pytest.mark.usefixtures("way")
def test_a_file_that_becomes_shorter_while_it_is_read_is_told_as_such(path: Path) -> None:
    with blockio.open_source(str(path), snapshot=False) as source:
        os.truncate(path, 5 * KIB)
        with pytest.raises(Failed, match="became shorter"):
            source.read_into(0, memoryview(bytearray(8 * KIB)))


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.EINVAL], ids=["4.13 and later", "before 4.13"])
def test_a_kernel_that_does_not_know_how_to_read_past_the_cache_reads_all_the_same(
    path: Path, refusal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = path.read_bytes()
    monkeypatch.setattr(os, "preadv", preadv_of_an_older_kernel(refusal))
    with blockio.open_source(str(path), snapshot=True) as source:
        body = bytearray(SIZE)
        source.read_into(0, memoryview(body))
    assert body == content


def test_a_file_that_was_restored_is_not_in_the_cache(path: Path) -> None:
    target = path.with_name("restored")
    with blockio.new_file(str(target), SIZE) as opened:
        for start in range(0, SIZE, 128 * KIB):
            opened.write(start, os.urandom(min(128 * KIB, SIZE - start)))
    assert not any(resident(target))


@pytest.fixture
def direct(path: Path) -> None:
    """A filesystem that has writes around the page cache."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("a filesystem without direct writes")


@pytest.mark.usefixtures("direct")
@pytest.mark.parametrize("odd", [0, 512])
def test_the_whole_pages_of_a_long_run_are_written_around_the_cache(path: Path, odd: int) -> None:
    before, run = path.read_bytes(), memoryview(pages(3 * MIB))[: 2 * MIB + odd]
    run[:] = os.urandom(len(run))
    drop(path)
    with blockio.open_target(str(path)) as target:
        target.write(4 * MIB, run)
        assert sum(resident(path)) == bool(odd)
    assert path.read_bytes() == before[: 4 * MIB] + run + before[4 * MIB + len(run) :]


@pytest.mark.usefixtures("direct")
def test_a_file_that_is_copied_byte_by_byte_leaves_the_cache_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filecopy, "_clone", lambda *_: False)
    target = path.with_name("copy")
    for _ in range(TRIES):
        drop(path)
        touch(path, [(0, 64 * KIB), (5 * MIB, 2 * MIB)])
        before = resident(path)
        with path.open("rb") as origin:
            assert not filecopy.copy(origin.fileno(), str(path), target, 0o600)
        if resident(path) == before:
            assert not any(resident(target))
            assert target.read_bytes() == path.read_bytes()
            return
        target.unlink()
    pytest.fail("each time other pages were in the cache than before")


@pytest.mark.usefixtures("direct")
def test_what_comes_in_a_pipe_is_kept_around_the_cache(path: Path) -> None:
    body = os.urandom(2 * MIB) + bytes(3 * MIB) + os.urandom(4 * MIB + 512)
    with spooled(io.BytesIO(body), path.parent / "spool") as kept:
        assert sum(resident(kept)) == 1  # the last, which is no whole page
        assert kept.read_bytes() == body
        assert kept.stat().st_blocks * 512 <= len(body) - 3 * MIB + 64 * KIB


@pytest.mark.usefixtures("direct")
def test_what_comes_in_a_pipe_is_written_around_the_cache(path: Path) -> None:
    pool = create_directory_pool(path.parent / "pool", "tank", SystemClock(), os.urandom).item
    body = os.urandom(5 * MIB)
    import_volume(pool, "new", Stream(io.BytesIO(body), len(body)), progress=Silent())
    written = Path(pool.volume("new").path)
    assert not any(resident(written))
    assert written.read_bytes() == body


def refuse_direct_writes(monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    write = os.pwrite

    def refusing(file: int, body: memoryview, offset: int) -> int:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(refusal, os.strerror(refusal))
        return write(file, body, offset)

    monkeypatch.setattr(os, "pwrite", refusing)


@pytest.mark.parametrize(("refusal", "kind"), [(errno.EIO, Failed), (errno.ENOSPC, OutOfSpace)])
def test_an_error_of_the_disk_is_told_by_the_write_that_meets_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int, kind: type[Exception]
) -> None:
    refuse_direct_writes(monkeypatch, refusal)
    with blockio.open_target(str(path)) as target, pytest.raises(kind, match=f"byte {4 * MIB}"):
        target.write(4 * MIB, memoryview(pages(2 * MIB)))


def test_where_nothing_can_be_written_around_the_cache_it_is_written_through_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_direct_writes(monkeypatch, errno.EINVAL)
    run = memoryview(pages(2 * MIB))
    run[:] = os.urandom(2 * MIB)
    with blockio.open_target(str(path)) as target:
        target.write(4 * MIB, run)
        target.flush()
    assert path.read_bytes()[4 * MIB : 6 * MIB] == run


@pytest.mark.parametrize("refused", [False, True])
def test_a_pack_is_kept_whole_whether_or_not_its_pages_go_around_the_cache(
    path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    control, direct = fcntl.fcntl, []

    def watched(file: int, command: int, flags: int = 0) -> int:
        if flags & os.O_DIRECT:
            direct.append(file)
            if refused:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return control(file, command, flags)

    monkeypatch.setattr(fcntl, "fcntl", watched)
    store, body = DirectoryStore(path.parent / "store", create=True), memoryview(pages(SIZE))
    body[:] = os.urandom(SIZE)
    store.create("pack/a", body)
    assert len(direct) == 1
    assert store.get("pack/a") == body
    assert not any(resident(path.parent / "store" / "pack" / "a"))
    store.close()


def test_what_a_directory_holds_is_not_in_the_cache_after_it_was_written_and_read(path: Path) -> None:
    store, body = DirectoryStore(path.parent / "store", create=True), os.urandom(SIZE)
    store.create("pack/a", body)
    kept = path.parent / "store" / "pack" / "a"
    assert not any(resident(kept))
    for start, length in ((32, 4 * MIB), (4 * MIB + 32, 100), (5 * MIB + 7, 4 * MIB), (SIZE - 16, 16)):
        assert store.get_range("pack/a", start, length) == body[start : start + length]
        assert not any(resident(kept))
        memory = memoryview(bytearray(length))
        assert store.read_into("pack/a", start, memory) == length
        assert memory == body[start : start + length]
        assert not any(resident(kept))
    assert store.get("pack/a") == body
    assert not any(resident(kept))
    store.close()


@pytest.mark.usefixtures("way")
def test_what_a_directory_reads_into_memory_stays_in_the_cache_only_where_it_was_before(path: Path) -> None:
    store, body = DirectoryStore(path.parent / "store", create=True), os.urandom(SIZE)
    store.create("pack/a", body)
    kept, memory = path.parent / "store" / "pack" / "a", memoryview(bytearray(SIZE))
    for _ in range(TRIES):
        drop(kept)
        touch(kept, [(0, 64 * KIB), (5 * MIB, 2 * MIB), (SIZE - 50, 50)])
        before = resident(kept)
        assert 0 < sum(before) < len(before)
        assert store.read_into("pack/a", 0, memory) == SIZE
        assert memory == body
        if resident(kept) == before:
            store.close()
            return
    pytest.fail("each time other pages were in the cache than before")


def touch(path: Path, ranges: list[tuple[int, int]]) -> None:
    """Read these, and nothing ahead of them."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for offset, length in ranges:
            os.pread(file.fileno(), length, offset)


def drop(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident(path: Path) -> list[int]:
    """Which pages are in the cache, by mincore(2), asked apart from the code that is tested."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        vector = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
        start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(len(mapped)), vector) == 0
    return [page & 1 for page in vector]
