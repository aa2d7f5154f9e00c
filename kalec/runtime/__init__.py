"""What travels inside each step: one Python text that needs the standard library alone, of 3.9 or later.

The modules beside this file are its parts. It is the same text everywhere, on a cluster and in `kalec run`. It stands in a
pipeline once for each step, so it travels packed; `kalec.runtime.packed` has it that way, written by
`kalec.runtime.packing` and not made anew by each compilation: other builds of zlib would make other bytes of it.
A step is executed by

    run_step(STEP, parameters, inputs, output) -> {"metrics": {"accuracy": 0.9}}

whose promise stands in `kalec.runtime.step`; `describe` makes its first argument from the model. Whoever embeds the text
loads it as a module of its own, so that no name of it is among the user's:

    runtime = types.ModuleType("kalec_runtime"); exec(TEXT, runtime.__dict__)

and shows a `StepError` that it raises (CellFailed and the others are kinds of it) by its text alone.
"""

from functools import cache
from typing import Any

from kalec.model import Cell, JsonValue, Read, Step
from kalec.runtime.packed import PACKED


@cache
def source_text() -> str:
    """The text. It defines `run_step`, `execute_step`, `main`, `StepError` and its kinds, and executes nothing."""
    import base64  # here, since a compilation takes it packed
    import zlib

    return zlib.decompress(base64.b64decode(PACKED)).decode()


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
