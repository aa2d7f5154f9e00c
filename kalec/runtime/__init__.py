"""What travels inside each step: one Python text that needs the standard library alone, of 3.9 or later.

The modules beside this file are its parts; `source_text` joins them, without their comments, for it stands in a pipeline once
for each step. It is the same text everywhere, on a cluster and in `kalec run`. A step is executed by

    run_step(STEP, parameters, inputs, output) -> {"metrics": {"accuracy": 0.9}}

whose promise stands in `kalec.runtime.step`; `describe` makes its first argument from the model. Whoever embeds the text
loads it as a module of its own, so that no name of it is among the user's:

    runtime = types.ModuleType("kalec_runtime"); exec(TEXT, runtime.__dict__)

and shows a `StepError` that it raises (CellFailed and the others are kinds of it) by its text alone.
"""

import ast
import io
import tokenize
from functools import cache
from pathlib import Path
from typing import Any, Final

from kalec.model import Cell, JsonValue, Read, Step

PARTS: Final = ("failure", "formats", "plain", "pickles", "marshal", "step")
"""The modules of the text, each after those that it needs."""


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
    """A module without comments, docstrings and what it imports from the other parts."""
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            before = lines[row - 1][:column].rstrip()
            lines[row - 1] = before + "\n" if before else ""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("kalec", "__future__"):
            _drop(lines, node)
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            _drop(lines, node.body[0], "" if len(node.body) > 1 else " " * node.body[0].col_offset + "pass\n")
    return "".join(lines)


def _drop(lines: list[str], node: ast.stmt, instead: str = "") -> None:
    end = node.end_lineno or node.lineno
    lines[node.lineno - 1 : end] = [instead] + [""] * (end - node.lineno)
