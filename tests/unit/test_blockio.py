"""Sources and targets over files."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine import native
from engine.device import blockio, inuse
from engine.device.blockio import hold_exclusively, open_source, open_target, translated
from engine.errors import Busy, Failed, NotFound, OutOfSpace, Refused, RokError
from engine.extent import Extent, between, total
from engine.units import KIB, MIB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "file.raw"
    file.write_bytes(bytes(range(256)) * 256)
    return file


def test_a_file_that_shrinks_while_it_is_read_is_told_by_name_and_offset(path: Path) -> None:
    with open_source(str(path), snapshot=False) as source:
        os.truncate(path, 4096)
        body = bytearray(8192)
        with pytest.raises(Failed, match=r"file\.raw became shorter while it was read.* 4096"):
            source.read_into(0, memoryview(body))
        source.read_into(0, memoryview(body)[:4096])
    assert body[:4096] == bytes(range(256)) * 16


def test_reads_and_writes_outside_are_our_own_mistake(path: Path) -> None:
    size = path.stat().st_size
    with open_source(str(path), snapshot=False) as source, pytest.raises(AssertionError):
        source.read_into(size - 1, memoryview(bytearray(2)))
    with open_target(str(path)) as target:
        with pytest.raises(AssertionError):
            target.write(size - 1, b"xx")
        with pytest.raises(AssertionError):
            target.discard(between(size - 1, size + 1))
    assert path.stat().st_size == size


def test_a_file_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    for opened in (open_source(str(tmp_path / "none"), snapshot=False), open_target(str(tmp_path / "none"))):
        with pytest.raises(NotFound, match="none"), opened:
            pass


def test_a_target_excludes_targets_and_readers_of_snapshots_but_not_of_volumes(path: Path) -> None:
    with open_target(str(path)):
        with pytest.raises(Busy), open_target(str(path)):
            pass
        with pytest.raises(Busy), open_source(str(path), snapshot=True):
            pass
        with open_source(str(path), snapshot=False) as source:
            assert source.size == path.stat().st_size
    with (
        open_source(str(path), snapshot=True),
        open_source(str(path), snapshot=True),
        pytest.raises(Busy),
        open_target(str(path)),
    ):
        pass


def test_the_files_behind_loop_devices_are_listed(tmp_path: Path) -> None:
    backing = tmp_path / "loop7" / "loop" / "backing_file"
    backing.parent.mkdir(parents=True)
    backing.write_text("/some/file with spaces.raw\n")
    (tmp_path / "loop8").mkdir()  # not attached
    (tmp_path / "sda").mkdir()
    assert inuse.loop_devices(tmp_path) == {"/some/file with spaces.raw": "/dev/loop7"}


@contextmanager
def loop_device(path: Path) -> Iterator[str]:
    attached = subprocess.run(["losetup", "-f", "--show", path], capture_output=True, text=True)
    if attached.returncode != 0:
        pytest.skip("attaching a loop device takes root")
    device = attached.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_a_file_behind_a_loop_device_is_no_target(path: Path) -> None:
    with loop_device(path) as device:
        with pytest.raises(Busy, match=device) as caught, open_target(str(path)):
            pass
        assert f"losetup -d {device}" in caught.value.hint


def test_a_block_device_is_written_discarded_and_held_exclusively(tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    body = bytearray(os.urandom(4 * MIB + 1536))
    path.write_bytes(body)
    with loop_device(path) as device:
        with open_target(device) as target:
            assert target.size == len(body)
            with pytest.raises(Busy, match=device), open_target(device):
                pass
            target.write(MIB - 5, b"straddle")
            for extent in (between(2 * MIB + 512, 3 * MIB - 1), between(10, 20), between(4 * MIB - 100, len(body))):
                target.discard(extent)
                body[extent.start : extent.end] = bytes(extent.length)
            target.flush()
        body[MIB - 5 : MIB + 3] = b"straddle"
        with open_source(device, snapshot=True) as source:
            assert source.size == len(body)
            assert source.logical_block_size == 512
            found = bytearray(source.size)
            source.read_into(0, memoryview(found))
        assert found == body
    with path.open("rb") as file:  # what was discarded was given back, down through the loop device
        assert os.lseek(file.fileno(), 2 * MIB, os.SEEK_HOLE) < 2 * MIB + 64 * KIB


def test_a_volume_removed_between_opening_and_locking_is_not_found(path: Path) -> None:
    path.write_bytes(b"old")
    with path.open("r+b") as file:
        path.unlink()
        with pytest.raises(NotFound):
            hold_exclusively(file.fileno(), str(path))
        path.write_bytes(b"new")
        with pytest.raises(NotFound, match="removed"):
            hold_exclusively(file.fileno(), str(path))


def test_a_discard_where_the_filesystem_cannot_punch_writes_zeros(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(_file: int, _extent: Extent) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(native, "punch_hole", cannot)
    before = path.read_bytes()
    with open_target(str(path)) as target:
        target.discard(between(100, 50_000))
    assert path.read_bytes() == before[:100] + bytes(49_900) + before[50_000:]


def test_a_file_that_may_not_grow_so_large_is_refused(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_target(str(path)) as target:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # Python ignores the signal that comes with it
        try:
            with pytest.raises(Refused, match="writing at byte 4096"):
                target.write(0, bytes(8192))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, OutOfSpace),
        (errno.EDQUOT, OutOfSpace),
        (errno.EIO, Failed),
        (errno.ENOENT, NotFound),
        (errno.EBUSY, Busy),
        (errno.EACCES, Refused),
        (errno.EPERM, Refused),
    ],
)
def test_an_os_error_becomes_what_its_caller_can_do(number: int, kind: type[RokError]) -> None:
    error = translated(OSError(number, os.strerror(number)), "/dev/x", "reading 512 bytes at byte 1024")
    assert type(error) is kind
    assert error.message == f"reading 512 bytes at byte 1024 failed on /dev/x: {os.strerror(number)}"


def test_what_is_written_begins_to_reach_the_disk_before_the_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "volume.raw"
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, *advice: asked.append(advice))
    with blockio.new_file(str(path), 40 * MIB) as target:
        for offset in range(0, 40 * MIB, 8 * MIB):
            target.write(offset, bytes(8 * MIB))
    window = 16 * MIB
    # and at last, when it is flushed, whatever is left
    assert asked == [
        (start, length, os.POSIX_FADV_DONTNEED) for start, length in ((0, window), (window, window), (0, 0))
    ]


def test_the_extents_of_a_file_lie_inside_it_and_cover_its_data(tmp_path: Path) -> None:
    path = tmp_path / "sparse.raw"
    with path.open("wb") as file:
        file.truncate(MIB + 512)
        for offset in (0, 200 * KIB, MIB + 511):
            os.pwrite(file.fileno(), b"x", offset)
    extents = list(blockio.allocated(str(path), snapshot=False))
    assert extents[0].start == 0
    assert extents[-1].end == MIB + 512
    assert any(extent.start <= 200 * KIB < extent.end for extent in extents)
    assert total(extents) < MIB
    with path.open("rb") as file:  # as if it had grown since its size was taken
        assert list(blockio.data_extents(file.fileno(), str(path), 1024)) == [between(0, 1024)]


@pytest.mark.parametrize("somebody_elses", [False, True])
def test_a_new_file_that_is_interrupted_while_it_is_taken_hold_of_leaves_what_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, somebody_elses: bool
) -> None:
    partial = tmp_path / ".file.partial"

    def interrupted(_file: int, _path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(blockio, "hold_exclusively", interrupted)
    with partial.open("wb") as other:
        if somebody_elses:
            assert inuse.lock_exclusive(other.fileno())
        with pytest.raises(KeyboardInterrupt), blockio.new_file(str(tmp_path / "file"), MIB):
            pass
    assert list(tmp_path.iterdir()) == ([partial] if somebody_elses else [])
