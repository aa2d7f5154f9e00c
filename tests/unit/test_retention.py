"""The rules of retention by example: clock changes, leap years, ISO weeks, clocks that jumped."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from engine.errors import Refused
from engine.policy.duration import Duration
from engine.policy.retention import Candidate, Reason, Rule, Rules, decide

NOW = datetime(2030, 1, 1, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def versions(*times):
    """Versions that are called by their times."""
    return [Candidate(time, datetime.fromisoformat(time)) for time in times]


def kept(candidates, rules, zone=UTC, now=NOW, **options):
    return [decision.candidate.id for decision in decide(candidates, rules, now, zone, **options) if decision.keep]


def details(candidates, rules, zone, rule):
    decisions = decide(candidates, rules, NOW, zone, allow_last=True)
    return [reason.detail for decision in decisions for reason in decision.reasons if reason.rule is rule]


def test_of_each_day_the_newest_is_kept_and_days_without_a_version_do_not_count():
    history = versions("2026-01-01T08:00Z", "2026-01-01T20:00Z", "2026-01-05T08:00Z", "2026-03-01T08:00Z")
    assert kept(history, Rules(daily=3)) == ["2026-01-01T20:00Z", "2026-01-05T08:00Z", "2026-03-01T08:00Z"]


def test_every_rule_that_keeps_a_version_is_named_in_order():
    [old, new] = decide(versions("2026-01-01T08:00Z", "2026-02-03T08:00Z"), Rules(2, 1, 1, 1, 1, 1), NOW, UTC)
    assert old.reasons == (Reason(Rule.LAST),)
    assert [str(reason) for reason in new.reasons] == [
        "last", "hourly 2026-02-03T08+00:00", "daily 2026-02-03", "weekly 2026-W06", "monthly 2026-02", "yearly 2026"
    ]  # fmt: skip


def test_the_hour_that_a_clock_change_repeats_is_two():
    history = versions("2026-10-25T01:30+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00")
    assert kept(history, Rules(hourly=3), BERLIN) == [version.id for version in history]
    assert details(history, Rules(hourly=2), BERLIN, Rule.HOURLY) == ["2026-10-25T02+02:00", "2026-10-25T02+01:00"]


def test_the_hour_that_a_clock_change_leaves_out_is_none():
    history = versions("2026-03-29T00:59Z", "2026-03-29T01:00Z")
    hours = details(history, Rules(hourly=9), BERLIN, Rule.HOURLY)
    assert hours == ["2026-03-29T01+01:00", "2026-03-29T03+02:00"]


@pytest.mark.parametrize(
    ("first", "last"),
    [("2026-03-29T00:00+01:00", "2026-03-29T23:59+02:00"), ("2026-10-25T00:00+02:00", "2026-10-25T23:59+01:00")],
    ids=["23 hours", "25 hours"],
)
def test_a_day_of_a_clock_change_is_one_day_from_midnight_to_midnight(first, last):
    start, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
    before, after = start - timedelta(minutes=1), end + timedelta(minutes=1)
    history = [Candidate(name, time) for name, time in zip("abcd", (before, start, end, after), strict=True)]
    assert kept(history, Rules(daily=9), BERLIN) == ["a", "c", "d"]


def test_a_day_that_the_clock_goes_back_to_is_one_day():
    # Until 2011 Newfoundland set its clocks at one minute past midnight: back to the evening before.
    zone = ZoneInfo("America/St_Johns")
    evening, midnight, evening_again = versions("2010-11-07T02:20Z", "2010-11-07T02:30:30Z", "2010-11-07T02:50Z")
    days = [version.time.astimezone(zone).day for version in (evening, midnight, evening_again)]
    assert days == [6, 7, 6]
    assert kept([evening, midnight, evening_again], Rules(daily=9), zone) == [midnight.id, evening_again.id]


def test_the_same_versions_fall_on_other_days_in_another_zone():
    history = versions("2026-06-01T21:30Z", "2026-06-01T22:30Z")
    assert kept(history, Rules(daily=2)) == ["2026-06-01T22:30Z"]
    assert kept(history, Rules(daily=2), BERLIN) == ["2026-06-01T21:30Z", "2026-06-01T22:30Z"]


@pytest.mark.parametrize(
    ("time", "week"),
    [
        ("2027-01-03T12:00Z", "2026-W53"),  # a Sunday; the year has 53 weeks
        ("2027-01-04T12:00Z", "2027-W01"),
        ("2024-12-30T12:00Z", "2025-W01"),  # a Monday of the next ISO year
        ("2021-01-01T12:00Z", "2020-W53"),
        ("2024-02-29T12:00Z", "2024-W09"),
    ],
)
def test_weeks_are_those_of_iso_8601(time, week):
    assert details(versions(time), Rules(weekly=1), UTC, Rule.WEEKLY) == [week]


def test_a_week_across_new_year_is_one_week_in_two_years():
    history = versions("2024-12-29T12:00Z", "2024-12-30T12:00Z", "2025-01-01T12:00Z")
    assert kept(history, Rules(weekly=9)) == ["2024-12-29T12:00Z", "2025-01-01T12:00Z"]
    assert kept(history, Rules(yearly=9)) == ["2024-12-30T12:00Z", "2025-01-01T12:00Z"]


def test_the_leap_day_is_a_day_and_belongs_to_february():
    history = versions("2028-02-28T12:00Z", "2028-02-29T12:00Z", "2028-03-01T12:00Z")
    assert kept(history, Rules(daily=3)) == [version.id for version in history]
    assert kept(history, Rules(monthly=2)) == ["2028-02-29T12:00Z", "2028-03-01T12:00Z"]


def test_within_counts_from_the_newest_version_and_its_start_belongs_to_it():
    history = versions("2026-02-28T11:59Z", "2026-02-28T12:00Z", "2026-03-30T12:00Z")
    assert kept(history, Rules(within=Duration(days=30))) == ["2026-02-28T12:00Z", "2026-03-30T12:00Z"]


@pytest.mark.parametrize("now", [NOW, NOW + timedelta(days=30000)], ids=["right", "decades ahead"])
def test_a_clock_that_jumped_ahead_drops_nothing_more(now):
    history = versions("2029-12-01T12:00Z", "2029-12-30T12:00Z", "2029-12-31T12:00Z")
    assert kept(history, Rules(within=Duration(days=7)), now=now) == ["2029-12-30T12:00Z", "2029-12-31T12:00Z"]


def test_a_clock_that_fell_back_drops_nothing():
    history = versions("2029-12-01T12:00Z", "2029-12-30T12:00Z", "2029-12-31T12:00Z")
    assert kept(history, Rules(last=1), now=datetime(2020, 1, 1, tzinfo=UTC)) == [version.id for version in history]


def test_versions_of_the_future_are_kept_and_take_no_place_of_the_others():
    history = versions(
        "2029-12-29T12:00Z", "2029-12-30T12:00Z", "2029-12-31T12:00Z", "2099-01-01T00:00Z", "2099-01-02T00:00Z"
    )
    decisions = decide(history, Rules(daily=2), NOW, UTC, allow_last=True)
    assert [[str(reason) for reason in decision.reasons] for decision in decisions] == [
        [], ["daily 2029-12-30"], ["daily 2029-12-31"], ["future"], ["future"]
    ]  # fmt: skip


def test_of_equal_times_the_one_that_is_listed_later_is_the_newer():
    time = datetime(2026, 1, 1, tzinfo=UTC)
    history = [Candidate(name, time) for name in "cab"]
    assert kept(history, Rules(last=1)) == kept(history, Rules(daily=1)) == kept(history, Rules()) == ["b"]


def test_a_pin_beats_the_rules_until_its_end():
    ends = [None, NOW + timedelta(seconds=1), NOW, NOW - timedelta(days=1)]
    pinned = [
        Candidate(str(n), NOW - timedelta(days=9 - n), pinned=True, pinned_until=end) for n, end in enumerate(ends)
    ]
    decisions = decide(pinned, Rules(), NOW, UTC, allow_last=True)
    assert [str(reason) for decision in decisions for reason in decision.reasons] == [
        "pinned", "pinned until 2030-01-01T00:00:01Z"
    ]  # fmt: skip


def test_what_is_tagged_is_kept_by_each_of_its_tags():
    tagged = Candidate("a", NOW, frozenset({"release", "audit", "other"}))
    [decision] = decide([tagged], Rules(tags=frozenset({"release", "audit"})), NOW, UTC, allow_last=True)
    assert decision.reasons == (Reason(Rule.TAG, "audit"), Reason(Rule.TAG, "release"))


def test_the_newest_stays_and_goes_only_when_that_is_allowed():
    history = versions("2026-01-01T08:00Z", "2026-01-02T08:00Z")
    [old, new] = decide(history, Rules(), NOW, UTC)
    assert (old.keep, new.reasons, new.is_chosen) == (False, (Reason(Rule.NEWEST),), False)
    assert kept(history, Rules(), allow_last=True) == []


def test_one_version_of_the_future_does_not_let_the_newest_of_the_others_go():
    history = versions("2026-01-01T08:00Z", "2026-01-02T08:00Z", "2099-01-01T00:00Z")
    assert kept(history, Rules()) == ["2026-01-02T08:00Z", "2099-01-01T00:00Z"]


@pytest.mark.parametrize("name", ["last", "hourly", "daily", "weekly", "monthly", "yearly"])
def test_a_negative_count_is_refused(name):
    with pytest.raises(Refused, match=name):
        Rules(**{name: -1})


def test_no_versions_need_no_decision():
    assert decide([], Rules(last=3, within=Duration(days=1)), NOW, UTC) == []
