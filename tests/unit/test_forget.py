"""Forgetting: planned on values, refused when it is wrong, carried out by tombstones that anyone may put again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from engine.errors import Damaged, NotFound, Refused
from engine.ops.forget import Fate, ForgetReport, forget, plan_by_names, plan_by_rules
from engine.ops.scope import Scope
from engine.policy.retention import Rules
from engine.repo.manifest import BROKEN, FORGOTTEN, Manifest, Member, Origin, Totals, seal_manifest
from engine.repo.naming import ObjectName, VersionReference, parse_reference
from engine.repo.session import Purpose
from engine.repo.tags import TagChange, change_tags
from engine.store.faulty import CRASH_AFTER, CRASH_BEFORE, Crashed, Faulty, at
from engine.store.memory import MemoryStore
from tests.manual_clock import ManualClock
from tests.repositories import findings, new_repository, reopen

A, B, ELSEWHERE = ObjectName("shop", "a"), ObjectName("shop", "b"), ObjectName("lab", "a")
NOON = datetime(2029, 12, 1, 12, tzinfo=UTC)


def manifest(version, name, day):
    """A version without content, whose push began at noon of a day from the first of December."""
    time = NOON + timedelta(days=day)
    origin = Origin("p", "v", "s", "u", "u", "g", time)
    member = Member("v", bytes(16), 4096, 512, "", "", "", False, 0, 0, origin)
    # The node's clock is wrong on purpose: it must decide nothing.
    return Manifest(version, name, NOON, time, "n", "t", "", {}, None, (member,), Totals(4096, 0, 0, 0, 0, 0, 0))


def identity(number):
    return f"{number:02}" * 16


@pytest.fixture
def store():
    """Versions 10 to 14 of `shop/a`, a day apart; 20 and 21 of `shop/b`; 30 of `lab/a`. It is the first of January 2030."""
    store = MemoryStore(ManualClock())
    repository = new_repository(store)
    days = {A: range(5), B: range(2), ELSEWHERE: range(1)}
    for tens, (name, those) in enumerate(days.items(), start=1):
        for day in those:
            blob = manifest(identity(tens * 10 + day), name, day)
            store.put(f"versions/{blob.version}", seal_manifest(blob, repository.keyring, repository.entropy))
    return store


@pytest.fixture
def repository(store):
    return reopen(store)


def left(store):
    """The numbers of the versions that are left."""
    return [int(manifest.version[:2]) for manifest in reopen(store).versions()]


def by_rules(repository, *scopes, allow_last=False, **rules):
    return plan_by_rules(repository, scopes, Rules(**rules), UTC, allow_last=allow_last)


def by_names(repository, *texts, allow_last=False):
    return plan_by_names(repository, [parse_reference(text) for text in texts], allow_last=allow_last)


def dropped(plan):
    return [int(verdict.manifest.version[:2]) for verdict in plan.verdicts if not verdict.keep]


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ([Scope("shop", "a")], [10, 11, 12, 13]),
        ([Scope("shop")], [10, 11, 12, 13, 20]),
        ([Scope("lab"), Scope("shop", "b")], [20]),
        ([Scope()], [10, 11, 12, 13, 20]),
        ([Scope("shop"), Scope("shop", "b")], [10, 11, 12, 13, 20]),
    ],
)
def test_rules_look_at_each_object_on_its_own(repository, store, scopes, expected):
    before = {blob.key for blob in store.list("")}
    plan = by_rules(repository, *scopes, last=1)
    assert sorted(dropped(plan)) == expected
    assert {blob.key for blob in store.list("")} == before
    assert len(left(store)) == 8, "a plan touches nothing"


def test_days_are_those_of_the_stores_clock_and_not_of_the_nodes(repository):
    assert dropped(by_rules(repository, Scope("shop", "a"), daily=2)) == [10, 11, 12]


def test_a_plan_is_carried_out_and_again_there_is_nothing_to_do(repository, store):
    plan = by_rules(repository, Scope("shop"), last=2)
    told = []
    report = forget(repository, plan, listen=lambda verdict, fate: told.append((verdict.manifest.version[:2], fate)))
    assert report == ForgetReport(forgotten=3, kept=4, already_gone=0)
    assert told[:4] == [("10", Fate.FORGOTTEN), ("11", Fate.FORGOTTEN), ("12", Fate.FORGOTTEN), ("13", Fate.KEPT)]
    assert sorted(left(store)) == [13, 14, 20, 21, 30]
    assert store.get(f"versions/{identity(10)}") == FORGOTTEN
    assert forget(repository, plan) == ForgetReport(forgotten=0, kept=4, already_gone=3)
    assert forget(repository, by_rules(repository, Scope("shop"), last=2)).forgotten == 0
    assert findings(reopen(store)) == ()


@pytest.mark.slow
@pytest.mark.parametrize("fault", [CRASH_BEFORE, CRASH_AFTER], ids=["before", "after"])
def test_a_forgetting_that_dies_at_any_call_is_taken_up_by_the_next(store, fault):
    def whole(store):
        repository = reopen(store)
        return forget(repository, by_rules(repository, Scope("shop"), last=1))

    blobs = {blob.key: store.get(blob.key) for blob in store.list("")}
    faulty = Faulty(store)
    whole(faulty)
    for number in range(1, len(faulty.calls) + 1):
        copy = MemoryStore(ManualClock())
        for key, body in blobs.items():
            copy.put(key, body)
        with pytest.raises(Crashed):
            whole(Faulty(copy, at(number, fault)))
        assert {14, 21, 30} <= set(left(copy)), "nothing more than planned is gone"
        whole(copy)
        assert sorted(left(copy)) == [14, 21, 30]


def test_versions_are_forgotten_by_name(repository, store):
    plan = by_names(repository, f"shop/a@{identity(10)}", "shop/a@1111", f"shop/a@{identity(10)}")
    assert dropped(plan) == [10, 11]
    forget(repository, plan)
    assert sorted(left(store)) == [12, 13, 14, 20, 21, 30]


@pytest.mark.parametrize("name", [identity(10), "1010"])
def test_a_version_that_was_forgotten_before_is_already_gone(repository, name):
    forget(repository, by_names(repository, f"shop/a@{name}"))
    plan = by_names(repository, f"shop/a@{name}")
    assert plan.already_gone == (VersionReference(A, identity(10)),)
    assert forget(repository, plan) == ForgetReport(forgotten=0, kept=0, already_gone=1)


def test_a_version_whose_session_was_broken_never_was(repository, store):
    store.put(f"versions/{identity(15)}", BROKEN)
    with pytest.raises(NotFound):
        by_names(repository, f"shop/a@{identity(15)}")
    with pytest.raises(NotFound):
        repository.forget(identity(15))
    assert store.get(f"versions/{identity(15)}") == BROKEN


def test_the_newest_of_an_object_goes_only_when_that_is_allowed(repository, store):
    with pytest.raises(Refused, match="newest"):
        by_names(repository, f"shop/a@{identity(13)}", f"shop/a@{identity(14)}")
    forget(repository, by_names(repository, f"lab/a@{identity(30)}", allow_last=True))
    assert 30 not in left(store)


def test_the_latest_cannot_be_forgotten_by_that_name(repository):
    with pytest.raises(Refused, match="after each push"):
        by_names(repository, "shop/a@latest", allow_last=True)


def test_a_pinned_version_is_not_forgotten_by_rules_or_by_name(repository, store):
    change_tags(repository, identity(10), TagChange(pin=True))
    assert dropped(by_rules(repository, Scope("shop", "a"), last=1)) == [11, 12, 13]
    with pytest.raises(Refused, match="pinned") as raised:
        by_names(repository, f"shop/a@{identity(10)}")
    assert "--unpin" in raised.value.hint


def test_a_pin_that_has_ended_holds_nothing(repository, store):
    change_tags(repository, identity(10), TagChange(pin=True, until=store.now() - timedelta(seconds=1)))
    assert dropped(by_names(repository, f"shop/a@{identity(10)}")) == [10]
    assert 10 in dropped(by_rules(repository, Scope("shop", "a"), last=1))


def test_a_version_that_is_pinned_after_the_plan_was_made_is_kept(repository, store):
    plan = by_rules(repository, Scope("shop", "a"), last=1)
    change_tags(repository, identity(11), TagChange(pin=True))
    assert forget(repository, plan) == ForgetReport(forgotten=3, kept=2, already_gone=0)
    assert sorted(left(store)) == [11, 14, 20, 21, 30]


def test_a_version_whose_tags_cannot_be_read_is_kept_as_if_it_were_pinned(repository, store):
    change_tags(repository, identity(10), TagChange(add=frozenset({"x"})))
    store.put(f"tags/{identity(10)}", b"ROKTAGS\x01 and nonsense, longer than a box must be")
    plan = by_rules(repository, Scope("shop", "a"), last=1)
    assert dropped(plan) == [11, 12, 13]
    assert plan.verdicts[0].tags is None
    with pytest.raises(Damaged):
        by_names(repository, f"shop/a@{identity(10)}")


def test_a_version_that_cannot_be_read_is_left_alone_and_named(repository, store):
    store.put(f"versions/{identity(12)}", b"ROKVERS\x01 and nonsense, longer than a tombstone")
    plan = by_rules(repository, Scope("shop", "a"), last=1)
    assert (dropped(plan), plan.unreadable) == ([10, 11, 13], (identity(12),))


def test_a_tag_keeps_what_has_it_and_one_that_nobody_has_is_refused(repository):
    change_tags(repository, identity(11), TagChange(add=frozenset({"release"})))
    assert dropped(by_rules(repository, Scope("shop", "a"), tags=frozenset({"release"}))) == [10, 12, 13]
    for scope, tag in ((Scope("shop", "a"), "relase"), (Scope("lab"), "release")):
        with pytest.raises(Refused, match=tag):
            by_rules(repository, scope, last=1, tags=frozenset({tag}))


def test_rules_that_keep_nothing_are_refused_unless_that_is_allowed(repository, store):
    change_tags(repository, identity(11), TagChange(add=frozenset({"release"})))
    with pytest.raises(Refused, match="keep nothing"):
        by_rules(repository, Scope("lab"))
    with pytest.raises(Refused, match="nothing of shop/b"):
        by_rules(repository, Scope("shop"), tags=frozenset({"release"}))
    plan = by_rules(repository, Scope("shop"), allow_last=True, tags=frozenset({"release"}))
    assert dropped(plan) == [10, 12, 13, 14, 20, 21]
    assert dropped(by_rules(repository, Scope("lab"), allow_last=True)) == [30]


def test_rules_that_keep_nothing_of_a_single_version_let_it_stay(repository):
    change_tags(repository, identity(11), TagChange(add=frozenset({"release"})))
    plan = by_rules(repository, Scope("shop", "a"), Scope("lab"), tags=frozenset({"release"}))
    assert 30 not in dropped(plan)


def test_now_is_what_the_stores_clock_says(store):
    class Wrong(ManualClock):
        def now(self):
            return NOON - timedelta(days=365)  # by this clock every version lies in the future, and would be kept

    plan = by_rules(reopen(store, clock=Wrong()), Scope("shop", "a"), last=1)
    assert dropped(plan) == [10, 11, 12, 13]


def test_a_scope_without_a_version_is_not_found_with_near_names(repository):
    for scope, near in ((Scope("shop", "aa"), "shop/a"), (Scope("shp"), "shop")):
        with pytest.raises(NotFound) as raised:
            by_rules(repository, Scope("lab"), scope, last=1)
        assert near in raised.value.hint


def test_an_empty_repository_has_nothing_to_forget():
    repository = new_repository(MemoryStore(ManualClock()))
    assert by_rules(repository, Scope(), last=1, tags=frozenset({"x"})).verdicts == ()


def test_a_push_whose_base_is_forgotten_meanwhile_goes_on(repository, store):
    with repository.session(Purpose(A, identity(10), "node"), threads=1, writers=1) as session:
        forget(reopen(store), by_names(repository, f"shop/a@{identity(10)}"))
        committed = session.commit(lambda: replace(manifest(session.version, A, 30), base=identity(10)))
    versions = [manifest.version for manifest in reopen(store).versions("shop", "a")]
    assert (committed.version in versions, identity(10) in versions) == (True, False)
    assert findings(reopen(store)) == ()
