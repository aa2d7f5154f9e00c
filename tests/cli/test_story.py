"""The whole story from the command line: pool, volume, snapshots, pushes, versions, restores, check; and what may go wrong."""

import hashlib
import random
from pathlib import Path

import pytest
from passphrase import PASSPHRASE

from engine.store.retry import Patience
from rokctl.lock import exclusive

pytestmark = pytest.mark.slow

MIB = 1 << 20


def fill(path: str, offset: int, size: int, seed: int) -> None:
    with Path(path).open("r+b") as volume:
        volume.seek(offset)
        volume.write(random.Random(seed).randbytes(size))


def digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def node(rokctl, tmp_path):
    """A pool `p` with a volume `v` of 8 MiB that holds 2 MiB, and a new repository. Gives the path of the volume."""
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")
    rokctl("volume", "create", "p/v", "--size", "8M")
    path = rokctl("volume", "show", "p/v", "--json").records[0]["path"]
    fill(path, MIB, 2 * MIB, seed=1)
    assert rokctl("repo", "init", "--no-encryption").code == 0  # the key of a passphrase is dear, on purpose
    return path


@pytest.fixture
def encrypted(node, rokctl, world, tmp_path):
    """The same, and the repository is an encrypted one."""
    world["ROKCTL_REPOSITORY"] = str(tmp_path / "encrypted")
    made = rokctl("repo", "init")
    assert made.code == 0, made.err
    return node


@pytest.mark.slow
def test_the_whole_story(rokctl, encrypted, tmp_path):
    node = encrypted
    before = digest(node)
    [taken, first] = rokctl("snapshot", "create", "p/v@one", "--push", "--json").records
    assert taken["outcome"] == first["outcome"] == "created"
    assert (first["bucket"], first["object"], first["base"], first["size"]) == ("p", "v", None, 8 * MIB)
    assert 2 * MIB <= first["data"] <= first["read"]

    fill(node, 5 * MIB, 8192, seed=2)
    rokctl("snapshot", "create", "p/v@two")
    [second] = rokctl("snapshot", "push", "p/v@two", "--label", "kind=test", "--message", "after", "--json").records
    assert second["base"] == first["version"]
    assert 8192 <= second["stored"] < 100_000

    versions = rokctl("version", "list", "--json").records
    assert [version["version"] for version in versions] == [first["version"], second["version"]]
    assert rokctl("version", "list", "p/v", "--label", "kind=test", "--json").records == versions[1:]
    shown = rokctl("version", "show", f"p/v@{first['version'][:8]}").out
    assert first["version"] in shown
    assert "p/v@one" in shown

    restored = rokctl("restore", f"p/v@{first['version']}", "--to", "p/back", "--json")
    assert restored.code == 0, restored.err
    assert restored.records[0]["outcome"] == "created"
    assert digest(rokctl("volume", "show", "p/back", "--json").records[0]["path"]) == before
    assert rokctl("restore", "p/v", "--to-file", tmp_path / "file").code == 0
    assert digest(tmp_path / "file") == digest(node)

    checked = rokctl("repo", "check", "--read-data", "--json")
    assert (checked.code, checked.records[-1]["findings"], checked.records[-1]["versions"]) == (0, 0, 2)
    assert rokctl("repo", "info", "--json").records[0]["versions"] == 2


def test_a_push_ends_with_the_object_that_scripts_rely_on(rokctl, node):
    record = rokctl("snapshot", "create", "p/v", "--push", "--json").records[-1]
    promised = [
        "bucket",
        "object",
        "version",
        "base",
        "size",
        "data",
        "read",
        "stored",
        "chunks",
        "new_chunks",
        "seconds",
    ]
    assert [name for name in record if name in promised] == promised
    numbers = ("size", "data", "read", "stored", "chunks", "new_chunks")
    assert all(type(record[name]) is int for name in numbers)


def test_a_push_of_what_was_pushed_is_already_there(rokctl, node):
    rokctl("snapshot", "create", "p/v@one", "--push")
    again = rokctl("snapshot", "push", "p/v@one", "--json").records[0]
    assert (again["outcome"], again["stored"]) == ("already there", 0)


def test_a_group_is_one_version_with_its_members(rokctl, node, tmp_path):
    rokctl("volume", "create", "p/w", "--size", "1M")
    record = rokctl("snapshot", "create", "p/w@g", "p/v@g", "--push", "--json").records[-1]
    assert (record["bucket"], record["object"]) == ("p", "v+w")
    several = rokctl("restore", "p/v+w", "--to", "p/back")
    assert several.code == 2
    assert "--member" in several.err
    assert rokctl("restore", "p/v+w", "--member", "v", "--to-file", tmp_path / "v").code == 0
    assert digest(tmp_path / "v") == digest(node)


