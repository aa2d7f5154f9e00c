"""A place that is no repository, or not one of ours: refused, with the next step, and left as it was."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def place(rokctl, world):
    """The directory of a new repository, beside a pool `p` with a volume `v`."""
    folder = Path(world["ROKCTL_REPOSITORY"])
    rokctl("pool", "create", "p", "--dir", folder.parent / "p")
    rokctl("volume", "create", "p/v", "--size", "1M")
    assert rokctl("repo", "init", "--no-encryption").code == 0
    return folder


@pytest.fixture
def refused(rokctl):
    """Run what must fail with a certain code; gives the error and the hint of --json."""

    def call(code, *words):
        ran = rokctl(*words, "--json")
        assert (ran.code, ran.failure["code"], ran.out) == (code, code, ""), ran.err
        return ran.failure["error"], ran.failure["hint"]

    return call


OF_ANOTHER = [b"", b"\x00\x01\xff", b"[]", b'{"version": 2, "chunker_polynomial": "25b468838dcb75"}', b"x" * 100_000]


@pytest.mark.parametrize("body", OF_ANOTHER, ids=["empty", "binary", "a list", "another program's", "large"])
def test_the_repository_of_another_program_is_refused_and_left_alone(refused, rokctl, place, body):
    (place / "repository").write_bytes(body)
    for words in (["version", "list"], ["repo", "init"], ["snapshot", "create", "p/v", "--push"]):
        error, hint = refused(2, *words)
        assert "not a rokctl repository" in error
        assert hint
    assert (place / "repository").read_bytes() == body
    assert rokctl("snapshot", "list", "--json").records == [], "no snapshot is taken that cannot be pushed"


def test_a_newer_format_asks_for_a_newer_program(refused, place):
    document = json.loads((place / "repository").read_bytes())
    (place / "repository").write_text(json.dumps({**document, "format": 2}), encoding="utf-8")
    for words in (["version", "list"], ["repo", "init"], ["repo", "check"]):
        error, hint = refused(2, *words)
        assert "format 2" in error
        assert "upgrade rokctl" in hint


@pytest.mark.parametrize(
    "url", [" ", "s3:bucket", "s3://BU", "s3://bucket/a//b", "http://host/x", "file://host/x", "s3://b%20c/x"]
)
def test_a_malformed_url_is_refused(refused, place, url):
    error, hint = refused(2, "version", "list", "--repo", url)
    assert error
    assert hint


def test_an_empty_directory_is_no_repository_and_does_not_become_one_by_reading(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    _, hint = refused(10, "version", "list", "--repo", tmp_path / "empty")
    assert "repo init" in hint
    assert [*(tmp_path / "empty").iterdir()] == []


def test_a_directory_that_holds_something_does_not_become_a_repository(refused, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("dear", encoding="utf-8")
    error, _ = refused(2, "repo", "init", "--no-encryption", "--repo", tmp_path / "full")
    assert "letter" in error
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter"]
