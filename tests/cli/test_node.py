"""Pools, volumes and snapshots from the command line, on a directory pool."""

import io
import json
from pathlib import Path

import pytest


@pytest.fixture
def pool(rokctl, tmp_path):
    """A directory pool `p` with a volume `v` of 1 MiB."""
    assert rokctl("pool", "create", "p", "--dir", tmp_path / "p").code == 0
    assert rokctl("volume", "create", "p/v", "--size", "1M").code == 0
    return tmp_path / "p"


def test_a_pool_is_created_once_and_is_then_already_there(rokctl, tmp_path):
    words = ("pool", "create", "p", "--dir", tmp_path / "p")
    assert rokctl(*words).out == f"pool p in {tmp_path / 'p'}: created\n"
    assert rokctl(*words).out == f"pool p in {tmp_path / 'p'}: already there\n"


def test_pool_show_says_how_snapshots_are_made_and_deltas_are_found(rokctl, pool):
    shown = rokctl("pool", "show", "p").out
    assert "snapshots by" in shown
    assert "deltas by" in shown
    record = rokctl("pool", "show", "p", "--json").records[0]
    assert record["snapshots_by"] in ("copy", "reflink")
    assert record["overcommitted"] == 0


def test_a_volume_lives_its_life(rokctl, pool):
    assert rokctl("volume", "create", "p/v", "--size", "1M").out == "volume p/v (1.00 MiB): already there\n"
    assert rokctl("volume", "resize", "p/v", "--size", "2M").out == "volume p/v (2.00 MiB): changed\n"
    assert rokctl("volume", "list", "--json").records[0]["size"] == 2 << 20
    assert rokctl("volume", "remove", "p/v", "--dry-run").out == "volume p/v (2.00 MiB): would be removed\n"
    assert rokctl("volume", "remove", "p/v").out == "volume p/v: removed\n"
    assert rokctl("volume", "remove", "p/v").out == "volume p/v: already gone\n"
    assert rokctl("volume", "list").out == ""


def test_a_volume_larger_than_the_pool_is_allowed_and_said(rokctl, pool):
    size = 2 * rokctl("pool", "show", "p", "--json").records[0]["data_size"] // 512 * 512
    ran = rokctl("volume", "create", "p/huge", "--size", size)
    assert ran.code == 0
    assert "larger than the pool" in ran.err


def test_a_snapshot_lives_its_life(rokctl, pool):
    assert rokctl("snapshot", "create", "p/v@a").out == "snapshot p/v@a: created\n"
    assert rokctl("snapshot", "create", "p/v@a").out == "snapshot p/v@a: already there\n"
    assert rokctl("snapshot", "list", "p/v").out.splitlines()[1].startswith("p/v@a ")
    assert rokctl("snapshot", "show", "p/v@a", "--json").records[0]["name"] == "a"
    assert rokctl("snapshot", "remove", "p/v@a", "--dry-run").out == "snapshot p/v@a: would be removed\n"
    assert rokctl("snapshot", "remove", "p/v@a").out == "snapshot p/v@a: removed\n"
    assert rokctl("snapshot", "remove", "p/v@a").out == "snapshot p/v@a: already gone\n"


def test_several_volumes_in_one_call_are_one_group_named_by_the_time(rokctl, pool):
    rokctl("volume", "create", "p/w", "--size", "1M")
    made = rokctl("snapshot", "create", "p/v", "p/w", "--json").records
    assert {record["volume"] for record in made} == {"v", "w"}
    assert len({record["group"] for record in made}) == 1
    assert len({record["name"] for record in made}) == 1
    assert made[0]["name"].endswith("Z")
    assert len(made[0]["name"]) == len("20261124T081500Z")


def test_a_clone_starts_from_a_snapshot(rokctl, pool):
    rokctl("snapshot", "create", "p/v@a")
    assert rokctl("volume", "clone", "p/v@a", "p/w").out == "volume p/w (1.00 MiB): created\n"
    assert rokctl("volume", "clone", "p/v@a", "p/w").out == "volume p/w (1.00 MiB): already there\n"


