"""Reading a sample of the packs each time comes to read all of them, and nothing needs to be remembered."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Refused
from engine.repo.pack import PackName
from engine.repo.sample import ALL, AtMost, Part, Portion, Share, parse_sample
from engine.units import GIB, MIB

START = datetime(2026, 11, 24, 3, 17, tzinfo=UTC)
PACKS = [PackName(f"{owner:032x}", number) for owner in range(20) for number in range(40)]
SHARES = [Share(Fraction(percent, 100)) for percent in (1, 2, 5, 10, 25, 33, 50, 99)]


def every(distance):
    now = START
    while True:
        yield now
        now += distance


def monthly():
    year, month = 2026, 11
    while True:
        yield datetime(year, month, 1, 3, 17, tzinfo=UTC)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)


def parts_read(sample, times):
    """Which of the parts were read, and how many there are."""
    portions = [sample.portion(now, 0) for now in times]
    read = {(portion.first + step) % portion.parts for portion in portions for step in range(portion.width)}
    return len(read), portions[0].parts


@pytest.mark.parametrize("hours", [1, 2, 3, 6, 12, 24, 48, 7 * 24, 14 * 24, 28 * 24], ids=lambda hours: f"{hours}h")
@pytest.mark.parametrize("share", SHARES, ids=lambda share: f"{share.fraction}")
def test_runs_at_a_fixed_distance_read_everything_in_as_many_runs_as_there_are_parts(share, hours):
    parts = share.portion(START, 0).parts
    read, of = parts_read(share, islice(every(timedelta(hours=hours)), parts))
    assert read == of


@pytest.mark.parametrize("share", SHARES, ids=lambda share: f"{share.fraction}")
def test_monthly_runs_read_everything_in_five_times_as_many(share):
    parts = share.portion(START, 0).parts
    read, of = parts_read(share, islice(monthly(), 5 * parts))
    assert read == of


@pytest.mark.parametrize("share", SHARES, ids=lambda share: f"{share.fraction}")
def test_a_run_reads_no_more_than_its_share_and_not_much_less(share):
    portion = share.portion(START, 0)
    assert share.fraction / 2 < Fraction(portion.width, portion.parts) <= share.fraction


@given(st.integers(1, 50), st.sampled_from(PACKS))
def test_each_pack_is_in_exactly_one_part(parts, pack):
    assert sum(pack in Portion(first, 1, parts) for first in range(parts)) == 1


def test_the_packs_spread_over_the_parts():
    sizes = [sum(pack in Portion(first, 1, 11) for pack in PACKS) for first in range(11)]
    assert max(sizes) < 2 * len(PACKS) / 11
    assert min(sizes) > len(PACKS) / 11 / 2


def test_all_is_all_at_any_time():
    assert all(pack in ALL.portion(START, 0) for pack in PACKS)


def test_a_size_is_a_share_that_stays_while_the_repository_does_not_double():
    at = {total: AtMost(10 * GIB).portion(START, total * GIB).parts for total in (5, 10, 15, 20, 100, 130, 160, 161)}
    assert (at[5], at[10]) == (1, 1)
    assert at[100] == at[130] == at[160] == 17
    assert at[161] > 17


def test_the_third_of_twenty_parts_is_that_whenever_it_is_asked_for():
    assert {str(Part(3, 20).portion(now, 0)) for now in islice(monthly(), 5)} == {"3/20"}


@pytest.mark.parametrize(
    ("text", "sample"),
    [
        ("5%", Share(Fraction(1, 20))),
        ("0.5%", Share(Fraction(1, 200))),
        ("100%", ALL),
        ("3/20", Part(3, 20)),
        ("1/1", Part(1, 1)),
        ("10GiB", AtMost(10 * GIB)),
        ("64M", AtMost(64 * MIB)),
    ],
)
def test_a_sample_is_a_share_a_size_or_a_part(text, sample):
    assert parse_sample(text) == sample


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0%",
        "101%",
        "-5%",
        "1e9%",
        "1/0",
        "0/5",
        "6/5",
        "a/b",
        "1/2/3",
        "five",
        "0",
        "-1G",
        "%",
        "0.0000001%",
        "\u0663/\u0665",
    ],
)
def test_another_is_refused_with_how_to_say_it(text):
    with pytest.raises(Refused) as refused:
        parse_sample(text)
    assert "3/20" in refused.value.hint
