"""Tags, pins and forgetting from the command line."""

import pytest

from rokctl.forget import parse_end, parse_zone

pytestmark = pytest.mark.slow


@pytest.fixture
def pushed(rokctl, tmp_path):
    """Three versions of `p/v` and one of `p/w`, by their ids, oldest first."""
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")
    assert rokctl("repo", "init", "--no-encryption").code == 0
    ids = []
    for volume, name in (("v", "one"), ("v", "two"), ("v", "three"), ("w", "one")):
        rokctl("volume", "create", f"p/{volume}", "--size", "1M")
        ids.append(rokctl("snapshot", "create", f"p/{volume}@{name}", "--push", "--json").records[-1]["version"])
    return ids


def left(rokctl):
    return [version["version"] for version in rokctl("version", "list", "--json").records]


def test_a_dry_run_shows_every_version_and_why_it_is_kept(rokctl, pushed):
    rokctl("version", "tag", f"p/v@{pushed[0]}", "--pin", "--until", "2999-12-31")
    ran = rokctl("version", "forget", "p", "--keep-last", 1, "--keep-daily", 1, "--dry-run")
    assert ran.code == 0
    assert left(rokctl) == pushed, "nothing was forgotten"
    heading, *lines = ran.out.splitlines()
    assert heading.split() == ["OBJECT", "VERSION", "TIME", "TAGS", "KEEP", "BY"]
    assert "pinned until 2999-12-31T23:59:59Z" in lines[0]
    assert [line.split()[5] for line in lines] == ["yes", "no", "yes", "yes"]
    assert "last, daily 20" in lines[2]
    assert "1 of 4 versions would be forgotten" in ran.err

    records = rokctl("version", "forget", "p", "--keep-last", 1, "--keep-daily", 1, "--dry-run", "--json").records
    assert [(record["version"], record["would"]) for record in records] == list(
        zip(pushed, ["keep", "forget", "keep", "keep"], strict=True)
    )
    assert records[0]["reasons"] == [{"rule": "pinned", "detail": "until 2999-12-31T23:59:59Z"}]
    assert [reason["rule"] for reason in records[2]["reasons"]] == ["last", "daily"]
    assert {"bucket", "object", "created", "store_time", "tags", "pinned", "pinned_until"} <= set(records[0])


def test_rules_forget_the_rest_and_say_how_the_space_comes_back(rokctl, pushed):
    ran = rokctl("version", "forget", "p/v", "--keep-last", 1)
    assert ran.code == 0
    assert [line for line in ran.out.splitlines() if line.endswith(": forgotten")] == [
        f"version p/v@{version}: forgotten" for version in pushed[:2]
    ]
    assert "`rokctl repo gc` brings their space back" in ran.out
    assert left(rokctl) == pushed[2:]
    assert rokctl("repo", "check", "--read-data").code == 0
    assert rokctl("restore", f"p/v@{pushed[0]}", "--to", "p/back").code == 10
    assert rokctl("restore", "p/v", "--to", "p/back").code == 0

    *records, total = rokctl("version", "forget", "--all", "--keep-last", 1, "--json").records
    assert [record["outcome"] for record in records] == ["kept", "kept"]
    assert total == {"forgotten": 0, "kept": 2, "already_gone": 0}
    assert rokctl("version", "forget", "--all", "--keep-last", 1, "--quiet").out == ""


def test_a_version_is_forgotten_by_name_and_asked_twice_is_already_gone(rokctl, pushed):
    name = f"p/v@{pushed[1]}"
    assert [r["would"] for r in rokctl("version", "forget", name, "--dry-run", "--json").records] == ["forget"]
    first = rokctl("version", "forget", name, "--json").records
    assert (first[0]["outcome"], first[-1]["forgotten"]) == ("forgotten", 1)
    again = rokctl("version", "forget", name, "--json")
    assert (again.code, again.records[0]["outcome"], again.records[0]["version"]) == (0, "already gone", pushed[1])
    assert "already gone" in rokctl("version", "forget", name).out
    assert left(rokctl) == [pushed[0], *pushed[2:]]
    assert rokctl("version", "forget", "p/v@00000000").code == 10


def test_the_newest_goes_only_with_allow_last(rokctl, pushed):
    refused = rokctl("version", "forget", f"p/w@{pushed[3]}")
    assert refused.code == 2
    assert "--allow-last" in refused.err
    assert rokctl("version", "forget", f"p/w@{pushed[3]}", "--allow-last").code == 0
    assert rokctl("version", "forget", "p/v", "--keep-last", 0).code == 2
    assert rokctl("version", "forget", "p/v", "--keep-last", 0, "--allow-last").code == 0
    assert left(rokctl) == []


