"""Copying to another repository, with another passphrase, from the command line."""

from pathlib import Path

import pytest
from passphrase import PASSPHRASE

from rokctl.lock import exclusive

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture
def pushed(rokctl, tmp_path):
    """Two versions of `p/v` and one of `p/w`, by their ids; and a second repository, not encrypted either."""
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")
    assert rokctl("repo", "init", "--no-encryption").code == 0
    assert rokctl("repo", "init", "--no-encryption", "--repo", tmp_path / "other").code == 0
    ids = []
    for volume, name in (("v", "one"), ("v", "two"), ("w", "one")):
        rokctl("volume", "create", f"p/{volume}", "--size", "1M")
        path = Path(rokctl("volume", "show", f"p/{volume}", "--json").records[0]["path"])
        with path.open("r+b") as file:
            file.write(f"{volume} {name}".encode() * 1000)
        made = rokctl("snapshot", "create", f"p/{volume}@{name}", "--push", "--message", name, "--json")
        ids.append(made.records[-1]["version"])
    return ids


def versions(rokctl, repository):
    return rokctl("version", "list", "--repo", repository, "--json").records


def test_all_versions_are_copied_and_the_second_time_are_already_there(rokctl, pushed, tmp_path):
    rokctl("version", "tag", f"p/v@{pushed[0]}", "--pin")
    *records, total = rokctl("repo", "copy", "--to", tmp_path / "other", "--json").records

    assert [(r["version"], r["outcome"], r["problem"]) for r in records] == [(v, "created", "") for v in pushed]
    assert {"bucket", "object", "copied_as", "base", "size", "data", "read", "stored", "new_chunks", "seconds"} <= set(
        records[0]
    )
    assert (total["created"], total["already_there"], total["damaged"]) == (3, 0, 0)
    copies = versions(rokctl, tmp_path / "other")
    assert [copy["version"] for copy in copies] == [record["copied_as"] for record in records]
    assert [(c["bucket"], c["object"], c["message"], c["pinned"]) for c in copies] == [
        ("p", "v", "one", True),
        ("p", "v", "two", False),
        ("p", "w", "one", False),
    ]
    here = versions(rokctl, tmp_path / "repository")
    assert [copy["created"] for copy in copies] == [version["created"] for version in here]
    assert [copy["copied_from"]["version"] for copy in copies] == pushed
    assert here[0]["copied_from"] is None
    assert (
        f"copied from  {pushed[0]}"
        in rokctl("version", "show", f"p/v@{copies[0]['version']}", "--repo", tmp_path / "other").out
    )

    again = rokctl("repo", "copy", "--to", tmp_path / "other")
    assert again.code == 0
    assert again.out.count("already there") == 4
    assert rokctl("repo", "copy", "--to", tmp_path / "other", "--quiet").out == ""
    assert rokctl("repo", "check", "--read-data", "--repo", tmp_path / "other").code == 0
    assert rokctl("restore", "p/v", "--to-file", tmp_path / "v", "--repo", tmp_path / "other").code == 0
    assert (tmp_path / "v").read_bytes().startswith(b"v two" * 1000)


def test_a_bucket_an_object_or_a_version_is_copied_alone(rokctl, pushed, tmp_path):
    words = ("p/w", f"p/v@{pushed[0][:8]}")
    records = rokctl("repo", "copy", *words, "--to", tmp_path / "other", "--json").records
    assert [record["version"] for record in records[:-1]] == [pushed[0], pushed[2]]
    newest = rokctl("repo", "copy", "p/v@latest", "--to", tmp_path / "other", "--json").records
    assert [record["version"] for record in newest[:-1]] == [pushed[1]]
    assert newest[0]["base"] == records[0]["copied_as"]


def test_a_dry_run_shows_what_would_be_copied_and_copies_nothing(rokctl, pushed, tmp_path):
    rokctl("repo", "copy", "p/w", "--to", tmp_path / "other")
    ran = rokctl("repo", "copy", "--to", tmp_path / "other", "--dry-run")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["OBJECT", "p/v", "p/v", "p/w"]
    assert [line.endswith("already there") for line in ran.out.splitlines()] == [False, False, False, True]
    assert "2 of 3 versions would be copied" in ran.err
    records = rokctl("repo", "copy", "--to", tmp_path / "other", "--dry-run", "--json").records
    assert [record["would"] for record in records] == ["copy", "copy", "already there"]
    assert len(versions(rokctl, tmp_path / "other")) == 1


