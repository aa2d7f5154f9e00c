"""The whole story over a real S3 server, and what goes wrong there: keys, buckets, servers, and two nodes at once."""

import socket
import time

import pytest

from engine.units import KIB, MIB
from tests.node import Node, file_digest, overwrite, restored_digest
from tests.servers import ServerMissing, start_rclone

pytestmark = [pytest.mark.slow, pytest.mark.s3]


@pytest.fixture
def node(scratch, s3_place, s3_environment):
    return Node(scratch / "node", s3_place, s3_environment)


def test_a_volume_goes_to_s3_and_comes_back(node, rnd):
    volume = node.new_volume(40 * MIB)
    overwrite(volume, 0, rnd.randbytes(20 * MIB))
    before = file_digest(volume)
    [made] = node.do("repo", "init")
    assert made["encrypted"]
    *_, first = node.do("snapshot", "create", "p/v@one", "--push")
    overwrite(volume, 30 * MIB, rnd.randbytes(64 * KIB))
    *_, second = node.do("snapshot", "create", "p/v@two", "--push")
    assert (first["base"], second["base"]) == (None, first["version"])
    assert first["stored"] > 20 * MIB
    assert 64 * KIB < second["stored"] < 200 * KIB, "only the change travels"
    assert second["new_chunks"] < first["new_chunks"]

    assert [version["version"] for version in node.do("version", "list")] == [first["version"], second["version"]]
    node.do("restore", f"p/v@{first['version']}", "--to", "p/back")
    assert file_digest(node.path_of("back")) == before
    node.do("restore", "p/v", "--to-file", node.home / "file")
    assert file_digest(node.home / "file") == file_digest(volume)
    *_, checked = node.do("repo", "check", "--read-data")
    assert (checked["versions"], checked["findings"]) == (2, 0)
    assert checked["bytes_read"] > 20 * MIB


def test_a_second_init_is_refused(node):
    node.do("repo", "init")
    again = node.run("repo", "init", "--json")
    assert again.code == 2
    assert "already" in again.failure["error"]
    assert node.do("version", "list") == []


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_one_sentence_that_shows_no_key(node, wrong):
    node.do("repo", "init")
    node.environment[wrong] = "wr0ng-key-of-someone"
    for words in (["version", "list"], ["repo", "init"]):
        ended = node.run(*words)
        assert (ended.code, ended.out) == (2, "")
        message, hint = ended.err.splitlines()
        assert message.startswith("rokctl: cannot ")
        assert "credentials" in hint
        assert not any(key in ended.err for key in ("wr0ng", node.environment["AWS_ACCESS_KEY_ID"], "not-a-secret"))


def test_a_bucket_that_is_missing_is_10_and_is_not_made(node, seaweedfs):
    for words in (["repo", "init"], ["version", "list"]):
        ended = node.run(*words, "--repo", f"s3://no-such-bucket/x?endpoint={seaweedfs.endpoint}", "--json")
        assert (ended.code, "no-such-bucket" in ended.failure["error"]) == (10, True), ended.err


def test_a_server_that_is_not_there_is_12_within_seconds(node):
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        begun = time.monotonic()
        ended = node.run(
            "version", "list", "--repo", f"s3://bucket/x?endpoint=http://127.0.0.1:{bound.getsockname()[1]}"
        )
    assert ended.code == 12, ended.err
    assert len(ended.err.splitlines()) == 2
    assert time.monotonic() - begun < 20


def test_two_nodes_push_at_once_to_one_object_and_both_commit(scratch, s3_place, s3_environment, rnd):
    shared = rnd.randbytes(24 * MIB)
    nodes = [Node(scratch / name, s3_place, s3_environment) for name in ("one", "two")]
    nodes[0].do("repo", "init", "--no-encryption")
    for node in nodes:
        volume = node.new_volume(32 * MIB)
        overwrite(volume, 0, shared)
        overwrite(volume, 24 * MIB, rnd.randbytes(4 * MIB))

    pushing = [node.start("snapshot", "create", "p/v@one", "--push", "b/o", "--json") for node in nodes]
    ended = [node.end(process) for node, process in zip(nodes, pushing, strict=True)]

    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    wanted = {
        one.records[-1]["version"]: file_digest(node.path_of("v")) for node, one in zip(nodes, ended, strict=True)
    }
    with nodes[0].repository() as repository:
        assert {m.version: restored_digest(repository, m) for m in repository.versions("b", "o")} == wanted
    assert nodes[1].do("repo", "check", "--read-data")[-1]["findings"] == 0
    overwrite(nodes[1].path_of("v"), 0, b"changed")
    [_, third] = nodes[1].do("snapshot", "create", "p/v@two", "--push", "b/o")
    assert third["base"] == ended[1].records[-1]["version"], "each goes on from its own"


def test_a_server_that_ignores_create_if_absent_is_refused_in_plain_words(scratch):
    try:
        server = start_rclone(scratch / "served")
    except ServerMissing as missing:
        pytest.skip(str(missing))
    try:
        node = Node(scratch / "node", f"s3://bucket/x?endpoint={server.endpoint}", server.environment)
        ended = node.run("repo", "init", "--json")
    finally:
        server.stop()
    assert ended.code == 2, ended.err
    assert "ignores create-if-absent" in ended.failure["error"]
    assert "two nodes" in ended.failure["hint"]
    assert [path.name for path in (scratch / "served").rglob("*") if path.is_file()] == [], "nothing is left there"
