"""Sizes as people write them, and back."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Refused
from engine.units import GIB, KIB, MIB, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("512 b", 512),
        ("1.0", 1),
        ("64KiB", 64 * KIB),
        ("64k", 64 * KIB),
        ("64 kib", 64 * KIB),
        ("  10G ", 10 * GIB),
        ("1.5M", 3 * MIB // 2),
        ("0.5KiB", 512),
        ("1KB", 1000),
        ("1.5 TB", 1_500_000_000_000),
        ("2T", 2 << 40),
        ("3P", 3 << 50),
        ("7E", 7 << 60),
        ("1EB", 10**18),
        ("007", 7),
        ("12345678901234567890.5E", 12345678901234567890 * 2**60 + 2**59),  # exact, where a float or Decimal rounds
    ],
)
def test_a_size_is_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "G",
        "-1",
        "+1",
        "1,5G",
        ".5G",
        "5.",
        "1e3",
        "10 Gi",
        "10GG",
        "10iB",
        "1 0",
        "0x10",
        "1_000",
        "ten",
        "٣",
        "1\u212a",
    ],
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(Refused, match="is not a size") as refused:
        parse_size(text)
    assert refused.value.hint


@pytest.mark.parametrize("text", ["1.5", "0.1K", "1.0001KB", "0.00000000000000000001E"])
def test_a_part_of_a_byte_is_refused(text):
    with pytest.raises(Refused, match="is not a whole number of bytes"):
        parse_size(text)


@given(st.integers(0, 10**15), st.sampled_from("KMGTPE"), st.sampled_from(["", "iB", "B", "ib"]), st.booleans())
def test_a_whole_number_of_any_unit_is_read(number, letter, suffix, space):
    base = 1000 if suffix == "B" else 1024

    assert parse_size(f"{number}{' ' * space}{letter}{suffix}") == number * base ** ("KMGTPE".index(letter) + 1)


@given(st.integers(0, 2**63))
def test_a_size_in_bytes_comes_back(size):
    assert parse_size(str(size)) == parse_size(f"{size}B") == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10_230, "9.99 KiB"),
        (10_235, "10.0 KiB"),
        (102_394, "100 KiB"),
        (1000 * KIB, "1000 KiB"),
        (1023 * KIB, "1023 KiB"),
        (1024 * KIB - 512, "1.00 MiB"),
        (1024 * KIB - 1, "1.00 MiB"),
        (MIB, "1.00 MiB"),
        (2_083_059_139, "1.94 GiB"),
        (1 << 40, "1.00 TiB"),
        (1 << 50, "1.00 PiB"),
        (1 << 60, "1.00 EiB"),
        (1 << 72, "4096 EiB"),
        (-1536, "-1.50 KiB"),
    ],
)
def test_a_size_is_written(size, text):
    assert format_size(size) == text


@given(st.one_of(st.integers(0, 2**20), st.integers(0, 2**63)))
def test_a_written_size_is_within_half_a_percent(size):
    number, unit = format_size(size).split()
    factor = 1 if unit == "B" else 1024 ** ("KMGTPE".index(unit[0]) + 1)

    assert abs(Fraction(number) * factor - size) <= Fraction(size, 200)
    assert Fraction(number) >= 1 or size == 0
    assert Fraction(number) < 1024


@given(st.integers(1, 1023), st.integers(0, 6))
def test_a_round_size_comes_back_from_what_is_written(number, power):
    assert parse_size(format_size(number * 1024**power)) == number * 1024**power
