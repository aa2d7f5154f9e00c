"""A store in which someone has left what no program writes: blobs of any size, and what a holder of the key made up."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from blake3 import blake3

from engine.repo.manifest import seal_manifest
from engine.repo.pack import ChunkId, PackBuilder, PackKind, PackName
from engine.units import GIB, MIB
from tests.node import Node, file_digest, overwrite, restored_digest

pytestmark = pytest.mark.slow

IN_LITTLE_MEMORY = ("prlimit", f"--as={3 * GIB}")  # threads alone take most of a gigabyte of addresses
HUGE = 4 * GIB


@pytest.fixture
def node(scratch, rnd):
    """A node with one version of `p/v`."""
    node = Node(scratch / "node", str(scratch / "repository"))
    overwrite(node.new_volume(2 * MIB), 0, rnd.randbytes(2 * MIB))
    node.do("repo", "init", "--no-encryption")
    node.do("snapshot", "create", "p/v@one", "--push")
    return node


def make_huge(path):
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(HUGE)


def test_huge_blobs_are_findings_and_the_rest_goes_on(node):
    huge = [
        f"index/{os.urandom(16).hex()}",
        f"pack/{os.urandom(16).hex()}-00000000",
        f"versions/{os.urandom(16).hex()}",
    ]
    for key in huge:
        make_huge(Path(node.url, key))

    ended = node.run("repo", "check", "--read-data", "--json", prefix=IN_LITTLE_MEMORY)

    assert ended.code == 13, ended.err
    assert [one["blob"] for one in ended.records if "hurt" in one] == huge
    for words in (["version", "list"], ["restore", "p/v", "--to-file", node.home / "back"]):
        assert node.run(*words, prefix=IN_LITTLE_MEMORY).code == 0
    assert file_digest(node.home / "back") == file_digest(node.path_of("v"))


def test_huge_tags_and_records_and_a_huge_descriptor_are_refused(node):
    [version] = [one["version"] for one in node.do("version", "list")]
    make_huge(Path(node.url, "tags", version))
    assert node.run("version", "tag", "p/v", "--add", "x", prefix=IN_LITTLE_MEMORY).code == 13
    assert node.run("version", "tag", "p/v", "--unpin", prefix=IN_LITTLE_MEMORY).code == 0
    make_huge(Path(node.url, "gc", os.urandom(16).hex()))
    assert node.run("snapshot", "create", "p/v@two", "--push", prefix=IN_LITTLE_MEMORY).code == 13
    make_huge(Path(node.url, "repository"))
    assert node.run("version", "list", prefix=IN_LITTLE_MEMORY).code == 13


def test_a_version_whose_maps_are_none_is_found_named_and_not_restored(node):
    with node.repository() as repository:
        [good] = repository.versions()
        nonsense = b"RMAP, and what follows is no map"
        reference = ChunkId(blake3(nonsense, key=repository.keyring.subkey("map id")).digest())
        name = PackName(os.urandom(16).hex(), 0)
        pack = PackBuilder(name, PackKind.MAPS, bytearray(4096), repository.keyring, os.urandom)
        pack.add(reference, nonsense, raw=True, blocks=0)
        repository.store.create(name.key, pack.finish())
        bad = replace(
            good,
            version=os.urandom(16).hex(),
            created=datetime.now(UTC),
            members=(replace(good.members[0], root=bytes(reference[:16])),),
        )
        blob = seal_manifest(bad, repository.keyring, os.urandom)
        repository.store.create(f"versions/{bad.version}", blob)

    ended = node.run("repo", "check", "--json")

    assert ended.code == 13, ended.err
    assert [hurt["version"] for one in ended.records for hurt in one.get("hurt", ())] == [bad.version]
    assert node.run("version", "verify", f"p/v@{bad.version}").code == 13
    assert node.run("restore", f"p/v@{bad.version}", "--to-file", node.home / "back").code == 13
    assert not (node.home / "back").exists()
    assert node.run("version", "verify", f"p/v@{good.version}").code == 0
    with node.repository() as repository:
        assert restored_digest(repository, good) == file_digest(node.path_of("v"))