def test_tags_and_pins_are_listed_shown_and_obeyed(rokctl, pushed):
    name = f"p/v@{pushed[0]}"
    changed = rokctl("version", "tag", name, "--add", "release", "--add", "v1", "--pin", "--json").records[0]
    assert changed == {
        "outcome": "changed", "bucket": "p", "object": "v", "version": pushed[0],
        "tags": ["release", "v1"], "pinned": True, "pinned_until": None,
    }  # fmt: skip
    assert rokctl("version", "tag", name, "--add", "v1", "--json").records[0]["outcome"] == "unchanged"
    shown = [(r["tags"], r["pinned"]) for r in rokctl("version", "list", "p/v", "--json").records]
    assert shown == [(["release", "v1"], True), ([], False), ([], False)]
    assert "release, v1" in rokctl("version", "list").out
    assert "release, v1" in rokctl("version", "show", name).out
    assert rokctl("version", "forget", name).code == 2
    assert rokctl("version", "tag", name, "--unpin", "--remove", "v1").out.endswith("tags: release; not pinned\n")
    assert rokctl("version", "forget", "p/v", "--keep-tag", "release").code == 0
    assert left(rokctl) == [pushed[0], pushed[2], pushed[3]], "the newest stays though it has no tag"
    assert "--unpin" not in rokctl("version", "tag", "p/v", "--pin", "--until", "2999-01-01T00:00Z").err
    assert "until 2999-01-01T00:00:00Z" in rokctl("version", "list").out


def test_damaged_tags_keep_the_version_and_can_be_set_anew(rokctl, pushed, tmp_path):
    name = f"p/v@{pushed[0]}"
    rokctl("version", "tag", name, "--add", "release")
    blob = tmp_path / "repository" / "tags" / pushed[0]
    blob.write_bytes(blob.read_bytes()[:-1])
    listed = rokctl("version", "list", "--json")
    assert (listed.code, listed.records[0]["tags"], listed.records[0]["pinned"]) == (0, None, None)
    assert "damaged" in rokctl("version", "list").out
    checked = rokctl("repo", "check")
    assert (checked.code, f"tags/{pushed[0]}" in checked.out) == (13, True)
    ran = rokctl("version", "forget", "p/v", "--keep-last", 1)
    assert (ran.code, "damaged, so it is kept" in ran.err) == (0, True)
    assert left(rokctl) == [pushed[0], *pushed[2:]]
    assert rokctl("version", "tag", name, "--add", "release").code == 13
    assert rokctl("version", "tag", name, "--add", "release", "--unpin").code == 0
    assert rokctl("repo", "check").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["forget"],
        ["forget", "--all"],
        ["forget", "p/v"],
        ["forget", "p/v@latest", "--allow-last"],
        ["forget", "--keep-last", "1"],
        ["forget", "p", "--all", "--keep-last", "1"],
        ["forget", "p/v", "--keep-last", "0"],
        ["forget", "--all", "--keep-last", "0", "--keep-daily", "0"],
        ["forget", "p/v", "--keep-last", "-1"],
        ["forget", "p/v", "--keep-last", "9" * 5000],
        ["forget", "p/v", "--keep-within", "99999999d"],
        ["forget", "p/v", "--keep-minutely", "1"],
        ["forget", "p/v", "--keep-within", "30"],
        ["forget", "p/v", "--keep-within", "-1d"],
        ["forget", "p/v", "--keep-tag", "relase"],
        ["forget", "p/v", "--keep-tag", "two words"],
        ["forget", "p/v", "--keep-last", "1", "--time-zone", "Nowhere/Land"],
        ["forget", "p/v", "--keep-last", "1", "--time-zone", "../etc/passwd"],
        ["forget", "p/v@abcd", "--keep-last", "1"],
        ["tag", "p/v"],
        ["tag", "p/v", "--pin", "--unpin"],
        ["tag", "p/v", "--until", "2999-01-01"],
        ["tag", "p/v", "--pin", "--until", "2001-01-01"],
        ["tag", "p/v", "--pin", "--until", "tomorrow"],
        ["tag", "p/v", "--add", "a,b"],
        ["tag", "p/v", "--add", "a", "--remove", "a"],
    ],
    ids=" ".join,
)
def test_bad_words_are_refused_with_a_hint_and_nothing_is_forgotten(rokctl, one_object, words):
    ran = rokctl("version", *words)
    assert ran.code == 2, ran.err
    assert "hint: " in ran.err
    assert len(left(rokctl)) == 2


@pytest.fixture
def one_object(rokctl, tmp_path):
    """Two versions of `p/v`."""
    rokctl("pool", "create", "p", "--dir", tmp_path / "p")
    rokctl("repo", "init", "--no-encryption")
    rokctl("volume", "create", "p/v", "--size", "1M")
    for name in ("one", "two"):
        assert rokctl("snapshot", "create", f"p/v@{name}", "--push").code == 0


def test_what_does_not_exist_is_not_found_with_near_names(rokctl, one_object):
    ran = rokctl("version", "forget", "p/w", "--keep-last", "1")
    assert (ran.code, "p/v" in ran.err) == (10, True)
    assert rokctl("version", "forget", "q", "--keep-last", "1").code == 10
    assert rokctl("version", "tag", "p/w", "--pin").code == 10


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2027-01-31", "2027-01-31T23:59:59+00:00"),
        ("2027-01-31T18:00", "2027-01-31T18:00:00+00:00"),
        ("2027-01-31T18:00+01:00", "2027-01-31T18:00:00+01:00"),
        ("2027-01-31 18:00:00Z", "2027-01-31T18:00:00+00:00"),
        ("9999-12-31", "9999-12-31T23:59:59+00:00"),
    ],
)
def test_a_pin_ends_with_its_day_or_at_its_moment(text, end):
    assert parse_end(text).isoformat() == end


def test_utc_needs_no_database_of_time_zones(monkeypatch):
    monkeypatch.setattr("rokctl.forget.ZoneInfo", None)
    assert str(parse_zone("UTC")) == "UTC"
