"""What is particular to directory pools: their layout on disk, crashes, and who uses a file."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.device.base import Outcome, Pool
from engine.device.directory import DirectoryPool, create_directory_pool
from engine.errors import Busy, Damaged, NotFound, OutOfSpace, Refused
from engine.extent import Extent
from engine.units import KIB, MIB

SIZE = 2 * MIB


class StoppedClock:
    """The time stands, and sleeping is over at once, after it ran `on_sleep`."""

    def __init__(self, on_sleep: Callable[[], None] = lambda: None) -> None:
        self.seconds = 0.0
        self._on_sleep = on_sleep

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self._on_sleep()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "tank"


@pytest.fixture
def pool(root: Path) -> Pool:
    return create_directory_pool(root, "tank", StoppedClock(), os.urandom).item


def reopened(root: Path) -> DirectoryPool:
    return DirectoryPool(root, StoppedClock(), os.urandom)


def write(pool: Pool, volume: str, body: bytes) -> None:
    with pool.open_target(volume) as target:
        target.write(0, body)


def read(pool: Pool, volume: str, snapshot: str | None, length: int) -> bytes:
    body = bytearray(length)
    with pool.open_source(volume, snapshot) as source:
        source.read_into(0, memoryview(body))
    return bytes(body)


def transient(root: Path) -> list[Path]:
    folder = root / "transient"
    return list(folder.iterdir()) if folder.exists() else []


# On disk


def test_all_that_a_pool_knows_stands_in_its_directory(root: Path, pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    write(pool, "vol", b"kept")
    pool.create_snapshots({"vol": "s1"})
    pool.clone_volume("vol", "s1", "clone")
    pool.mark_restoring("clone", "v1")

    again = reopened(root)

    assert again.volumes() == pool.volumes()
    assert again.snapshots() == pool.snapshots()
    assert again.status().uuid == pool.status().uuid
    assert again.clone_volume("vol", "s1", "clone").outcome is Outcome.ALREADY_THERE
    assert read(again, "vol", "s1", 4) == b"kept"


def test_volumes_are_their_owners_alone_and_snapshots_are_read_only(pool: Pool) -> None:
    path = Path(pool.create_volume("vol", SIZE).item.path)
    snapshot = Path(pool.create_snapshots({"vol": "s1"})[0].item.path)
    clone = Path(pool.clone_volume("vol", "s1", "clone").item.path)
    assert [stat.S_IMODE(file.stat().st_mode) for file in (path, snapshot, clone)] == [0o600, 0o400, 0o600]


def test_a_new_volume_and_a_snapshot_of_a_sparse_one_take_no_space(pool: Pool) -> None:
    path = Path(pool.create_volume("vol", 64 * MIB).item.path)
    assert path.stat().st_blocks == 0
    write(pool, "vol", b"x")
    snapshot = Path(pool.create_snapshots({"vol": "s1"})[0].item.path)
    assert snapshot.stat().st_size == 64 * MIB
    assert snapshot.stat().st_blocks * 512 <= 64 * KIB


class NearlyFull:
    """Stands in for `os.statvfs`: a filesystem without a free block while `is_full`."""

    def __init__(self, root: Path) -> None:
        self._true = os.statvfs(root)
        self.is_full = True

    def __call__(self, path: object) -> os.statvfs_result:
        fields = list(self._true)
        if self.is_full:
            fields[4] = 0  # f_bavail
        return os.statvfs_result(fields)


def test_a_snapshot_waits_for_space_that_the_filesystem_gives_back_late(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_directory_pool(root, "tank", StoppedClock(), os.urandom).item.create_volume("vol", SIZE)
    filesystem = NearlyFull(root)
    monkeypatch.setattr(os, "statvfs", filesystem)
    pool = DirectoryPool(root, StoppedClock(on_sleep=lambda: setattr(filesystem, "is_full", False)), os.urandom)

    assert pool.create_snapshots({"vol": "s1"})[0].outcome is Outcome.CREATED


def test_a_snapshot_on_a_filesystem_that_stays_full_is_refused_after_seconds(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_directory_pool(root, "tank", StoppedClock(), os.urandom).item.create_volume("vol", SIZE)
    monkeypatch.setattr(os, "statvfs", NearlyFull(root))
    clock = StoppedClock()

    with pytest.raises(OutOfSpace, match="0 are free"):
        DirectoryPool(root, clock, os.urandom).create_snapshots({"vol": "s1"})
    assert 1 < clock.seconds < 10


def test_a_discard_gives_the_space_back(pool: Pool) -> None:
    path = Path(pool.create_volume("vol", SIZE).item.path)
    write(pool, "vol", b"x" * SIZE)
    os.sync()
    with pool.open_target("vol") as target:
        target.discard(Extent(0, SIZE))
    assert path.stat().st_blocks == 0
    assert path.stat().st_size == SIZE


def test_the_pool_is_not_found_when_its_filesystem_is_no_longer_there(root: Path, pool: Pool) -> None:
    root.rename(root.with_name("elsewhere"))
    root.mkdir()
    for call in (pool.status, pool.volumes, pool.snapshots, lambda: pool.create_volume("vol", SIZE)):
        with pytest.raises(NotFound):
            call()
    assert list(root.iterdir()) == []
    create_directory_pool(root, "tank", StoppedClock(), os.urandom)
    with pytest.raises(NotFound, match="no longer"):
        pool.volumes()


def test_a_record_that_was_spoilt_is_damaged_and_names_its_file(root: Path, pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    record = root / "volumes" / "vol" / "record.json"
    for spoilt in ("", "{", "[]", "{}", '{"format": 1}', record.read_text()[:-40]):
        record.write_text(spoilt)
        with pytest.raises(Damaged, match=r"volumes/vol/record\.json"):
            pool.volumes()


def test_a_format_from_the_future_is_refused(root: Path, pool: Pool) -> None:
    marker = root / "rokctl-pool.json"
    marker.write_text(marker.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(Refused, match="format 2"):
        reopened(root)


def test_a_directory_pool_grows_with_its_filesystem_only(pool: Pool) -> None:
    with pytest.raises(Refused, match="filesystem"):
        pool.extend(size=SIZE)


def test_a_removed_pool_leaves_the_directory_and_what_others_put_there(root: Path, pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    pool.remove_volume("vol")
    (root / "notes.txt").write_text("mine")
    assert pool.remove() is Outcome.REMOVED
    assert [path.name for path in root.iterdir()] == ["notes.txt"]


def test_what_someone_put_among_the_volumes_is_never_deleted(root: Path, pool: Pool) -> None:
    (root / "volumes" / "junk").mkdir(parents=True)
    (root / "volumes" / "junk" / "diary.txt").write_text("mine")
    with pytest.raises(Refused, match="junk"):
        pool.create_volume("junk", SIZE)
    pool.create_volume("vol", SIZE)
    pool.remove_volume("vol")
    with pytest.raises(Refused):
        pool.remove()
    assert (root / "volumes" / "junk" / "diary.txt").read_text() == "mine"
    assert pool.volumes() == []
    assert transient(root) == []


def test_a_filesystem_is_recognised(pool: Pool) -> None:
    path = pool.create_volume("vol", 16 * MIB).item.path
    subprocess.run(["mkfs.ext4", "-q", "-L", "label", path], check=True)
    pool.create_snapshots({"vol": "s1"})
    found = pool.filesystem("vol", "s1")
    assert found is not None
    assert (found.type, found.label) == ("ext4", "label")
    assert found.uuid
    assert pool.filesystem("vol") == found


# Who uses a file


def test_a_writer_keeps_snapshots_out(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    pool.create_volume("other", SIZE)
    with pool.open_target("vol"), pytest.raises(Busy, match="vol"):
        pool.create_snapshots({"other": "s1", "vol": "s1"})
    assert pool.snapshots() == []


def test_a_copy_of_a_volume_that_is_written_meanwhile_is_not_kept(root: Path, pool: Pool) -> None:
    if pool.status().snapshots_by != "copy":
        pytest.skip("on this filesystem a snapshot of one volume needs no rest")
    path = pool.create_volume("vol", 32 * MIB).item.path
    write(pool, "vol", b"x" * 32 * MIB)
    is_over = threading.Event()

    def keep_writing() -> None:
        with Path(path).open("r+b") as file:
            while not is_over.wait(0.001):
                os.pwrite(file.fileno(), b"y", 0)

    writer = threading.Thread(target=keep_writing)
    writer.start()
    try:
        with pytest.raises(Busy, match="vol was written while"):
            pool.create_snapshots({"vol": "s1"})
    finally:
        is_over.set()
        writer.join()
    assert pool.snapshots() == []
    assert transient(root) == []
    assert pool.create_snapshots({"vol": "s1"})[0].outcome is Outcome.CREATED


def test_a_lock_of_another_program_shows_as_in_use(pool: Pool) -> None:
    path = pool.create_volume("vol", SIZE).item.path
    program = (  # it locks one byte with an open file description lock, as QEMU does
        "import fcntl, os, struct, sys\n"
        "file = os.open(sys.argv[1], os.O_RDWR)\n"
        "fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 100, 1, 0))\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        assert pool.volume("vol").in_use
        with pytest.raises(Busy), pool.open_target("vol"):
            pass
        with pytest.raises(Busy):
            pool.remove_volume("vol")
        other.communicate()
    assert not pool.volume("vol").in_use


def test_a_volume_or_snapshot_behind_a_loop_device_is_not_removed(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    snapshot = pool.create_snapshots({"vol": "s1"})[0].item
    attached = subprocess.run(["losetup", "-r", "-f", "--show", snapshot.path], capture_output=True, text=True)
    if attached.returncode != 0:
        pytest.skip("attaching a loop device takes root")
    device = attached.stdout.strip()
    try:
        with pytest.raises(Busy, match=device):
            pool.remove_snapshot("vol", "s1")
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
    assert pool.remove_snapshot("vol", "s1") is Outcome.REMOVED
    attached = subprocess.run(
        ["losetup", "-f", "--show", pool.volume("vol").path], capture_output=True, text=True, check=True
    )
    try:
        assert pool.volume("vol").in_use
        with pytest.raises(Busy):
            pool.remove_volume("vol")
    finally:
        subprocess.run(["losetup", "-d", attached.stdout.strip()], check=True)


def test_a_target_of_a_volume_removed_meanwhile_is_not_opened(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    late = pool.open_target("vol")
    pool.remove_volume("vol")
    pool.create_volume("vol", SIZE)
    with late as target:  # it opens the new one, whose path it is now
        target.write(0, b"new")
    assert read(pool, "vol", None, 3) == b"new"


def test_a_change_waits_for_another_and_gives_up_in_the_end(root: Path, pool: Pool) -> None:
    import fcntl

    holder = os.open(root, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    try:
        with pytest.raises(Busy, match="another"):
            pool.create_volume("vol", SIZE)
        patient = DirectoryPool(root, StoppedClock(lambda: fcntl.flock(holder, fcntl.LOCK_UN)), os.urandom)
        assert patient.create_volume("vol", SIZE).outcome is Outcome.CREATED
    finally:
        os.close(holder)


# Crashes


@dataclass(frozen=True)
class Step:
    """One change, and how the pool looks before and after it."""

    act: Callable[[Pool], object]
    look: Callable[[Pool], object]


STEPS = {
    "create_volume": Step(lambda p: p.create_volume("new", SIZE), lambda p: [(v.name, v.size) for v in p.volumes()]),
    "resize_volume": Step(lambda p: p.resize_volume("vol", 2 * SIZE), lambda p: p.volume("vol").size),
    "remove_volume": Step(lambda p: p.remove_volume("blank"), lambda p: [v.name for v in p.volumes()]),
    "clone_volume": Step(lambda p: p.clone_volume("vol", "s1", "new"), lambda p: [v.name for v in p.volumes()]),
    "mark_restoring": Step(lambda p: p.mark_restoring("vol", "v1"), lambda p: p.volume("vol").restoring),
    "create_snapshots": Step(
        lambda p: p.create_snapshots({"vol": "s2", "blank": "s2"}),
        lambda p: [(s.volume, s.name) for s in p.snapshots()],
    ),
    "remove_snapshot": Step(
        lambda p: p.remove_snapshot("vol", "s1"), lambda p: [(s.volume, s.name) for s in p.snapshots()]
    ),
    "remove_alone": Step(lambda p: p.remove_snapshot("vol", "alone"), lambda p: [s.name for s in p.snapshots()]),
}


def furnish(root: Path) -> Pool:
    pool = create_directory_pool(root, "tank", StoppedClock(), os.urandom).item
    pool.create_volume("vol", SIZE)
    write(pool, "vol", b"precious")
    pool.create_volume("other", SIZE)
    pool.create_volume("blank", SIZE)
    pool.create_snapshots({"vol": "s1", "other": "s1"})
    pool.create_snapshots({"vol": "alone"})
    return pool


def killed_at(event: int, act: Callable[[], object]) -> bool:
    """Do it in a process that dies at its `event`-th change of the filesystem. Whether it died before it was done."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = event

    def count(name: str, _args: object) -> None:
        nonlocal left
        if name in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "fcntl.ioctl"):
            left -= 1
            if left == 0:
                os._exit(9)

    try:
        sys.addaudithook(count)
        act()
        os._exit(0)
    finally:
        os._exit(1)  # it raised: not what a crash is


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_a_crash_at_any_moment_leaves_all_or_nothing(tmp_path: Path, step: Step) -> None:
    before = step.look(furnish(tmp_path / "model"))
    step.act(reopened(tmp_path / "model"))
    after = step.look(reopened(tmp_path / "model"))
    assert before != after

    event, died = 0, True
    while died:
        event += 1
        root = tmp_path / f"crash-{event}"
        pool = furnish(root)
        died = killed_at(event, lambda pool=pool: step.act(pool))

        survivor = reopened(root)
        assert step.look(survivor) in (before, after)
        assert read(survivor, "vol", None, 8) == b"precious"
        assert read(survivor, "vol", "alone" if step.look(survivor) == before else None, 8) == b"precious"
        assert died or step.look(survivor) == after
        step.act(survivor)
        assert step.look(survivor) == after
        assert transient(root) == []
    assert event > 3, "the crashes came to nothing"
