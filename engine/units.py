"""Sizes and rates as people write them, and back. Inside, every size is a plain int of bytes."""

import re
from typing import Final

from engine.errors import Refused

SECTOR: Final = 512
KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

_UNITS: Final = "KMGTPE"
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*(?:([KMGTPE])(I?B)?|B)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """Bytes from `10G`, `64KiB`, `1.5 TB`, `4096`.

    A bare letter and `iB` are powers of 1024, as in LVM and restic; `KB`, `MB`, … are powers of 1000.
    Raises Refused when the text is no size, or is not a whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise Refused(f"{text!r} is not a size", hint="write it as 4096, 64KiB, 10G or 1.5T")
    number, letter, suffix = match.groups()
    power = _UNITS.index(letter.upper()) + 1 if letter else 0
    factor: int = (1000 if (suffix or "").upper() == "B" else 1024) ** power
    whole, _, fraction = number.partition(".")
    # In integers: a Decimal rounds to 28 digits, and a float to fewer.
    parts: int = 10 ** len(fraction)
    size, rest = divmod(int(whole + fraction) * factor, parts)
    if rest:
        raise Refused(f"{text!r} is not a whole number of bytes", hint="choose a smaller unit")
    return size


def format_size(size: int) -> str:
    """A size for people, to three digits or all before the point, in powers of 1024: `1.94 GiB`, `1000 KiB`."""
    if abs(size) < KIB:
        return f"{size} B"
    value = float(size)
    for letter in _UNITS:
        value /= 1024
        if abs(value) < 1023.5 or letter == _UNITS[-1]:
            break
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {letter}iB"
