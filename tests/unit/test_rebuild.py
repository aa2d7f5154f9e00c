"""A repository whose descriptor is lost comes back by the paper copy of its key, and by nothing less."""

import json

import pytest

from engine.errors import Damaged, NotFound, Refused, WrongKey
from engine.repo.paper import PaperKey
from engine.repo.rebuild import rebuild_descriptor
from engine.repo.repository import open_repository
from engine.store.memory import MemoryStore
from tests.counting_entropy import CountingEntropy
from tests.repositories import CLOCK, copy_of, findings, new_repository, reopen, restorable, two_versions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def original():
    return two_versions(encrypted=True)


@pytest.fixture
def story(original):
    pool, store, repository = original
    return pool, copy_of(store), PaperKey(repository.id, repository.keyring.master)


def rebuild(store, paper, *, dry_run=False):
    return rebuild_descriptor(store, paper, clock=CLOCK, dry_run=dry_run)


def lose(store):
    store.delete("repository")


def truncate(store):
    store.put("repository", store.get("repository")[:-20])


def empty(store):
    store.put("repository", b"")


def weaken(store):
    document = json.loads(store.get("repository"))
    store.put("repository", json.dumps({**document, "id": "0" * 32}).encode())


@pytest.mark.parametrize("harm", [lose, truncate, empty, weaken])
def test_a_lost_descriptor_is_rebuilt_from_paper_and_the_passphrase_opens_again(story, harm):
    pool, store, paper = story
    harm(store)
    with pytest.raises((Damaged, WrongKey)):
        reopen(store)

    assert rebuild(store, paper)

    again = reopen(store)
    assert again.id == paper.repository_id
    assert findings(again) == ()
    assert restorable(store, pool) == 2
    assert not rebuild(store, paper), "asked again there is nothing to do"


@pytest.mark.parametrize("harm", [lose, truncate, empty])
def test_what_opens_nothing_any_more_says_what_helps(story, harm):
    _, store, _ = story
    harm(store)
    with pytest.raises(Damaged) as refused:
        reopen(store)
    assert "--from-paper" in refused.value.hint


def test_a_dry_run_writes_nothing(story):
    _, store, paper = story
    lose(store)
    assert rebuild(store, paper, dry_run=True)
    assert "repository" not in {blob.key for blob in store.list("")}


def test_a_whole_descriptor_is_left_alone(story):
    _, store, paper = story
    before = store.get("repository")
    assert not rebuild(store, paper)
    assert store.get("repository") == before


def test_the_paper_of_another_repository_rebuilds_nothing(story):
    _, store, paper = story
    lose(store)
    with pytest.raises(WrongKey):
        rebuild(store, PaperKey(paper.repository_id, bytes(32)))
    assert "repository" not in {blob.key for blob in store.list("")}


def test_a_damaged_version_does_not_speak_against_the_paper(story):
    _, store, paper = story
    lose(store)
    first = min(blob.key for blob in store.list("versions/"))
    store.put(first, store.get(first)[:-1] + b"\x00")
    assert rebuild(store, paper)


def test_where_no_version_is_there_is_nothing_to_save():
    store = MemoryStore(CLOCK)
    repository = new_repository(store, encrypted=True)
    lose(store)
    with pytest.raises(NotFound):
        rebuild(store, PaperKey(repository.id, repository.keyring.master))


def test_a_newer_format_is_not_overwritten(story):
    _, store, paper = story
    document = json.loads(store.get("repository"))
    store.put("repository", json.dumps({**document, "format": 2}).encode())
    with pytest.raises(Refused, match="format 2"):
        rebuild(store, paper)


def test_by_the_paper_itself_it_opens_too(story):
    _, store, paper = story
    lose(store)
    rebuild(store, paper)
    opened = open_repository(store, lambda: paper, clock=CLOCK, entropy=CountingEntropy(1))
    assert len(opened.versions()) == 2
