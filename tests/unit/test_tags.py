"""Tags and pins: beside the manifest, changed at will, kept as they are by programs that know less."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Damaged, Refused
from engine.repo.manifest import Manifest, Totals, from_document, to_document
from engine.repo.naming import ObjectName
from engine.repo.seal import Keyring
from engine.repo.tags import TagChange, Tags, all_tags, change_tags, check_tag, open_tags, seal_tags, tags_of
from engine.store.faulty import Faulty
from engine.store.memory import MemoryStore
from tests.counting_entropy import CountingEntropy
from tests.repositories import CLOCK, findings, new_pool, new_repository, push_snapshots, reopen, snapshot

VERSION, OTHER = "ab" * 16, "cd" * 16
UNTIL = datetime(2031, 1, 1, tzinfo=UTC)
GOLDEN = (  # written once, and never changed: no later program wrote it
    "524f4b5441475301492c0e088df03ea299923e2e748a6e6bd437864f67d5c773b3013a67b678a7073d48e06457d9c36d"
    "83ab38c38ad7f0837ae466d78603131d3a4036bf68002e17f6e2552242bb4e33a30e65488e686ae198fe573ead91c49c"
    "7aa4801709afaf6d01dabd962620f120b2e377f60141ff6d5627f2619344ffca03"
)


@pytest.fixture
def store():
    return MemoryStore(CLOCK)


@pytest.fixture
def repository(store):
    return new_repository(store)


def flip(store, key):
    body = bytearray(store.get(key))
    body[len(body) // 2] ^= 1
    store.put(key, body)


words = st.text(st.characters(codec="utf-8", categories=["L", "N", "S"]), min_size=1, max_size=8)
moments = st.integers(0, 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
all_kinds = st.builds(
    Tags, st.frozensets(words), st.booleans(), st.none() | moments, st.dictionaries(st.just("later"), st.integers())
)


@given(all_kinds, st.booleans())
def test_tags_are_read_back_with_the_fields_that_this_program_does_not_know(tags, encrypted):
    keyring = Keyring(bytes(32), encrypted=encrypted)
    blob = seal_tags(VERSION, tags, keyring, CountingEntropy())
    assert open_tags(VERSION, blob, keyring) == tags
    with pytest.raises(Damaged, match=OTHER):
        open_tags(OTHER, blob, keyring)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_of_tags_is_found(where, mask):
    keyring = Keyring(bytes(32), encrypted=True)
    blob = bytearray(seal_tags(VERSION, Tags(frozenset({"release"})), keyring, CountingEntropy()))
    blob[where % len(blob)] ^= mask
    with pytest.raises(Damaged, match=VERSION):
        open_tags(VERSION, blob, keyring)


def test_the_format_of_tags_is_kept_for_ever():
    blob = bytes.fromhex(GOLDEN)
    expected = Tags(frozenset({"release", "día"}), True, UNTIL, {"later": [1]})
    assert open_tags(VERSION, blob, Keyring(bytes(range(32)), encrypted=True)) == expected


@pytest.mark.parametrize("moment", ["2031-01-01T00:00:00", "soon"])
def test_a_time_without_a_zone_is_no_time(moment):
    totals = Totals(0, 0, 0, 0, 0, 0, 0)
    manifest = Manifest(VERSION, ObjectName("b", "o"), UNTIL, UNTIL, "n", "t", "", {}, None, (), totals)
    with pytest.raises(Damaged, match="store_time"):
        from_document({**to_document(manifest), "store_time": moment}, "it")


def test_a_version_without_a_tags_blob_has_none(repository):
    assert tags_of(repository, VERSION) == Tags()


def test_tags_are_added_and_removed_and_asked_twice_nothing_is_written(store):
    new_repository(store)
    faulty = Faulty(store)
    repository = reopen(faulty)
    change = TagChange(add=frozenset({"a", "b"}), pin=True, until=UNTIL)
    after, changed = change_tags(repository, VERSION, change)
    assert (after, changed) == (Tags(frozenset({"a", "b"}), True, UNTIL), True)
    assert change_tags(repository, VERSION, change) == (after, False)
    assert sum(call.writes for call in faulty.calls) == 1
    after, _ = change_tags(repository, VERSION, TagChange(remove=frozenset({"b", "c"})))
    assert after == tags_of(repository, VERSION) == Tags(frozenset({"a"}), True, UNTIL)
    after, _ = change_tags(repository, VERSION, TagChange(pin=True))
    assert (after.pinned, after.pinned_until) == (True, None)
    after, _ = change_tags(repository, VERSION, TagChange(pin=False))
    assert after == Tags(frozenset({"a"}))


def test_fields_that_a_later_program_wrote_stay(repository):
    tags = Tags(frozenset({"a"}), extra={"colour": "red"})
    repository.store.put(f"tags/{VERSION}", seal_tags(VERSION, tags, repository.keyring, repository.entropy))
    change_tags(repository, VERSION, TagChange(add=frozenset({"b"})))
    assert tags_of(repository, VERSION) == replace(tags, names=frozenset({"a", "b"}))


def test_damaged_tags_lose_no_pin_by_accident(repository, store):
    change_tags(repository, VERSION, TagChange(pin=True))
    flip(store, f"tags/{VERSION}")
    with pytest.raises(Damaged) as raised:
        change_tags(repository, VERSION, TagChange(add=frozenset({"a"})))
    assert "--unpin" in raised.value.hint
    assert isinstance(all_tags(repository, [VERSION, OTHER])[VERSION], Damaged)
    assert change_tags(repository, VERSION, TagChange(pin=False)) == (Tags(), True)
    assert all_tags(repository, [VERSION, OTHER]) == {VERSION: Tags(), OTHER: Tags()}


def test_tags_of_many_versions_cost_a_listing_and_a_read_for_each_that_has_any(store):
    new_repository(store)
    change_tags(reopen(store), VERSION, TagChange(pin=True))
    faulty = Faulty(store)
    repository = reopen(faulty)
    before = len(faulty.calls)
    assert all_tags(repository, [OTHER, VERSION])[VERSION].pinned
    assert [(call.operation, call.key) for call in faulty.calls[before:]] == [
        ("list", "tags/"),
        ("get_range", f"tags/{VERSION}"),
    ]


def test_check_finds_damaged_tags_and_hurts_no_version_for_it(repository, store):
    pool = new_pool()
    pool.create_volume("volume", 1 << 20)
    version = push_snapshots(repository, snapshot(pool, "a", "volume")).version
    change_tags(repository, version, TagChange(add=frozenset({"a"})))
    assert findings(repository) == ()
    flip(store, f"tags/{version}")
    [finding] = findings(repository)
    assert (finding.blob, finding.hurt) == (f"tags/{version}", ())
    assert "--unpin" in finding.problem


@pytest.mark.parametrize("tag", ["release", "v1.2", "día", "🐴", "x" * 64])
def test_a_tag_is_a_word(tag):
    assert check_tag(tag) == tag


@pytest.mark.parametrize("tag", ["", " ", "a b", "a,b", "a\tb", "a\u2028b", "\x1b[31m", "x" * 65])
def test_what_is_no_word_is_no_tag(tag):
    with pytest.raises(Refused, match="cannot be a tag"):
        check_tag(tag)


def test_a_tag_has_one_form():
    assert check_tag("di\u0301a") == check_tag("d\u00eda")


@pytest.mark.parametrize(
    "change",
    [
        {"add": frozenset({"a"}), "remove": frozenset({"a"})},
        {"until": UNTIL},
        {"pin": False, "until": UNTIL},
    ],
)
def test_a_change_that_contradicts_itself_is_refused(change):
    with pytest.raises(Refused):
        TagChange(**change)