@pytest.mark.parametrize("name", ["production/db", "продукция/база", "実験/モデル", "🐴/🥕🥕", "a b/c d"])
def test_names_in_any_script_come_back_as_they_were(rokctl, node, tmp_path, name):
    rokctl("snapshot", "create", "p/v@one")
    assert rokctl("snapshot", "push", "p/v@one", name).code == 0
    assert name in rokctl("version", "list").out
    bucket = name.partition("/")[0]
    [record] = rokctl("version", "list", bucket, "--json").records
    assert f"{record['bucket']}/{record['object']}" == name
    assert rokctl("restore", name, "--to-file", tmp_path / "file").code == 0


def test_push_may_stand_alone_with_a_bucket_or_with_an_object(rokctl, node):
    def pushed(*words):
        record = rokctl("snapshot", "create", *words, "--json").records[-1]
        return f"{record['bucket']}/{record['object']}"

    assert pushed("p/v@a", "--push") == "p/v"
    assert pushed("p/v@b", "--push", "--label", "x=y") == "p/v"
    assert pushed("p/v@c", "--push", "other") == "other/v"
    assert pushed("--push=other/name", "p/v@d") == "other/name"


def test_the_configuration_names_repository_bucket_and_labels(rokctl, node, world, tmp_path):
    url = world.pop("ROKCTL_REPOSITORY")
    (tmp_path / "config.yaml").write_text(
        f"repository: {{url: '{url}', password_file: passphrase}}\npush: {{bucket: b, labels: {{site: berlin}}}}\n",
        encoding="utf-8",
    )
    words = ("snapshot", "create", "p/v", "--push", "--json", "--config", tmp_path / "config.yaml")
    assert rokctl(*words).records[-1]["bucket"] == "b"
    assert rokctl("version", "list", "--repo", url, "--label", "site=berlin", "--json").records[0]["object"] == "v"


def test_standard_output_holds_the_volume_and_nothing_else(rokctl, node):
    rokctl("snapshot", "create", "p/v", "--push")
    ran = rokctl("restore", "p/v", "--to-file", "-")
    assert ran.code == 0
    assert ran.out.encode("utf-8", "surrogateescape") == Path(node).read_bytes()


def test_an_existing_volume_is_overwritten_only_when_it_is_said(rokctl, node):
    rokctl("snapshot", "create", "p/v@one", "--push")
    before = digest(node)
    fill(node, 5 * MIB, 8192, seed=3)
    refused = rokctl("restore", "p/v", "--to", "p/v")
    assert refused.code == 2
    assert "--in-place" in refused.err
    assert digest(node) != before
    assert rokctl("restore", "p/v", "--to", "p/v", "--in-place").code == 0
    assert digest(node) == before


def test_damage_is_13_and_names_the_versions_and_their_extents(rokctl, node, tmp_path):
    version = rokctl("snapshot", "create", "p/v", "--push", "--json").records[-1]["version"]
    packs = [path for path in (tmp_path / "repository").rglob("*") if path.is_file() and path.stat().st_size > MIB]
    with packs[0].open("r+b") as pack:
        pack.seek(MIB)
        pack.write(b"flipped")
    ran = rokctl("repo", "check", "--read-data", "--json")
    assert ran.code == ran.failure["code"] == 13
    assert version in ran.failure["error"]
    hurt = ran.records[0]["hurt"][0]
    assert (hurt["version"], hurt["object"]) == (version, "p/v")
    assert hurt["extents"][0]["length"] > 0
    assert f"p/v@{version}" in rokctl("repo", "check", "--read-data").out
    assert rokctl("restore", "p/v", "--to", "p/back").code == 13


def test_two_pushes_to_one_object_at_once_leave_with_11_when_they_must_not_wait(rokctl, node, world):
    rokctl("snapshot", "create", "p/v@one")
    url = rokctl("repo", "info", "--json").records[0]["url"]
    locks = Path(world["ROKCTL_STATE_DIR"]) / "locks"
    with exclusive(locks, f"p/v in {url}", wait=False, talk=print):
        ran = rokctl("snapshot", "create", "p/v@two", "--push", "--no-wait", "--json")
        assert (ran.code, ran.failure["remedy"]) == (11, "wait")
        assert len(rokctl("snapshot", "list", "--json").records) == 1, "nothing was touched"
        assert rokctl("snapshot", "push", "p/v@one", "other/object", "--no-wait").code == 0
    assert rokctl("snapshot", "push", "p/v@one", "--no-wait").code == 0


