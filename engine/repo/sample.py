"""Samples of the packs: how a check that reads a little each time comes to read everything (rok-repository(5), DAMAGE).

Nothing is remembered from one run to the next. A hash of its name puts each pack into one of a number of parts, and the hour
chooses the part. That number is a prime above 7, so that runs at a fixed distance, be it hours, days or weeks, come past every
part before they come past one again: 24, 168 and their multiples have no factor in common with it.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction
from itertools import count
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from engine.errors import Refused
from engine.units import parse_size
from engine.values import dataclass

if TYPE_CHECKING:  # a sample is asked for before a repository is opened, and with it all that is heavy
    from engine.repo.pack import PackName

_FEWEST_PARTS: Final = 11
_MOST_PARTS: Final = 1 << 20
_HOUR: Final = 3600
_PERCENT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%", re.ASCII)
_NUMBERED: Final = re.compile(r"(\d{1,7})/(\d{1,7})", re.ASCII)
_HINT: Final = "say how much to read as 5%, as 10GiB, or as 3/20 for the third of twenty parts"


@dataclass(frozen=True, slots=True)
class Portion:
    """The parts `first` and following (counted from 0, and round the end), `width` of `parts`."""

    first: int
    width: int
    parts: int

    def __contains__(self, pack: "PackName") -> bool:
        place = int.from_bytes(blake3(str(pack).encode()).digest(length=8), "big")
        return ((place * self.parts >> 64) - self.first) % self.parts < self.width

    def __str__(self) -> str:
        numbers = range(self.first, self.first + self.width)
        return f"{','.join(str(number % self.parts + 1) for number in numbers)}/{self.parts}"


EVERYTHING: Final = Portion(0, 1, 1)


@dataclass(frozen=True, slots=True)
class Share:
    """At most this fraction of the packs, another one each hour."""

    fraction: Fraction

    def portion(self, now: datetime, total: int) -> Portion:
        """What a run at that time reads, of so many bytes in all packs."""
        if self.fraction >= 1:
            return EVERYTHING
        parts = next(_primes_from(max(_FEWEST_PARTS, -(-self.fraction.denominator // self.fraction.numerator))))
        width = int(self.fraction * parts)
        return Portion(int(now.timestamp()) // _HOUR % parts, width, parts)


@dataclass(frozen=True, slots=True)
class AtMost:
    """A share of the packs that has about so many bytes at most: the whole, a half, a quarter, and so on.

    It stays the same until the repository is twice as large: else the parts would not add up.
    """

    size: int

    def portion(self, now: datetime, total: int) -> Portion:
        """What a run at that time reads, of so many bytes in all packs."""
        fraction = Fraction(1)
        while fraction * total > self.size and fraction > Fraction(1, _MOST_PARTS):
            fraction /= 2
        return Share(fraction).portion(now, total)


@dataclass(frozen=True, slots=True)
class Part:
    """One part by its number from 1, for who counts the runs."""

    number: int
    parts: int

    def portion(self, now: datetime, total: int) -> Portion:
        """What a run reads, whenever it is."""
        return Portion(self.number - 1, 1, self.parts)


Sample = Share | AtMost | Part
ALL: Final = Share(Fraction(1))


def parse_sample(text: str) -> Sample:
    """`5%`, `10GiB` or `3/20`. Raises Refused."""
    if match := _PERCENT.fullmatch(text):
        share = Fraction(match[1]) / 100
        if Fraction(1, _MOST_PARTS) <= share <= 1:
            return Share(share)
    elif match := _NUMBERED.fullmatch(text):
        number, parts = int(match[1]), int(match[2])
        if 1 <= number <= parts <= _MOST_PARTS:
            return Part(number, parts)
    else:
        try:
            size = parse_size(text)
        except Refused as error:
            raise Refused(error.message, hint=_HINT) from None
        if size > 0:
            return AtMost(size)
    raise Refused(f"{text!r} is no sample of the packs", hint=_HINT)


def _primes_from(start: int) -> Iterator[int]:
    return (number for number in count(start) if all(number % factor for factor in range(2, int(number**0.5) + 1)))
