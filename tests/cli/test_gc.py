"""Collection from the command line: what people and scripts are told, and what is refused."""

import json
import random

import pytest

from engine.units import MIB

pytestmark = pytest.mark.slow


@pytest.fixture
def forgotten(rokctl, tmp_path):
    """Two versions of `p/v` of 2 MiB each, the older one forgotten."""
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")
    rokctl("repo", "init", "--no-encryption")
    rnd = random.Random(3)
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(rnd.randbytes(2 * MIB))
        rokctl("volume", "import", f"p/{name}", tmp_path / name)
        rokctl("snapshot", "create", f"p/{name}@s")
        rokctl("snapshot", "push", f"p/{name}@s", "p/v")
    old = rokctl("version", "list", "--json").records[0]["version"]
    rokctl("version", "forget", f"p/v@{old}")


def packs(tmp_path):
    return sorted(path.name for path in (tmp_path / "repository" / "pack").iterdir())


def test_a_dry_run_tells_and_changes_nothing(rokctl, forgotten, tmp_path):
    before = packs(tmp_path)
    ran = rokctl("repo", "gc", "--dry-run")
    assert ran.code == 0
    assert "would be condemned: 2.0" in ran.out
    assert packs(tmp_path) == before
    assert not (tmp_path / "repository" / "gc").exists()


def test_the_first_run_condemns_and_a_later_one_deletes(rokctl, forgotten, tmp_path):
    ran = rokctl("repo", "gc")
    assert ran.code == 0
    assert "condemned: 2.0" in ran.out
    assert "wait for a later run: their grace time ends 20" in ran.out
    before = packs(tmp_path)
    assert "grace time ends" in rokctl("repo", "gc").out
    assert packs(tmp_path) == before

    (record,) = rokctl("repo", "gc", "--grace", "0", "--json").records
    assert record["deleted_packs"] >= 1
    assert record["freed_bytes"] > 2 * MIB
    assert record["waiting"] == []
    assert len(packs(tmp_path)) < len(before)
    assert rokctl("repo", "check", "--read-data").code == 0
    assert rokctl("restore", "p/v", "--to-file", tmp_path / "back").code == 0
    assert (tmp_path / "back").read_bytes() == (tmp_path / "two").read_bytes()
    assert rokctl("repo", "gc").out.splitlines()[-1] == "nothing to collect"


def test_it_is_silent_for_cron_when_all_is_well(rokctl, forgotten):
    ran = rokctl("repo", "gc", "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--grace", "soon"), "is not a duration"),
        (("--grace", "1m"), "months differ in length"),
        (("--repack-below", "101%"), "is not a share"),
        (("--repack-below", "-1"), "is not a share"),
        (("--repack-below", "9" * 5000), "is not a share"),
        (("--grace", "99999999999d"), "is not a duration"),
        (("--grace", "-1h"), "is not a duration"),
    ],
)
def test_what_makes_no_sense_is_refused(rokctl, words, problem):
    ran = rokctl("repo", "gc", *words)
    assert ran.code == 2
    assert problem in ran.err


def test_damage_ends_it_with_13_and_nothing_is_deleted(rokctl, forgotten, tmp_path):
    (manifest,) = [p for p in (tmp_path / "repository" / "versions").iterdir() if p.stat().st_size > 16]
    manifest.write_bytes(b"rot" * 100)
    before = packs(tmp_path)
    ran = rokctl("repo", "gc", "--json")
    assert ran.code == 13
    assert "nothing was deleted" in json.loads(ran.err.splitlines()[-1])["error"]
    assert packs(tmp_path) == before


def test_a_node_that_cannot_keep_marks_collects_all_the_same(rokctl, world, forgotten, tmp_path):
    (tmp_path / "state" / "marks").write_bytes(b"")
    ran = rokctl("repo", "gc", "--grace", "0")
    assert ran.code == 0
    assert "the marks cannot be kept" in ran.err
    assert "deleted" in ran.out
