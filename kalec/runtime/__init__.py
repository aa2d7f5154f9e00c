"""What travels inside each step: one Python text that needs the standard library alone, of 3.9 or later.

The modules beside this file are its parts; `source_text` joins them, without their comments, for it stands in a pipeline once
for each step. It is the same text everywhere, on a cluster and in `kalec run`. A step is executed by

    run_step(STEP, parameters, inputs, output) -> {"metrics": {"accuracy": 0.9}}

whose promise stands in `kalec.runtime.step`; `describe` makes its first argument from the model. Whoever embeds the text
loads it as a module of its own, so that no name of it is among the user's:

    runtime = types.ModuleType("kalec_runtime"); exec(TEXT, runtime.__dict__)

and shows a `StepError` that it raises (CellFailed and the others are kinds of it) by its text alone.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from kalec.model import Cell, JsonValue, Read, Step

PARTS: Final = ("failure", "formats", "plain", "pickles", "marshal", "step")
"""The modules of the text, each after those that it needs."""

_DOCSTRING: Final = re.compile(r'^( *)r?"""(?:(?!""")[\s\S])*"""\n', re.MULTILINE)
_OWN_IMPORT: Final = re.compile(r"^from (?:kalec|__future__)[\w.]* import (?:\([^)]*\)|.*)\n", re.MULTILINE)
_COMMENT: Final = re.compile(r"^ *#.*\n|  # .*$", re.MULTILINE)


@cache
def source_text() -> str:
    """The text. It defines `run_step`, `save`, `load`, `main`, `StepError` and its kinds, and executes nothing."""
    heading = '"""The runtime of a step: its values from files and back, and its cells. Written by kalec."""\n'
    parts = [_part(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")) for name in PARTS]
    return heading + "\nfrom __future__ import annotations\n\n" + "".join(parts)


def describe(step: Step) -> dict[str, Any]:
    """What `run_step` is told about a step: plain JSON."""
    return {
        "name": step.name,
        "opening": [_cell(part) if isinstance(part, Cell) else _read(part) for part in step.opening],
        "cells": [_cell(cell) for cell in step.cells],
        "writes": [{"name": write.name, "optional": write.optional} for write in step.writes],
        "metrics": [{"name": metric.name, "expression": metric.expression} for metric in step.metrics],
    }


def _cell(cell: Cell) -> dict[str, JsonValue]:
    label = f"{cell.file}:cell {cell.number}" if cell.in_notebook else cell.file
    return {"label": label, "line": cell.first_line, "source": cell.source}


def _read(read: Read) -> dict[str, JsonValue]:
    return {"read": read.name, "from": read.step, "optional": read.optional}


def _part(text: str) -> str:
    """A module without comments, docstrings and what it imports from the other parts.

    By pattern, since to parse it would take longer than all else of a compilation; a test holds the result to be the same
    program.
    """
    text = _DOCSTRING.sub(lambda found: f"{found[1]}pass\n" if found[1] else "", text)
    return _COMMENT.sub("", _OWN_IMPORT.sub("", text))