def test_a_file_becomes_a_volume_and_its_zeros_take_no_room(rokctl, pool, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 4096 + bytes(1 << 20) + b"y" * 4096)
    record = rokctl("volume", "import", "p/w", tmp_path / "file", "--json").records[0]
    assert record["size"] == (1 << 20) + 8192
    assert record["written"] < 1 << 20
    shown = rokctl("volume", "show", "p/w", "--json").records[0]
    assert Path(shown["path"]).read_bytes() == (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("size", [(), ("--size", "64K")], ids=["of unknown size", "of a size that was said"])
def test_what_comes_in_a_pipe_becomes_a_volume(rokctl, pool, monkeypatch, world, size):
    body = b"x" * 4096 + bytes(57344) + b"y" * 4096
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(body)))
    assert rokctl("volume", "import", "p/w", "-", *size).code == 0
    shown = rokctl("volume", "show", "p/w", "--json").records[0]
    assert Path(shown["path"]).read_bytes() == body
    assert not [*Path(world["ROKCTL_STATE_DIR"]).glob("spool/*")]


def test_a_pipe_that_ends_too_soon_makes_no_volume_that_can_be_used(rokctl, pool, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"x" * 4096)))
    assert rokctl("volume", "import", "p/w", "-", "--size", "8K").code == 1
    assert rokctl("snapshot", "create", "p/w").code == 2


def test_a_diff_counts_extents_and_bytes_and_lists_them_for_scripts(rokctl, pool):
    rokctl("snapshot", "create", "p/v@a")
    path = rokctl("volume", "show", "p/v", "--json").records[0]["path"]
    with Path(path).open("r+b") as volume:
        volume.seek(65536)
        volume.write(b"changed")
    rokctl("snapshot", "create", "p/v@b")
    assert rokctl("snapshot", "diff", "p/v@a", "p/v@b").out.startswith("changed   4.00 KiB in 1 extents")
    *extents, total = rokctl("snapshot", "diff", "p/v@a", "p/v@b", "--json").records
    changed = [extent for extent in extents if extent["kind"] == "changed"]
    assert any(extent["start"] <= 65536 < extent["start"] + extent["length"] for extent in changed)
    assert total["changed"] == sum(extent["length"] for extent in changed)
    assert total["changed_extents"] == len(changed)


