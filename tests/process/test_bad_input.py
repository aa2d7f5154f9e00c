"""Bad packs, full disks, sources that fail and repositories that may only be read, as a script meets them."""

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.units import KIB, MIB
from tests.node import Node, file_digest, overwrite, restored_digest

pytestmark = pytest.mark.slow

SIZE = 40 * MIB


@pytest.fixture
def node(scratch, rnd):
    """A node with a volume `p/v` of 40 MiB of random bytes, and a repository with nothing in it."""
    node = Node(scratch / "node", str(scratch / "repository"))
    overwrite(node.new_volume(SIZE), 0, rnd.randbytes(SIZE))
    node.do("repo", "init", "--no-encryption")
    return node


@pytest.fixture
def pushed(node):
    """The same, and `p/v` is pushed; gives the node and the version."""
    [*_, report] = node.do("snapshot", "create", "p/v@one", "--push")
    return node, report["version"]


def refused(node, code, *words):
    """A run that must fail with `code`; its error and its hint, as with --json."""
    ended = node.run(*words, "--json")
    assert ended.code == code, ended.err
    assert ended.failure["code"] == code
    assert "Traceback" not in ended.err
    return ended.failure["error"], ended.failure["hint"]


def test_a_version_that_does_not_exist_is_answered_with_the_near_ones(pushed):
    node, version = pushed
    wrong = "0" * 8 if not version.startswith("0") else "f" * 8
    assert version[:8] in refused(node, 10, "restore", f"p/v@{wrong}", "--to", "p/back")[1]
    assert "p/v" in refused(node, 10, "version", "show", "p/w")[1]
    assert [volume["name"] for volume in node.do("volume", "list")] == ["v"]


def test_a_destination_that_is_too_small_is_left_alone(pushed):
    node, _ = pushed
    node.do("volume", "create", "p/small", "--size", "1M")
    overwrite(node.path_of("small"), 0, b"mine")
    for words in ([], ["--in-place"]):
        error, hint = refused(node, 2, "restore", "p/v", "--to", "p/small", *words)
        assert "p/small" in error
        assert "resize" in hint
    assert node.path_of("small").read_bytes() == b"mine".ljust(MIB, b"\0")


def packs(node):
    return sorted(Path(node.url, "pack").iterdir(), key=lambda path: -path.stat().st_size)


def flip(pack):
    overwrite(pack, 5 * MIB, bytes([pack.read_bytes()[5 * MIB] ^ 1]))


def truncate(pack):
    os.truncate(pack, 1000)


@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink], ids=["flipped", "truncated", "deleted"])
def test_a_harmed_pack_is_13_and_names_the_version_and_the_extents(pushed, harm):
    node, version = pushed
    pack = packs(node)[0]
    pack.chmod(0o600)
    harm(pack)

    ended = node.run("repo", "check", "--read-data", "--json")

    assert (ended.code, ended.failure["code"]) == (13, 13)
    assert version in ended.failure["error"]
    *findings, total = ended.records
    assert total["findings"] == len(findings) == 1
    assert findings[0]["blob"] == f"pack/{pack.name}"
    [hurt] = findings[0]["hurt"]
    assert (hurt["version"], hurt["object"], hurt["member"]) == (version, "p/v", "v")
    lost = sum(extent["length"] for extent in hurt["extents"])
    assert 0 < lost <= (1 if harm is flip else 17) * MIB
    refused(node, 13, "restore", "p/v", "--to-file", node.home / "file")
    assert not (node.home / "file").exists()
    refused(node, 13, "restore", "p/v", "--to", "p/back")
    left = [volume["restoring"] for volume in node.do("volume", "list") if volume["name"] == "back"]
    assert left == ([version] if harm is flip else []), "what the index shows is known before anything is made"


