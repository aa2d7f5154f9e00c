"""The whole way on a real kernel: mounted filesystems in thin volumes, pushed by deltas, and brought back."""

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lvm_fixture import GROUP, lvm

from engine.clock import SystemClock
from engine.device.base import Outcome
from engine.device.lvm import LvmPool
from engine.errors import Busy
from engine.repo.repository import Repository
from engine.store.directory import DirectoryStore
from engine.units import KIB, MIB
from tests.repositories import content, findings, new_repository, push_snapshots, restore, snapshot

SIZE = 96 * MIB


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    store = DirectoryStore(tmp_path / "repository", create=True)
    return new_repository(store, clock=SystemClock())


@contextmanager
def mounted(pool: LvmPool, volume: str, folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    run("mount", pool.volume(volume).path, str(folder))
    try:
        yield folder
    finally:
        run("umount", str(folder))


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"


def fill(folder: Path, chance: random.Random, names: str) -> None:
    for name in names:
        (folder / name).write_bytes(chance.randbytes(chance.randrange(1000, 900_000)))


@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_a_mounted_filesystem_is_pushed_by_its_delta_and_comes_back(
    pool: LvmPool, repository: Repository, tmp_path: Path, filesystem: str
) -> None:
    chance, size = random.Random(filesystem), SIZE if filesystem == "ext4" else 304 * MIB
    pool.create_volume("files", size)
    # ext4 would go on writing inode tables in the background, into whichever delta that falls.
    options = ["-E", "lazy_itable_init=0,lazy_journal_init=0"] if filesystem == "ext4" else []
    run(f"mkfs.{filesystem}", "-q", *options, pool.volume("files").path)
    with mounted(pool, "files", tmp_path / "mounted") as folder:
        fill(folder, chance, "abcdefghijklmnopqrstuvwxyz")
        first = push_snapshots(repository, snapshot(pool, "one", "files"))
        fill(folder, chance, "xyz")
        (folder / "a").unlink()
        second = push_snapshots(repository, snapshot(pool, "two", "files"))

    assert second.base == first.version
    assert second.read < first.read / 2, "an incremental push reads near what changed"
    (before, after) = repository.versions()
    assert (before.members[0].filesystem_type, before.members[0].frozen) == (filesystem, True)
    full = push_snapshots(repository, [(pool, pool.snapshot("files", "two"))], full=True)
    assert full.new_chunks == 0
    assert repository.versions()[-1].members[0].root == after.members[0].root
    assert findings(repository) == ()

    restore(repository, after, pool, "copy")
    assert content(pool, "copy") == content(pool, "files", "two")
    pool.remove_volume("copy")

    report = restore(repository, before, pool, "files", in_place=True)
    assert report.base == "two"
    assert report.written < size / 4
    assert content(pool, "files") == content(pool, "files", "one")
    with mounted(pool, "files", tmp_path / "mounted") as folder:  # which replays the journal
        assert (folder / "a").stat().st_size > 0
    check = ["e2fsck", "-f", "-n"] if filesystem == "ext4" else ["xfs_repair", "-n"]
    run(*check, pool.volume("files").path)


def test_what_was_discarded_travels_as_a_hole_and_gives_its_space_back(pool: LvmPool, repository: Repository) -> None:
    chance = random.Random(1)
    pool.create_volume("raw", SIZE)
    with pool.open_target("raw") as target:
        target.write(0, chance.randbytes(32 * MIB))
    push_snapshots(repository, snapshot(pool, "one", "raw"))
    run("blkdiscard", "--offset", str(2 * MIB), "--length", str(4 * MIB), pool.volume("raw").path)
    report = push_snapshots(repository, snapshot(pool, "two", "raw"))

    # Only what lies beside the hole is cut anew; in random bytes it can take a while until the cuts meet the old ones.
    assert report.read < 6 * MIB
    assert report.data == 28 * MIB
    restore(repository, repository.versions()[-1], pool, "copy")
    assert content(pool, "copy") == content(pool, "raw", "two")
    used = pool.volume("copy").used
    assert used is not None
    assert used <= 28 * MIB + 128 * KIB


def test_a_mounted_volume_is_not_restored_over(pool: LvmPool, repository: Repository, tmp_path: Path) -> None:
    pool.create_volume("files", SIZE)
    run("mkfs.ext4", "-q", pool.volume("files").path)
    push_snapshots(repository, snapshot(pool, "one", "files"))
    with mounted(pool, "files", tmp_path / "mounted"), pytest.raises(Busy):
        restore(repository, repository.versions()[0], pool, "files", in_place=True)
    assert pool.volume("files").restoring is None


def test_the_command_line_finds_the_pool_and_tells_the_story(
    pool: LvmPool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from rokctl.cli import run as rokctl

    (tmp_path / "passphrase").write_text("secret\n")
    environment = {
        "HOME": str(tmp_path),
        "ROKCTL_STATE_DIR": str(tmp_path / "state"),
        "ROKCTL_REPOSITORY": str(tmp_path / "cli-repository"),
        "ROKCTL_PASSWORD_FILE": str(tmp_path / "passphrase"),
    }

    def said(*words: str) -> list[dict[str, object]]:
        code = rokctl([*words, "--json"], environment)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return [json.loads(line) for line in captured.out.splitlines()]

    lvm("lvcreate", "-q", "-V", "32M", "-T", f"{GROUP}/{pool.status().location.split('/')[1]}", "-n", "by-hand")
    said("repo", "init")
    said("volume", "create", "tank/a", "--size", "32M")
    said("volume", "create", "tank/b", "--size", "32M")
    with pool.open_target("a") as target:
        target.write(0, random.Random(2).randbytes(MIB))
    pushed = said("snapshot", "create", "tank/a@s", "tank/b@s", "--push", "bucket/group")
    assert pushed[-1]["outcome"] == Outcome.CREATED.value
    assert pushed[-1]["data"] == MIB
    assert {volume["name"]: volume["foreign"] for volume in said("volume", "list")} == {
        "a": False,
        "b": False,
        "by-hand": True,
    }
    restored = said("restore", "bucket/group", "--member", "a", "--to", "tank/c")
    assert restored[-1]["written"] == MIB
    assert content(pool, "c") == content(pool, "a", "s")
    lvm("lvremove", "-q", "-y", f"{GROUP}/by-hand")
