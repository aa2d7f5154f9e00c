"""Space and growth from the command line."""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def pushed(rokctl, tmp_path):
    """`p/v` and `q/v` of 100 KB each that are equal, and `p/w` of its own."""
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")
    assert rokctl("repo", "init", "--no-encryption").code == 0
    for volume in ("v", "w"):
        rokctl("volume", "create", f"p/{volume}", "--size", "1M")
        path = Path(rokctl("volume", "show", f"p/{volume}", "--json").records[0]["path"])
        with path.open("r+b") as file:
            file.write(os.urandom(100_000))
    for snapshot, destination in (("p/v@one", "p/v"), ("p/v@two", "q/v"), ("p/w@one", "p/w")):
        assert rokctl("snapshot", "create", snapshot, f"--push={destination}").code == 0


def test_space_is_shown_by_object_or_by_bucket(rokctl, pushed):
    ran = rokctl("repo", "info", "--space")
    heading, *lines = ran.out.splitlines()
    assert heading.split() == ["OBJECT", "VERS", "LOGICAL", "DATA", "UNIQUE", "SHARED", "DEDUP", "COMPR"]
    assert [line.split()[0] for line in lines] == ["p/v", "p/w", "q/v", "(total)"]
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "nobody needs 0 B" in ran.err

    *objects, total = rokctl("repo", "info", "--space", "--json").records
    assert [(r["bucket"], r["object"], r["versions"]) for r in objects] == [("p", "v", 1), ("p", "w", 1), ("q", "v", 1)]
    v, w, copy = objects
    assert v["unique"] == copy["unique"] == w["shared"] == 0
    assert min(v["shared"], w["unique"]) > 100_000
    assert total["unique"] + total["shared"] + total["unneeded"] + total["overhead"] == total["packs"]
    assert {"bucket", "object"} & set(total) == set()

    *buckets, again = rokctl("repo", "info", "--space", "--by", "bucket", "--json").records
    assert [(r["bucket"], r["object"], r["versions"]) for r in buckets] == [("p", None, 2), ("q", None, 1)]
    assert again["packs"] == total["packs"]
    assert again["dedup_ratio"] == total["dedup_ratio"] == 1.5
    assert rokctl("repo", "info", "--space", "--by", "bucket").out.startswith("BUCKET")


def test_growth_is_shown_by_period(rokctl, pushed):
    [month] = rokctl("repo", "info", "--growth", "month", "--json").records
    assert (month["versions"], month["stored"]) == (3, month["stored_so_far"])
    assert month["stored"] > 200_000
    assert rokctl("repo", "info", "--growth", "week").out.split()[:2] == ["WEEK", "VERSIONS"]


def test_where_something_is_lost_the_figures_are_said_to_be_too_small(rokctl, pushed, tmp_path):
    largest = max((tmp_path / "repository").rglob("pack/**/*"), key=lambda path: path.is_file() and path.stat().st_size)
    largest.unlink()
    ran = rokctl("repo", "info", "--space", "--json")
    assert (ran.code, ran.failure["code"], ran.records[-1]["lost"] > 0) == (3, 3, True)


@pytest.mark.parametrize(
    "words",
    [
        ["--by", "bucket"],
        ["--space", "--by", "colour"],
        ["--growth", "second"],
        ["--growth", "day", "--space"],
    ],
    ids=" ".join,
)
def test_options_that_mean_nothing_are_refused(rokctl, words):
    ran = rokctl("repo", "info", *words)
    assert ran.code == 2
    assert "hint: " in ran.err
