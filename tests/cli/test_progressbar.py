"""The bar is there while bytes move, and does not touch what is printed when none do."""

import io
import sys

from rokctl.progressbar import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_standard_output_is_in_the_hands_of_the_bar_only_during_a_phase(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    before = sys.stdout
    with progress_bar(wanted=True) as progress:
        for _ in range(2):
            assert sys.stdout is before
            progress.begin("reading", 100)
            assert sys.stdout is not before
            progress.begin("sending", None)
            progress.advance(5)
            progress.end()
            assert sys.stdout is not before
            progress.end()
        assert sys.stdout is before
        progress.begin("reading", 100)
    assert sys.stdout is before
    assert "reading" in sys.stderr.getvalue()


def test_without_a_terminal_nothing_is_drawn(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar(wanted=True) as progress:
        progress.begin("reading", 100)
        progress.end()
    assert sys.stderr.getvalue() == ""
