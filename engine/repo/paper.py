"""The paper copy of a master key: six lines that a person can type back (rok-repository(5), PAPER). No input or output."""

import re
import textwrap
from dataclasses import field
from datetime import datetime
from typing import Final

from blake3 import blake3

from engine.errors import Refused
from engine.values import dataclass

_ID: Final = 16
_MASTER: Final = 32
_PER_LINE: Final = 8
_LINES: Final = (_ID + _MASTER) // _PER_LINE
_CHECK: Final = 2
_DIGITS: Final = 2 * (_PER_LINE + _CHECK)
_LINE: Final = re.compile(r"([0-9]{1,3})[:;.](.*)")

_TEXT: Final = """\
THE MASTER KEY OF A ROKCTL REPOSITORY

Repository  {id}
At          {url}
Printed     {printed:%Y-%m-%d}

{lines}

Whoever holds this page can read all of the repository: keep it as you would
keep the only key of a safe. It goes on to open the repository when every
passphrase is changed.

When no passphrase is left, type the six lines above into a file, white space
and capitals as you like, and give yourself a new passphrase with

    rokctl repo key add --from-paper FILE --repo URL

The last four digits of a line are its check: a line that is mistyped is named.
"""


@dataclass(frozen=True, slots=True)
class PaperKey:
    """What a paper copy holds. The master key is left out of its repr."""

    repository_id: str
    master: bytes = field(repr=False)


def paper_lines(key: PaperKey) -> list[str]:
    """The lines that are typed back: a number, eight bytes in hexadecimal, and the check."""
    content = bytes.fromhex(key.repository_id) + key.master
    assert len(content) == _LINES * _PER_LINE
    lines = []
    for number in range(1, _LINES + 1):
        digits = (content[(number - 1) * _PER_LINE : number * _PER_LINE] + _check(content, number)).hex()
        lines.append(f"{number}:  {' '.join(textwrap.wrap(digits, 4))}")
    return lines


def paper_text(key: PaperKey, url: str, printed: datetime) -> str:
    """The page. Its first line to its last are ASCII, as far as the URL is."""
    lines = "\n".join(f"    {line}" for line in paper_lines(key))
    return _TEXT.format(id=key.repository_id, url=url, printed=printed, lines=lines)


def parse_paper(text: str) -> PaperKey:
    """Read the page, or its six lines alone, in any case and spacing. Raises Refused, naming the first line that is wrong."""
    typed = {int(match[1]): match[2] for match in map(_LINE.fullmatch, map(str.strip, text.splitlines())) if match}
    content = b""
    for number in range(1, _LINES + 1):
        if number not in typed:
            raise Refused(f"the paper copy lacks line {number}", hint=f"type the lines 1: to {_LINES}:")
        digits = "".join(typed[number].split())
        if not re.fullmatch(f"[0-9a-fA-F]{{{_DIGITS}}}", digits):
            raise Refused(
                f"line {number} of the paper copy is not {_DIGITS} hexadecimal digits ({len(digits)} were typed)",
                hint="compare it with the paper: the digits are 0 to 9 and a to f",
            )
        line = bytes.fromhex(digits)
        content += line[:_PER_LINE]
        if line[_PER_LINE:] != _check(content, number):
            raise Refused(f"line {number} of the paper copy is mistyped", hint="compare it with the paper")
    return PaperKey(content[:_ID].hex(), content[_ID:])


def _check(content: bytes, number: int) -> bytes:
    """Over all lines up to this one, so that a slip that one check misses is found by the next, and no two papers mix."""
    return blake3(content[: number * _PER_LINE]).digest(length=_CHECK)
