"""Durations as people write them, and what they mean across months, leap years and clock changes."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Refused
from engine.policy.duration import Duration, parse_duration

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("30d", Duration(days=30)),
        ("12h", Duration(hours=12)),
        ("2w", Duration(weeks=2)),
        ("1y6m", Duration(years=1, months=6)),
        ("1y2m3w4d5h", Duration(1, 2, 3, 4, 5)),
        ("007d", Duration(days=7)),
    ],
)
def test_a_duration_is_read(text, duration):
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "0d", "0y0h", "30", "d", "-1d", "1.5d", "6m1y", "1d1d", "1D", "1 d", "1s", "٣d", "1d\n"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(Refused, match="not a duration"):
        parse_duration(text)


counts = st.integers(0, 99999)


@given(st.builds(Duration, counts, counts, counts, counts, counts).filter(lambda duration: duration != Duration()))
def test_a_duration_is_written_as_it_is_read(duration):
    assert parse_duration(str(duration)) == duration


@pytest.mark.parametrize(
    ("text", "moment", "before"),
    [
        ("1m", "2024-03-31T12:00+02:00", "2024-02-29T12:00+01:00"),  # a leap year's February
        ("1m", "2023-03-31T12:00+02:00", "2023-02-28T12:00+01:00"),
        ("1y", "2024-02-29T12:00+01:00", "2023-02-28T12:00+01:00"),
        ("1y6m", "2024-02-29T12:00+01:00", "2022-08-29T12:00+02:00"),
        ("1d", "2026-03-29T12:00+02:00", "2026-03-28T12:00+01:00"),  # over a day of 23 hours
        ("24h", "2026-03-29T12:00+02:00", "2026-03-28T11:00+01:00"),
        ("1d", "2026-10-25T12:00+01:00", "2026-10-24T12:00+02:00"),  # over a day of 25
        ("24h", "2026-10-25T12:00+01:00", "2026-10-24T13:00+02:00"),
        ("1d", "2026-10-26T02:30+01:00", "2026-10-25T02:30+02:00"),  # to a time that came twice: the first
        ("1h", "2026-10-25T02:30+01:00", "2026-10-25T02:30+02:00"),  # from the second to the first
    ],
)
def test_a_duration_before_a_moment(text, moment, before):
    found = parse_duration(text).before(datetime.fromisoformat(moment), BERLIN)
    assert found == datetime.fromisoformat(before)


@pytest.mark.parametrize("text", ["9999y", "99999m", "99999w99999d", "99999y"])
def test_longer_than_the_calendar_is_since_its_beginning(text):
    start = parse_duration(text).before(datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=365 * 400), BERLIN)
    assert start == datetime.min.replace(tzinfo=UTC)


small = st.integers(0, 40)
moments = st.integers(10**9, 2 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, BERLIN))


@given(moments, small, small, small, st.sampled_from(["years", "months", "weeks", "days", "hours"]))
def test_a_longer_duration_never_reaches_less_far_back(moment, months, days, hours, unit):
    shorter = {"years": 0, "months": months, "weeks": 0, "days": days, "hours": hours}
    longer = {**shorter, unit: shorter[unit] + 1}
    if unit != "hours" and not (months or days):
        longer = {**longer, "hours": hours + 1}  # a day of 23 hours may begin less than 24 hours ago
    if Duration(**shorter) != Duration():
        assert Duration(**longer).before(moment, BERLIN) <= Duration(**shorter).before(moment, BERLIN)