def test_each_repository_has_a_secret_of_its_own(rokctl, pushed, world, tmp_path):
    """The destination is encrypted, by another passphrase and a key file; the source is not."""
    (tmp_path / "second").write_text("another one\n", encoding="utf-8")
    (tmp_path / "key").write_bytes(bytes(range(32)))
    place = tmp_path / "encrypted"
    assert rokctl("repo", "init", "--repo", place, "--password-file", tmp_path / "second").code == 0
    del world["ROKCTL_PASSWORD_FILE"]
    world["ROKCTL_PASSWORD"] = "another one"  # of the source: it must not be tried on the destination

    nothing = rokctl("repo", "copy", "--to", place)
    assert nothing.code == 2
    assert "--to-password-file" in nothing.err
    assert rokctl("repo", "copy", "--to", place, "--to-key-file", tmp_path / "key").code == 14
    assert rokctl("repo", "copy", "p/w", "--to", place, "--to-password-file", tmp_path / "second").code == 0
    for variables in (
        {"ROKCTL_TO_PASSWORD": "another one"},
        {"ROKCTL_TO_PASSWORD_FILE": str(tmp_path / "second")},
        {"ROKCTL_TO_PASSWORD_COMMAND": f"cat {tmp_path / 'second'}", "PATH": "/usr/bin:/bin"},
    ):
        world.update(variables, ROKCTL_TO_REPOSITORY=str(place))
        ran = rokctl("repo", "copy", "p/w", "--json")
        assert (ran.code, ran.records[-1]["already_there"]) == (0, 1), variables
        for name in variables:
            del world[name]
    both = rokctl("repo", "copy", "--to-password-file", tmp_path / "second", "--to-key-file", tmp_path / "key")
    assert (both.code, "--to-key-file" in both.err) == (2, True)


def test_what_is_damaged_is_3_and_named_and_the_rest_is_copied(rokctl, pushed, tmp_path):
    for pack in (tmp_path / "repository").rglob(f"{pushed[2]}-*"):
        pack.unlink()
    for words in ([], ["--quiet"]):
        ran = rokctl("repo", "copy", "--to", tmp_path / "other", *words)
        assert ran.code == 3
        assert f"p/w@{pushed[2]}: damaged" in ran.out
        assert f"p/w@{pushed[2]}" in ran.err
    failed = rokctl("repo", "copy", "--to", tmp_path / "other", "--json")
    assert (failed.failure["code"], failed.records[-1]["damaged"]) == (3, 1)
    assert len(versions(rokctl, tmp_path / "other")) == 2

    manifest = next((tmp_path / "repository").rglob(f"versions/{pushed[0]}"))
    manifest.write_bytes(manifest.read_bytes()[:-1])
    unreadable = rokctl("repo", "copy", "--to", tmp_path / "other")
    assert (unreadable.code, pushed[0] in unreadable.err) == (3, True)


def test_what_cannot_be_is_refused_before_anything_is_copied(rokctl, pushed, tmp_path):
    other = tmp_path / "other"
    for words, code, said in (
        ([], 2, "--to"),
        (["--to", "ftp://host/x"], 2, "store"),
        (["--to", tmp_path / "repository"], 2, "one and the same"),
        (["--to", tmp_path / "none"], 10, f"{tmp_path}/none"),
        (["p/x", "--to", other], 10, "p/x"),
        (["x", "--to", other], 10, "bucket x"),
        (["p/v@0000", "--to", other], 10, "0000"),
        (["p/v@xyz", "--to", other], 2, "xyz"),
        (["a/b/c", "--to", other], 2, "b/c"),
        (["--compression", "0", "--to", other], 2, "compression"),
        (["--limit-upload", "0", "--to", other], 2, "limit"),
    ):
        ran = rokctl("repo", "copy", *words)
        assert (ran.code, said in ran.err) == (code, True), ran.err
        assert ran.out == ""
    assert versions(rokctl, other) == []


def test_two_copies_to_one_repository_leave_with_11_when_they_must_not_wait(rokctl, pushed, world, tmp_path):
    url = rokctl("repo", "info", "--repo", tmp_path / "other", "--json").records[0]["url"]
    with exclusive(Path(world["ROKCTL_STATE_DIR"]) / "locks", url, wait=False, talk=print):
        ran = rokctl("repo", "copy", "--to", tmp_path / "other", "--no-wait", "--json")
        assert ran.code == 11
        assert "another copy to" in ran.failure["error"]


def test_the_passphrase_of_the_source_opens_the_source(rokctl, pushed, world, tmp_path):
    place = tmp_path / "encrypted"
    assert rokctl("repo", "init", "--repo", place).code == 0
    world["ROKCTL_TO_PASSWORD"] = PASSPHRASE
    assert rokctl("repo", "copy", "--to", place).code == 0
    del world["ROKCTL_TO_PASSWORD"]
    (tmp_path / "third").mkdir()
    assert rokctl("repo", "init", "--no-encryption", "--repo", tmp_path / "third").code == 0
    back = rokctl("repo", "copy", "--repo", place, "--to", tmp_path / "third", "--json")
    assert (back.code, back.records[-1]["created"]) == (0, 3)