def test_without_encryption_no_passphrase_is_asked_for(rokctl, node, world):
    del world["ROKCTL_PASSWORD_FILE"]
    assert rokctl("snapshot", "create", "p/v", "--push").code == 0
    assert rokctl("version", "list", "--json").records[0]["object"] == "v"


def test_a_wrong_passphrase_is_14(rokctl, encrypted, world):
    del world["ROKCTL_PASSWORD_FILE"]
    world["ROKCTL_PASSWORD"] = "wrong"
    ran = rokctl("version", "list", "--json")
    assert (ran.code, ran.failure["code"]) == (14, 14)
    world["ROKCTL_PASSWORD"] = PASSPHRASE
    assert rokctl("version", "list").code == 0


def test_a_version_that_does_not_exist_is_10_with_near_names(rokctl, node):
    rokctl("snapshot", "create", "p/v", "--push", "production/database")
    ran = rokctl("restore", "production/databse", "--to", "p/back")
    assert ran.code == 10
    assert "production/database" in ran.err
    assert rokctl("restore", "production/database@00000000", "--to", "p/back").code == 10
    assert rokctl("version", "show", "production/database@xyz").code == 2
    assert "back" not in rokctl("volume", "list").out


def test_a_repository_that_is_not_there_is_10_and_is_not_made(rokctl, node, tmp_path):
    assert rokctl("version", "list", "--repo", tmp_path / "none").code == 10
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    ran = rokctl("version", "list", "--repo", tmp_path / "empty")
    assert ran.code == 10
    assert "repo init" in ran.err


@pytest.mark.parametrize(
    "url",
    ["s3://", "ftp://host/x", "s3://bucket?colour=red", "s3://key:secret@bucket/x", "gs://bucket/x", "s3://b/../x"],
)
def test_a_url_that_is_none_is_2_and_shows_no_secret(rokctl, node, url):
    ran = rokctl("version", "list", "--repo", url)
    assert ran.code == 2, ran.err
    assert "secret" not in ran.err


def test_a_store_that_does_not_answer_is_12(rokctl, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")  # boto3 reads the process's own
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setattr("engine.store.retry.FIRST_CONTACT", Patience(attempts=2, first_pause_seconds=0.01))
    for words in (["version", "list"], ["repo", "gc"], ["repo", "check"]):
        ran = rokctl(*words, "--repo", "s3://bucket/x?endpoint=http://127.0.0.1:9")
        assert ran.code == 12, ran.err
        assert "hint: " in ran.err


def test_no_repository_at_all_is_2_and_says_how_to_name_one(rokctl, node, world):
    del world["ROKCTL_REPOSITORY"]
    ran = rokctl("version", "list")
    assert ran.code == 2
    assert "--repo" in ran.err


def test_a_second_init_is_refused_and_leaves_the_first_alone(rokctl, node, tmp_path):
    ran = rokctl("repo", "init")
    assert ran.code == 2
    assert rokctl("version", "list").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["snapshot", "push", "p/v@one", "a/b/c"],
        ["snapshot", "push", "p/v@one", ".."],
        ["snapshot", "push", "a/b"],
        ["snapshot", "push", "p/v@one", "--label", "novalue"],
        ["snapshot", "push", "p/v@one", "--compression", "99"],
        ["snapshot", "push", "p/v@one", "--limit-read", "0"],
        ["snapshot", "push", "p/v@one", "--limit-upload", "fast"],
        ["restore", "p/v"],
        ["restore", "p/v", "--to", "p/a", "--to-file", "b"],
        ["restore", "p/v", "--to-file", "b", "--in-place"],
        ["restore", "v", "--to", "p/a"],
        ["version", "list", "a/b/c"],
    ],
    ids=" ".join,
)
def test_bad_input_is_refused_before_anything_is_touched(rokctl, node, words):
    rokctl("snapshot", "create", "p/v@one")
    ran = rokctl(*words)
    assert ran.code == 2, ran.err
    assert ran.err.startswith("rokctl: ")
    assert "hint: " in ran.err
    assert rokctl("version", "list").out == ""
    assert len(rokctl("volume", "list", "--json").records) == 1


def test_what_a_version_says_cannot_drive_the_terminal(rokctl, node):
    rokctl("snapshot", "create", "p/v", "--push", "--message", "\x1b[31mred\x07")
    assert "\x1b" not in rokctl("version", "show", "p/v").out


def test_a_limit_slows_a_push_down(rokctl, node):
    record = rokctl("snapshot", "create", "p/v", "--push", "--limit-read", "2M/s", "--json").records[-1]
    assert record["seconds"] > 0.5
