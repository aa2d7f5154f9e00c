"""What the rules of retention promise of any versions, any rules and any clock."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from engine.policy.duration import Duration
from engine.policy.retention import Candidate, Rule, Rules, decide

NOW = datetime(2026, 4, 5, 12, tzinfo=UTC)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kathmandu"]
COUNTS = ["last", "hourly", "daily", "weekly", "monthly", "yearly"]

# Dense enough that versions share hours, days and instants, and wide enough for years; a few in the future.
times = st.one_of(
    st.integers(-90, 10).map(lambda quarters: NOW + timedelta(minutes=15 * quarters)),
    st.integers(-1500, 30).map(lambda days: NOW + timedelta(days=days)),
    st.integers(-17 * 365 * 86400, 365 * 86400).map(lambda seconds: NOW + timedelta(seconds=seconds)),
)
pins = st.one_of(
    st.just((False, None)), st.just((True, None)), st.tuples(st.just(True), times), st.tuples(st.just(False), times)
)
zones = st.sampled_from(ZONES).map(ZoneInfo)
counts = st.integers(0, 6)
rule_sets = st.builds(
    Rules,
    *[counts] * 6,
    within=st.none() | st.builds(Duration, days=st.integers(1, 400)),
    tags=st.frozensets(st.sampled_from("abc")),
)


@st.composite
def histories(draw):
    """Versions in the order in which they were listed, which need not be that of their times."""
    drawn = draw(st.lists(st.tuples(times, st.frozensets(st.sampled_from("abc"), max_size=2), pins), max_size=25))
    return [
        Candidate(f"{number:02}", time, tags, pinned, until)
        for number, (time, tags, (pinned, until)) in enumerate(drawn)
    ]


def kept(candidates, rules, zone, **options):
    return {d.candidate.id for d in decide(candidates, rules, NOW, zone, **options) if d.keep}


@given(histories(), rule_sets, zones, st.sampled_from([*COUNTS, "within", "tags"]), st.integers(1, 3), st.booleans())
def test_more_of_a_rule_never_drops_what_less_of_it_kept(versions, rules, zone, name, more, allow_last):
    before = getattr(rules, name)
    if name == "within":
        added = Duration(days=before.days + more) if before else Duration(days=more)
    else:
        added = before | {"a"} if name == "tags" else before + more
    larger = replace(rules, **{name: added})
    assert kept(versions, rules, zone, allow_last=allow_last) <= kept(versions, larger, zone, allow_last=allow_last)


@given(histories(), rule_sets, zones, st.booleans())
def test_the_rules_keep_all_of_what_they_kept(versions, rules, zone, allow_last):
    once = kept(versions, rules, zone, allow_last=allow_last)
    left = [version for version in versions if version.id in once]
    assert kept(left, rules, zone, allow_last=allow_last) == once


@given(histories(), rule_sets, zones)
def test_the_newest_is_never_dropped_unless_allowed(versions, rules, zone):
    for among in (versions, [version for version in versions if version.time <= NOW]):
        if among:
            newest = max(enumerate(among), key=lambda entry: (entry[1].time, entry[0]))[1]
            assert newest.id in kept(versions, rules, zone)


@given(histories(), rule_sets, zones, st.booleans())
def test_what_is_pinned_or_lies_in_the_future_is_never_dropped(versions, rules, zone, allow_last):
    held = {
        version.id
        for version in versions
        if version.time > NOW or (version.pinned and (version.pinned_until is None or version.pinned_until > NOW))
    }
    assert held <= kept(versions, rules, zone, allow_last=allow_last)


@given(histories(), rule_sets, zones, st.booleans())
def test_every_reason_is_of_a_rule_that_was_given_and_is_true(versions, rules, zone, allow_last):
    decisions = decide(versions, rules, NOW, zone, allow_last=allow_last)
    for rule in COUNTS:
        named = [d for d in decisions if any(reason.rule.value == rule for reason in d.reasons)]
        assert len(named) <= getattr(rules, rule)
    for decision in decisions:
        assert decision.keep == bool(decision.reasons)
        for reason in decision.reasons:
            match reason.rule:
                case Rule.TAG:
                    assert reason.detail in rules.tags & decision.candidate.tags
                case Rule.WITHIN:
                    assert rules.within is not None
                case Rule.NEWEST:
                    assert len(decision.reasons) == 1
                    assert not allow_last
                case Rule.PINNED:
                    assert decision.candidate.pinned


@given(histories(), rule_sets, zones)
def test_void_rules_keep_what_is_held_and_nothing_else(versions, rules, zone):
    assert rules.are_void == all(getattr(rules, entry.name) in (0, None, frozenset()) for entry in fields(Rules))
    decisions = decide(versions, Rules(), NOW, zone, allow_last=True)
    assert all(d.keep == (d.candidate.is_pinned(NOW) or d.candidate.time > NOW) for d in decisions)
    assert not any(d.is_chosen for d in decisions)


@given(histories(), rule_sets, zones, st.randoms(use_true_random=False))
def test_the_order_of_the_list_decides_between_equal_times_only(versions, rules, zone, random):
    distinct = list({version.time: version for version in versions}.values())
    shuffled = random.sample(distinct, len(distinct))
    assert decide(shuffled, rules, NOW, zone) == decide(distinct, rules, NOW, zone)


def days_of_newest(versions, zone, count):
    """The rule `daily` said once more: the newest of each day, of the days the newest so many."""
    by_day = {}
    for version in sorted(versions, key=lambda version: version.time):
        by_day[version.time.astimezone(zone).date()] = version
    newest = sorted(by_day.values(), key=lambda version: version.time)
    return {version.id for version in newest[len(newest) - min(count, len(newest)) :]}


@given(histories(), zones, st.integers(0, 6))
def test_daily_is_what_its_definition_says(versions, zone, count):
    past = [replace(version, pinned=False) for version in versions if version.time <= NOW]
    assert kept(past, Rules(daily=count), zone, allow_last=True) == days_of_newest(past, zone, count)
