"""What people and scripts read: tables and sentences, or JSON, one object a line. Results go to stdout, talk to stderr."""

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, TypeVar

from engine.units import format_size
from engine.values import dataclass

Item = TypeVar("Item")
Columns = Mapping[str, Callable[[Item], object]]

_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Amount:
    """Bytes to be shown to people, where they are known."""

    size: int | None


class Output:
    """Where a command puts its results. With `as_json` every result is one JSON object on a line of its own."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet

    def listing(
        self, items: Iterable[Item], columns: Columns[Item], record: Callable[[Item], object] | None = None
    ) -> None:
        """Many things of one kind: a table for people. `record` gives what JSON shows of an item, if not the item."""
        if self.as_json:
            for item in items:
                self._line(record(item) if record else item)
            return
        rows = [[cell(item) for cell in columns.values()] for item in items]
        if rows:
            _print_table(list(columns), rows)

    def sheet(self, thing: object, lines: Mapping[str, object]) -> None:
        """One thing in full: a line for each of its properties. JSON shows `thing`."""
        if self.as_json:
            self._line(thing)
            return
        width = max(len(name) for name in lines)
        for name, value in lines.items():
            print_line(f"{name:<{width}}  {shown(value)}")

    def result(self, sentence: str, record: object) -> None:
        """What a command has done: a sentence, which --quiet leaves out, or a JSON object, which it does not."""
        if self.as_json:
            self._line(record)
        elif not self.quiet:
            print_line(sentence)

    def talk(self, sentence: str) -> None:
        """Something to know while a command runs; never part of its result."""
        if not self.quiet:
            sys.stderr.write(f"rokctl: {printable(sentence)}\n")
            sys.stderr.flush()

    def _line(self, record: object) -> None:
        sys.stdout.write(json_line(record) + "\n")
        sys.stdout.flush()  # a reader at the other end of a pipe sees each result when it is there


def print_line(text: str) -> None:
    """One line on stdout, at once."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def json_line(record: object) -> str:
    """A record as one line of JSON, in ASCII so that no locale can spoil it."""
    return json.dumps(plain(record), ensure_ascii=True)


def plain(value: object) -> Any:
    """The value in JSON's own types: a dataclass by its fields, a time in ISO 8601 and UTC, an enum by its value."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return moment(value)
        case Enum():
            return plain(value.value)
        case Mapping():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(inner) for inner in value]
        case bytes():
            return value.hex()
        case PurePath():
            return str(value)
    if dataclasses.is_dataclass(value) and type(value).__str__ is object.__str__:
        return {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    return str(value)


def moment(time: datetime) -> str:
    """ISO 8601 in UTC, to the second: `2026-11-24T08:15:00Z`."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def shown(value: object) -> str:
    """A cell of a table or a line of a sheet, for people."""
    match value:
        case None | Amount(None):
            return "-"
        case bool():
            return "yes" if value else "no"
        case Amount(int(size)):
            return format_size(size)
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        case Enum():
            return str(value.value)
        case Mapping():
            return ", ".join(f"{key}={inner}" for key, inner in value.items()) or "-"
        case list() | tuple():
            return ", ".join(shown(inner) for inner in value) or "-"
        case "":
            return "-"
    return printable(str(value))


def rate(value: float, seconds: float) -> str:
    """So much in so many seconds, for people."""
    return f"{format_size(int(value / seconds))}/s" if seconds > 0 else "-"


def printable(text: str) -> str:
    """The text with control characters escaped: a name or a message must not be able to drive the terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table where it fits, else one paragraph a row: an identifier that is cut short is of no use."""
    texts = [list(headings), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*texts, strict=True)]
    numbers = [all(isinstance(cell, int | Amount | None) for cell in column) for column in zip(*rows, strict=True)]
    on_terminal = sys.stdout.isatty()
    if on_terminal and sum(widths) + 2 * (len(widths) - 1) > shutil.get_terminal_size().columns:
        _print_paragraphs(headings, texts[1:])
        return
    for number, line in enumerate(texts):
        gaps = [" " * (width - _width(text)) for text, width in zip(line, widths, strict=True)]
        cells = (gap + text if right else text + gap for text, gap, right in zip(line, gaps, numbers, strict=True))
        text = "  ".join(cells).rstrip()
        sys.stdout.write(f"{text}\n" if number or not (on_terminal and _has_styles()) else f"{_BOLD}{text}{_PLAIN}\n")
    sys.stdout.flush()


def _print_paragraphs(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    width = max(map(len, headings))
    for number, row in enumerate(rows):
        if number:
            print_line("")
        for heading, text in zip(headings, row, strict=True):
            print_line(f"{heading:<{width}}  {text}")


def _width(text: str) -> int:
    """How many cells of a terminal a text fills; it holds no control characters."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _has_styles() -> bool:
    """Whether a terminal is to get more than plain text: https://no-color.org, and terminals that know no escapes."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