def test_a_source_that_shrinks_ends_the_push_with_1_and_no_version_appears(node):
    [taken] = node.do("snapshot", "create", "p/v@one")
    process = node.start("snapshot", "push", "p/v@one", "--limit-read", "24M", "--json")
    while not [*Path(node.url, "pending").glob("*")]:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.3)
    os.truncate(taken["path"], SIZE // 2)
    ended = node.end(process)
    assert ended.code == 1, ended.err
    assert "shorter" in ended.failure["error"]
    assert node.do("version", "list") == []
    assert [*Path(node.url, "pending").glob("*")] == []
    assert node.run("repo", "check").code == 0


@contextmanager
def small_filesystem(place: Path, size: int):
    """A filesystem of so many bytes; the test is skipped where none may be mounted."""
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_store_that_runs_full_is_15_and_stays_whole(node, scratch):
    with small_filesystem(scratch / "small", 32 * MIB) as small:
        here = Node(node.home, str(small / "repository"))
        here.do("repo", "init", "--no-encryption")
        here.do("volume", "create", "p/little", "--size", "4M")
        overwrite(here.path_of("little"), 0, os.urandom(4 * MIB))
        here.do("snapshot", "create", "p/little@one", "--push")
        here.do("snapshot", "create", "p/v@one")

        _, hint = refused(here, 15, "snapshot", "push", "p/v@one")

        assert hint
        assert [*Path(here.url, "pending").glob("*")] == []
        assert [*Path(here.url, ".tmp").glob("*")] == []
        assert [version["object"] for version in here.do("version", "list")] == ["little"]
        assert here.run("repo", "check", "--read-data").code == 0
        subprocess.run(["mount", "-o", f"remount,size={100 * MIB}", small], check=True)
        here.do("snapshot", "push", "p/v@one")
        here.do("restore", "p/v", "--to", "p/back")
        assert file_digest(here.path_of("back")) == file_digest(here.path_of("v"))


def test_a_pool_that_runs_full_is_15_and_the_restore_is_run_again(pushed, scratch):
    node, version = pushed
    with small_filesystem(scratch / "small", 20 * MIB) as small:
        node.do("pool", "create", "q", "--dir", small / "q")
        refused(node, 15, "restore", "p/v", "--to", "q/back")
        [left] = [volume for volume in node.do("volume", "list", "q") if volume["name"] == "back"]
        assert left["restoring"] == version
        subprocess.run(["mount", "-o", f"remount,size={100 * MIB}", small], check=True)
        node.do("restore", "p/v", "--to", "q/back")
        assert file_digest(Path(left["path"])) == file_digest(node.path_of("v"))


def unprivileged() -> tuple[str, ...]:
    """What starts a program so that file modes bind it, also when root runs the tests."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root without setpriv: file modes bind nobody")
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", "--")


def test_a_repository_that_may_only_be_read_is_listed_checked_and_restored_from(pushed):
    node, version = pushed
    everything = [Path(node.url), *Path(node.url).rglob("*")]
    for path in everything:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        as_reader = unprivileged()
        for words in (["version", "list"], ["repo", "info"], ["repo", "check", "--read-data"]):
            assert node.run(*words, prefix=as_reader).code == 0
        assert node.run("restore", "p/v", "--to", "p/back", prefix=as_reader).code == 0
        assert file_digest(node.path_of("back")) == file_digest(node.path_of("v"))
        node.do("snapshot", "create", "p/v@two")
        ended = node.run("snapshot", "push", "p/v@two", "--full", prefix=as_reader)
        assert (ended.code, "hint: " in ended.err) == (2, True), ended.err
    finally:
        for path in everything:
            path.chmod(0o700 if path.is_dir() else 0o600)
    assert [one["version"] for one in node.do("version", "list")] == [version]


@pytest.fixture
def with_dead_packs(scratch, rnd):
    """Gives what makes a node whose repository at a place holds two versions, the older one forgotten but half of the newer."""

    def make(place):
        node = Node(scratch / "collecting", str(place))
        volume = node.new_volume(12 * MIB)
        overwrite(volume, 0, rnd.randbytes(12 * MIB))
        node.do("repo", "init", "--no-encryption")
        [*_, old] = node.do("snapshot", "create", "p/v@old", "--push")
        overwrite(volume, 0, rnd.randbytes(7 * MIB))
        node.do("snapshot", "create", "p/v@new", "--push")
        node.do("version", "forget", f"p/v@{old['version']}")
        return node

    return make


def whole(node):
    """Nothing is damaged, and the version that is left restores to what the volume holds."""
    assert node.run("repo", "check", "--read-data").code == 0
    with node.repository() as repository:
        [manifest] = repository.versions()
        assert restored_digest(repository, manifest) == file_digest(node.path_of("v"))


def test_a_collection_of_what_may_only_be_read_is_2_and_touches_nothing(with_dead_packs, scratch):
    node = with_dead_packs(scratch / "repository")
    everything = [Path(node.url), *Path(node.url).rglob("*")]
    for path in everything:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        as_reader = unprivileged()
        ended = node.run("repo", "gc", "--grace", "0", "--json", prefix=as_reader)
    finally:
        for path in everything:
            path.chmod(0o700 if path.is_dir() else 0o600)
    assert ended.code == 2, ended.err
    assert ended.failure["hint"]
    assert {Path(node.url), *Path(node.url).rglob("*")} == {*everything}
    whole(node)


def test_a_store_that_runs_full_during_a_collection_is_15_and_loses_nothing(with_dead_packs, scratch):
    with small_filesystem(scratch / "small", 40 * MIB) as small:
        node = with_dead_packs(small / "repository")
        node.do("repo", "gc")  # condemns
        left = os.statvfs(small)
        (small / "filler").write_bytes(bytes(left.f_bavail * left.f_frsize - 64 * KIB))

        _, hint = refused(node, 15, "repo", "gc", "--grace", "0")

        assert hint
        assert [*Path(node.url, ".tmp").glob("*")] == []
        whole(node)
        (small / "filler").unlink()
        node.do("repo", "gc", "--grace", "0")
        [report] = node.do("repo", "gc", "--grace", "0")
        assert (report["waiting"], report["condemned_packs"]) == ([], 0)
        whole(node)


def test_several_collections_and_checks_at_once_lose_nothing_and_find_nothing(with_dead_packs, scratch):
    node = with_dead_packs(scratch / "repository")
    collecting = [node.start("repo", "gc", "--grace", "0") for _ in range(3)]
    checking = [node.start("repo", "check") for _ in range(2)]
    for process in [*collecting, *checking]:
        ended = node.end(process)
        assert ended.code == 0, ended.err
    whole(node)
    for _ in range(2):
        [report] = node.do("repo", "gc", "--grace", "0")
    assert (report["waiting"], report["condemned_packs"]) == ([], 0)
    whole(node)
