"""Damage from the command line: found, mended, restored around, and gone after the next push."""

import random
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture
def node(rokctl, world):
    """A pool `p` with a volume `v` that has something in it, and a repository that is not encrypted."""
    folder = Path(world["ROKCTL_REPOSITORY"])
    rokctl("pool", "create", "p", "--dir", folder.parent / "p")
    (folder.parent / "content").write_bytes(random.Random(5).randbytes(MIB) + bytes(2 * MIB))
    assert rokctl("volume", "import", "p/v", folder.parent / "content").code == 0
    assert rokctl("repo", "init", "--no-encryption").code == 0
    return folder


@pytest.fixture
def version(rokctl, node):
    return rokctl("snapshot", "create", "p/v@one", "--push", "--json").records[-1]["version"]


def rot(folder):
    """Damage the largest blob in a folder, in its middle; gives its key."""
    path = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0xFF
    path.write_bytes(body)
    return str(path.relative_to(folder.parent))


def test_damage_is_found_saved_restored_around_and_gone_after_the_next_push(rokctl, node, version, tmp_path):
    pack = rot(node / "pack")
    assert rokctl("repo", "check").code == 0, "what is in the packs shows when they are read"

    checked = rokctl("repo", "check", "--read-data", "--json")
    assert checked.code == 13
    finding, total = checked.records[0], checked.records[-1]
    assert (finding["blob"], finding["code"]) == (pack, "record")
    assert finding["hurt"][0]["version"] == version
    assert (total["findings"], total["notes"], total["part"]) == (1, 0, "1/1")
    assert f"{pack}: record: " in rokctl("repo", "check", "--read-data=100%").out

    planned = rokctl("repo", "repair", "--read-data", "--dry-run", "--json")
    assert {line["would"] for line in planned.records[:-1]} >= {"condemned", "marked"}
    assert rokctl("version", "list", "--json").records[0]["hurt"] is False, "a dry run marks nothing"
    repaired = rokctl("repo", "repair", "--read-data", "--json")
    assert repaired.code == planned.code == 3
    assert {line["outcome"] for line in repaired.records[:-1]} >= {"condemned", "marked"}
    assert version in repaired.failure["error"]

    shown = rokctl("version", "show", "p/v", "--json").records[0]
    assert shown["hurt"] is True
    assert "lost of v" in rokctl("version", "show", "p/v").out
    assert rokctl("restore", "p/v", "--to-file", tmp_path / "back").code == 13
    assert not (tmp_path / "back").exists()
    ran = rokctl("restore", "p/v", "--to-file", tmp_path / "back", "--around-damage", "--json")
    assert ran.code == 3
    assert ran.records[0]["losses"] == shown["losses"]["v"]
    for extent in shown["losses"]["v"]:
        assert f"{extent['start']}+{extent['length']}" in ran.failure["error"]
        back = (tmp_path / "back").read_bytes()[extent["start"] :][: extent["length"]]
        assert back == bytes(extent["length"])
    stream = rokctl("restore", "p/v", "--to-file", "-", "--around-damage")
    assert stream.code == 3
    assert stream.out.encode("utf-8", "surrogateescape") == (tmp_path / "back").read_bytes()

    assert rokctl("snapshot", "push", "p/v@one", "--json").records[-1]["outcome"] == "created"
    mended = rokctl("repo", "repair")
    assert mended.code == 0
    assert "lifted" in mended.out
    assert rokctl("restore", f"p/v@{version}", "--to-file", tmp_path / "whole").code == 0
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "content").read_bytes()[
        : (tmp_path / "whole").stat().st_size
    ]
    assert "nothing to mend" in rokctl("repo", "repair").out
    assert rokctl("repo", "repair", "--quiet").out == ""


def test_what_dead_work_left_over_is_said_on_stderr_and_no_damage(rokctl, node, version):
    for path in (node / "index").rglob("*"):
        if path.is_file():
            path.unlink()
    ran = rokctl("repo", "check")
    assert (ran.code, "orphan pack" in ran.err) == (0, True)
    notes = [line for line in rokctl("repo", "check", "--json").records if "leftover" in line]
    assert {note["leftover"] for note in notes} == {"orphan pack"}
    assert "stated" in rokctl("repo", "repair", "--from-packs").out
    assert rokctl("repo", "check").err == ""


def test_a_sample_that_is_none_is_refused(rokctl, node):
    for sample in ("200%", "0%", "21/20", "half"):
        for verb in ("check", "repair"):
            ran = rokctl("repo", verb, "--read-data", sample, "--json")
            assert (ran.code, ran.out) == (2, "")
            assert "3/20" in ran.failure["hint"]


def test_a_damaged_version_is_let_go_by_its_id_alone(rokctl, node, version):
    newer = rokctl("snapshot", "create", "p/v@two", "--push", "--json").records[-1]["version"]
    manifest = next(path for path in (node / "versions").rglob(version))
    manifest.write_bytes(manifest.read_bytes()[:-1])

    repaired = rokctl("repo", "repair", "--json")
    assert repaired.code == 3
    assert [line["code"] for line in repaired.records if "code" in line] == ["manifest"]
    assert rokctl("version", "forget", "--damaged", newer).code == 2, "that one can be read"
    assert rokctl("version", "forget", "--damaged", "0" * 32).code == 10
    assert rokctl("version", "forget", "--damaged", version, "p/v").code == 2
    assert rokctl("version", "forget", "--damaged", version, "--dry-run", "--json").records == [
        {"would": "forget", "version": version}
    ]
    for outcome in ("forgotten", "already gone"):
        ran = rokctl("version", "forget", "--damaged", version, "--json")
        assert ran.records == [{"outcome": outcome, "version": version}]
    assert rokctl("repo", "check").code == 0


def test_a_lost_descriptor_comes_back_by_the_paper_copy(rokctl, world, tmp_path):
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")
    rokctl("volume", "create", "p/v", "--size", "1M")
    rokctl("repo", "init")
    rokctl("snapshot", "create", "p/v@one", "--push")
    (tmp_path / "page").write_text(rokctl("repo", "key", "export").out, encoding="utf-8")
    (tmp_path / "repository" / "repository").unlink()

    for words in (["version", "list"], ["repo", "check"], ["repo", "repair"]):
        ran = rokctl(*words, "--json")
        assert ran.code == 13
        assert "--from-paper" in ran.failure["hint"]
    assert rokctl("repo", "init").code == 2, "there is something"
    planned = rokctl("repo", "repair", "--from-paper", tmp_path / "page", "--dry-run", "--json")
    assert (planned.code, planned.records[0]["would"]) == (3, "rebuilt")
    assert rokctl("version", "list").code == 13
    assert rokctl("repo", "repair", "--from-paper", tmp_path / "page").code == 0
    assert len(rokctl("version", "list", "--json").records) == 1, "the passphrase opens it again"


def test_a_lost_descriptor_without_encryption_is_plainly_the_end(rokctl, node, version):
    (node / "repository").unlink()
    ran = rokctl("version", "list", "--json")
    assert ran.code == 13
    assert "copy of the store" in ran.failure["hint"]