def test_quiet_says_nothing_when_all_is_well(rokctl, pool):
    ran = rokctl("snapshot", "create", "p/v@a", "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_the_options_that_stand_everywhere_stand_before_and_after(rokctl, pool):
    expected = rokctl("volume", "list", "--json").out
    assert rokctl("--json", "volume", "list").out == rokctl("volume", "--json", "list").out == expected
    assert json.loads(expected)["name"] == "v"


def test_a_pool_that_is_not_mounted_is_told_and_the_others_are_listed(rokctl, pool, tmp_path):
    rokctl("pool", "create", "q", "--dir", tmp_path / "q")
    pool.rename(tmp_path / "elsewhere")
    ran = rokctl("pool", "list")
    assert ran.code == 3
    assert "pool p" in ran.err
    assert ran.out.splitlines()[1].startswith("q ")


def test_losing_the_state_directory_loses_no_pool(rokctl, pool, world):
    lost = {**world, "ROKCTL_STATE_DIR": world["ROKCTL_STATE_DIR"] + "-new"}
    from rokctl.cli import run

    assert run(["pool", "create", "p", "--dir", str(pool)], lost) == 0
    assert run(["volume", "show", "p/v"], lost) == 0


BAD = {
    "a name that leads outside": ["pool", "create", "../x", "--dir", "D"],
    "a name with a space": ["pool", "create", "a b", "--dir", "D"],
    "a volume's name that leads outside": ["volume", "create", "p/../x", "--size", "1M"],
    "a volume without a pool": ["volume", "create", "v2", "--size", "1M"],
    "a volume's name that starts with a dash": ["volume", "create", "p/-x", "--size", "1M"],
    "a size of nothing": ["volume", "create", "p/n", "--size", "0"],
    "a negative size": ["volume", "create", "p/n", "--size", "-5"],
    "half a sector": ["volume", "create", "p/n", "--size", "1000"],
    "a size in words": ["volume", "create", "p/n", "--size", "large"],
    "another size of what is there": ["volume", "create", "p/v", "--size", "2M"],
    "shrinking": ["volume", "resize", "p/v", "--size", "4K"],
    "no place for a pool": ["pool", "create", "n"],
    "two places for a pool": ["pool", "create", "n", "--dir", "D", "--vg", "v"],
    "a volume group without a size": ["pool", "create", "n", "--vg", "v"],
    "a size that means nothing": ["pool", "create", "n", "--dir", "D", "--size", "1G"],
    "a wipe that means nothing": ["pool", "create", "n", "--dir", "D", "--wipe"],
    "a pool that holds something": ["pool", "remove", "p"],
    "the same, tried out": ["pool", "remove", "p", "--dry-run"],
    "extending by nothing": ["pool", "extend", "p"],
    "a snapshot without its name": ["snapshot", "show", "p/v"],
    "a snapshot's name with a slash": ["snapshot", "create", "p/v@a/b"],
    "a volume named twice": ["snapshot", "create", "p/v", "p/v@x"],
    "volumes of two pools": ["snapshot", "create", "p/v", "q/v"],
    "a clone into another pool": ["volume", "clone", "p/v@a", "q/w"],
    "a diff of two volumes": ["snapshot", "diff", "p/v@a", "p/w@a"],
    "an import of nothing": ["volume", "import", "p/n", "/dev/null"],
    "a size for a file": ["volume", "import", "p/n", "/dev/null", "--size", "1M"],
}


@pytest.mark.slow
@pytest.mark.parametrize("words", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_with_a_sentence_and_a_hint_and_nothing_touched(rokctl, pool, words):
    before = rokctl("volume", "list", "--json").out, rokctl("pool", "list", "--json").records[0]["uuid"]
    ran = rokctl(*words)
    message, hint = ran.err.splitlines()
    assert ran.code == 2, ran.err
    assert message.startswith("rokctl: ")
    assert hint.startswith("hint: ")
    assert ran.out == ""
    after = rokctl("volume", "list", "--json").out, rokctl("pool", "list", "--json").records[0]["uuid"]
    assert after == before


@pytest.mark.parametrize(
    "words",
    [
        ["pool", "show", "q"],
        ["volume", "show", "p/w"],
        ["volume", "list", "q"],
        ["snapshot", "show", "p/v@x"],
        ["snapshot", "create", "p/w"],
        ["snapshot", "list", "p/w"],
        ["volume", "import", "p/w", "/nonexistent"],
    ],
    ids=" ".join,
)
def test_what_does_not_exist_is_10(rokctl, pool, words):
    ran = rokctl(*words)
    assert ran.code == 10, ran.err
    assert ran.err.startswith("rokctl: ")


def test_a_misspelt_name_is_answered_with_the_near_one(rokctl, pool):
    rokctl("volume", "create", "p/database", "--size", "1M")
    assert "database" in rokctl("volume", "show", "p/databse").err


def test_a_unit_file_runs_a_command_that_exists(rokctl):
    unit = (Path(__file__).parents[2] / "config" / "rokctl-push@.service").read_text(encoding="utf-8")
    [line] = [line for line in unit.splitlines() if line.startswith("ExecStart=rokctl ")]
    words = line.removeprefix("ExecStart=rokctl ").replace("%I", "fast/db").split()
    assert rokctl(*words).code == 10, "the pool does not exist, and everything before that was in order"
