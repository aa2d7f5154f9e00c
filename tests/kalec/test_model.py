"""What the model says of itself: places, severities, ancestors."""

import json
from pathlib import Path

import pytest

from kalec.errors import EXIT_CODES, Failed, KalecError, exit_code
from kalec.load import load_pipeline
from kalec.model import Cell, Diagnostic, Place, Severity, worst


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (Place("n.ipynb", 7, 3, 5, "ab12"), "n.ipynb:cell 7 [ab12]:3:5"),
        (Place("n.ipynb", 7, 3, 5), "n.ipynb:cell 7:3:5"),
        (Place("n.ipynb", 7, 0, 0, "ab12"), "n.ipynb:cell 7 [ab12]"),
        (Place("p.py", 0, 12, 5), "p.py:12:5"),
        (Place("p.py"), "p.py"),
    ],
)
def test_a_place_reads_as_an_editor_takes_it(place, text):
    assert str(place) == text


def test_a_cell_of_a_text_file_counts_lines_within_the_file():
    cell = Cell("p.py", 2, "", "x = 1\ny = 2", first_line=10, in_notebook=False)
    assert cell.place(2, 3) == Place("p.py", 0, 11, 3)


def test_the_worst_of_several_findings_is_their_highest_severity():
    findings = [Diagnostic("KLC104", severity, "", Place("n.ipynb")) for severity in (Severity.WARNING, Severity.NOTE)]
    assert worst(findings) is Severity.WARNING
    assert worst([]) is None


def test_an_error_of_a_kind_without_a_code_of_its_own_ends_as_failed():
    class Odd(KalecError):
        pass

    assert exit_code(Odd("x")) == EXIT_CODES[Failed]


def test_a_variable_travels_along_an_edge():
    tags = [["step:first"], ["step:second", "prev:first"]]
    cells = [
        {"cell_type": "code", "id": f"c{number}", "metadata": {"tags": tags[number]}, "source": source, "outputs": []}
        for number, source in enumerate(["x = 1", "y = x"])
    ]
    text = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})
    pipeline = load_pipeline(Path("n.ipynb"), text=text).pipeline
    assert [(read.name, read.step) for read in pipeline.step("second").reads] == [("x", "first")]
    assert pipeline.ancestors("second") == {"first"}
