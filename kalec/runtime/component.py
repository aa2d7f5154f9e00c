"""The KFP side of a step: from what KFP hands to its function to what `run_step` takes, and back."""

from __future__ import annotations

import io
import json
import math
import os
import sys
from typing import Any

from kalec.runtime.failure import StepError
from kalec.runtime.step import run_step

PATHS = "KALEC_PATHS"  # in the environment: {"/data": "/elsewhere"}, for a machine where nothing is mounted at /data


def execute_step(
    step: dict[str, Any],
    parameters: dict[str, Any],
    inputs: dict[str, str],
    output: str,
    *,
    types_of: dict[str, list[Any]],
    folder: str = "",
    metrics: Any = None,
    report: Any = None,
) -> None:
    """Execute a step in this process; a step that fails says why and leaves with 1.

    `parameters` has the values that KFP gave, `types_of` for each its type and default. `inputs` has the folder of values
    for each step that some come from, `output` is the folder for those of this one ("" when nobody reads any). `folder` is
    the one to work in, where it exists. `metrics` and `report` are the artifacts of KFP to fill in, if there are any.
    """
    import tempfile  # here, since a step of `kalec run` does without, and a run has many

    paths = json.loads(os.environ.get(PATHS) or "{}")
    given = {name: restore(parameters[name], kind, default) for name, (kind, default) in types_of.items()}
    inputs = {name: moved(path, paths) for name, path in inputs.items()}
    output = moved(output, paths) if output else tempfile.mkdtemp()
    work_in(moved(folder, paths))
    spoken = Spoken()
    try:
        with spoken:
            measured = run_step(step, given, inputs, output, paths)["metrics"]
    except StepError as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - the log of the step
        sys.exit(1)
    if report is not None:
        write_report(report.path, step, measured, spoken.text())
    for name, value in measured.items():
        print(f"kalec: metric {name}={value!r}", flush=True)  # noqa: T201 - the log of the step, which `kalec tune` reads
        if metrics is not None and math.isfinite(value):
            metrics.log_metric(name, value)  # KFP loses a run over a number that JSON does not have


def restore(value: Any, kind: str, default: Any) -> Any:
    """A parameter as what it was: KFP carries every number as a double, and forgets the order of keys.

    What equals the default is the default, to the type. Otherwise a number inside a list or an object is an int when it is
    whole, as in JSON.
    """
    if value is None:
        return None
    if kind in ("int", "float"):
        return {"int": int, "float": float}[kind](value)
    if kind in ("list", "dict"):
        return default if carried(value) == carried(default) else whole(value)
    return value


def carried(value: Any) -> str:
    """What is left of a value on its way, as text."""
    return json.dumps(json.loads(json.dumps(value), parse_int=float), sort_keys=True)


def whole(value: Any) -> Any:
    """The value with its whole numbers as int."""
    if isinstance(value, dict):
        return {key: whole(member) for key, member in value.items()}
    if isinstance(value, list):
        return [whole(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def moved(path: str, paths: dict[str, str]) -> str:
    """The path, or where it is on this machine instead."""
    for mounted, elsewhere in paths.items():
        if path == mounted or path.startswith(mounted.rstrip("/") + "/"):
            return elsewhere + path[len(mounted.rstrip("/")) :]
    return path


def work_in(folder: str) -> None:
    """Work in the notebook's folder where the step has it; say so where it has not."""
    if not folder:
        return
    try:
        os.chdir(folder)
    except OSError as error:
        print(f"kalec: working in {os.getcwd()}, since {folder} cannot be used: {error}", flush=True)  # noqa: T201, PTH109


class Spoken:
    """While it is entered, what is printed is kept too."""

    def __init__(self) -> None:
        self.kept = io.StringIO()

    def __enter__(self) -> None:
        self.before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Twice(sys.stdout, self.kept), Twice(sys.stderr, self.kept)

    def __exit__(self, *_: object) -> None:
        sys.stdout, sys.stderr = self.before

    def text(self) -> str:
        """All that was printed."""
        return self.kept.getvalue()


class Twice:
    """A stream that writes to another one, and keeps the text."""

    def __init__(self, stream: Any, kept: io.StringIO) -> None:
        self.stream, self.kept = stream, kept

    def write(self, text: str) -> Any:
        """Write, and keep."""
        self.kept.write(text)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def write_report(path: str, step: dict[str, Any], metrics: dict[str, float], printed: str) -> None:
    """An HTML page about the step: its code, what it printed, its metrics."""
    import html  # here, since most steps have no report

    parts = [f"<h1>{html.escape(step['name'])}</h1>"]
    for cell in step["cells"]:
        parts.append(f"<h2>{html.escape(cell['label'])}</h2><pre>{html.escape(cell['source'])}</pre>")
    parts.append(f"<h2>Output</h2><pre>{html.escape(printed)}</pre>")
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{value!r}</td></tr>" for name, value in metrics.items())
    parts.append(f"<h2>Metrics</h2><table>{rows}</table>" if rows else "")
    with open(path, "w", encoding="utf-8") as page:  # noqa: PTH123 - as short as it can be: it travels
        page.write(
            f'<!DOCTYPE html><meta charset="utf-8"><title>{html.escape(step["name"])}</title>' + "\n".join(parts)
        )
