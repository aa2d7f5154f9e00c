"""What people and scripts read: tables that fit, or paragraphs; nothing cut short, nothing that drives the terminal."""

import io
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.device.base import Outcome
from engine.repo.naming import ObjectName
from engine.units import MIB
from rokctl import render
from rokctl.render import Amount, Output, plain, printable


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    size: int
    made: datetime = datetime(2026, 11, 24, 8, 15, tzinfo=UTC)
    outcome: Outcome = Outcome.CREATED


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def table(things: list[Thing], *, terminal: bool = False, monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> str:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    Output(as_json=False, quiet=False).listing(things, {"NAME": lambda t: t.name, "SIZE": lambda t: Amount(t.size)})
    return out.getvalue()


def test_sizes_stand_to_the_right_and_names_to_the_left(monkeypatch):
    text = table([Thing("a", 5), Thing("longer", 20 * MIB)], monkeypatch=monkeypatch)
    assert text.splitlines() == ["NAME        SIZE", "a            5 B", "longer  20.0 MiB"]


def test_wide_characters_take_their_room(monkeypatch):
    text = table([Thing("🐴🐴", 5), Thing("abcd", 6)], monkeypatch=monkeypatch)
    assert text.splitlines()[1:] == ["🐴🐴   5 B", "abcd   6 B"]


def test_a_pipe_gets_no_colour_and_no_line_is_broken(monkeypatch):
    text = table([Thing("x" * 200, 5)], monkeypatch=monkeypatch)
    assert "\x1b" not in text
    assert text.splitlines()[1] == "x" * 200 + "   5 B"


def test_a_terminal_gets_bold_headings_unless_no_color_is_set(monkeypatch):
    assert table([Thing("a", 5)], terminal=True, monkeypatch=monkeypatch).startswith("\x1b[1mNAME  SIZE\x1b[0m\n")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in table([Thing("a", 5)], terminal=True, monkeypatch=monkeypatch)


def test_on_a_narrow_terminal_nothing_is_cut_short(monkeypatch):
    text = table([Thing("x" * 30, 5), Thing("y" * 30, 6)], terminal=True, monkeypatch=monkeypatch, columns=20)
    assert text.splitlines() == ["NAME  " + "x" * 30, "SIZE  5 B", "", "NAME  " + "y" * 30, "SIZE  6 B"]


def test_an_empty_listing_prints_nothing(monkeypatch):
    assert table([], monkeypatch=monkeypatch) == ""


def test_quiet_drops_results_for_people_but_not_for_scripts(capsys):
    Output(as_json=False, quiet=True).result("done", Thing("a", 5))
    assert capsys.readouterr().out == ""
    Output(as_json=True, quiet=True).result("done", Thing("a", 5))
    assert json.loads(capsys.readouterr().out)["name"] == "a"


def test_json_has_bytes_utc_and_values():
    thing = Thing("a", 5, datetime(2026, 11, 24, 9, 15, tzinfo=timezone(timedelta(hours=1))))
    assert plain(thing) == {"name": "a", "size": 5, "made": "2026-11-24T08:15:00Z", "outcome": "created"}
    assert plain({"object": ObjectName("b", "o"), "root": b"\x01", "many": (1, None)}) == {
        "object": "b/o",
        "root": "01",
        "many": [1, None],
    }


@given(st.text())
def test_no_text_can_drive_the_terminal_or_break_a_line(text):
    assert printable(text).isprintable()


@given(st.text())
def test_a_json_line_is_one_line_of_ascii_and_gives_the_text_back(text):
    line = render.json_line({"text": text})
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == {"text": text}
