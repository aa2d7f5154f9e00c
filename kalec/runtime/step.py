"""Execute one step of a pipeline in this process: read what it takes in, run its cells, keep what it leaves."""

from __future__ import annotations
import __future__

import ast
import builtins
import contextlib
import json
import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kalec.runtime.failure import CellFailed, StepError
from kalec.runtime.marshal import Stored, save

COROUTINE = 0x80  # inspect.CO_COROUTINE, without the import
FUTURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


def run_step(
    step: Mapping[str, Any],
    parameters: Mapping[str, Any],
    inputs: Mapping[str, str],
    output: str,
    paths: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Execute a step, save what it leaves in the directory `output`, and return {"metrics": {name: number}}.

    `step` is plain JSON:

        {"name": "train",
         "opening": [CELL | {"read": "x", "from": "load", "optional": false}, …],
         "cells": [CELL, …],
         "writes": [{"name": "model", "optional": false}, …],
         "metrics": [{"name": "accuracy", "expression": "accuracy"}, …]}

    where a CELL is {"label": "notebook.ipynb:cell 7", "line": 1, "source": "…"}: what tracebacks call it, where its first
    line stands in what the label names, and plain Python. `parameters` are bound as variables first; then the opening is
    gone through in order, and the cells. `inputs` has, for each step that a value is read from, the directory that it saved
    into: a downloaded artifact or a folder of a shared volume, there is no difference. `paths` maps absolute folders to
    others: text in the code and in parameters that begins with one of them begins with the other instead (a volume's mount
    point, where nothing can be mounted).

    While it runs, the variables are those of a fresh module `__main__`. Raises CellFailed when the code does,
    StepError for anything else that the user can be told; then `output` has no manifest. A cell that calls `sys.exit` has failed.
    """
    main = types.ModuleType("__main__")
    main.__dict__.update(_map_paths(dict(parameters), paths or {}))
    before = sys.modules.get("__main__")
    sys.modules["__main__"] = main
    try:
        return _Execution(step, main.__dict__, inputs, paths or {}).run(output)
    finally:
        if before is not None:
            sys.modules["__main__"] = before


class _Execution:
    """One execution of a step, in the namespace of its `__main__`."""

    def __init__(
        self, step: Mapping[str, Any], namespace: dict[str, Any], inputs: Mapping[str, str], paths: Mapping[str, str]
    ) -> None:
        self.step, self.namespace, self.inputs, self.paths = step, namespace, inputs, paths
        self.came_in: dict[str, str] = {}  # what a person is told of each variable that was read, when a cell fails
        self.labels: set[str] = set()  # of the cells that were executed
        self.flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # and every `from __future__ import` that a cell had, as in Jupyter
        self.loop: Any = None

    def run(self, output: str) -> dict[str, Any]:
        if not hasattr(builtins, "display"):
            builtins.display = print  # type: ignore[attr-defined]  # Jupyter has it in every notebook
        with contextlib.ExitStack() as held:
            stored = {name: held.enter_context(Stored(folder)) for name, folder in self.inputs.items()}
            held.callback(self._close_loop)
            for part in self.step["opening"]:
                if "read" in part:
                    self._read(part, stored[part["from"]])
                else:
                    self._execute(part)
            for cell in self.step["cells"]:
                self._execute(cell)
            metrics = {metric["name"]: self._measure(metric) for metric in self.step["metrics"]}
        self._save(output)
        return {"metrics": metrics}

    def _close_loop(self) -> None:
        if self.loop is not None:
            self.loop.close()

    def _read(self, read: Mapping[str, Any], stored: Stored) -> None:
        name = read["read"]
        if stored.is_bound(name):
            self.namespace[name] = stored.value(name)
            self.came_in[name] = stored.manifest["values"][name]["summary"]
        elif not read["optional"]:
            raise StepError(f"variable {name!r} has no value: step {read['from']!r} ended without one")

    def _execute(self, cell: Mapping[str, Any]) -> None:
        source = "\n" * (cell["line"] - 1) + cell["source"] + "\n"
        self.labels.add(cell["label"])
        _show_lines(cell["label"], source)
        try:
            tree = ast.parse(source, cell["label"])
            if self.paths:
                tree = ast.fix_missing_locations(_Paths(self.paths).visit(tree))
            code = compile(tree, cell["label"], "exec", flags=self.flags, dont_inherit=True)
            self.flags |= code.co_flags & FUTURES
            result = eval(code, self.namespace)  # noqa: S307 - running the user's code is what this is for
            if code.co_flags & COROUTINE:
                self._await(result)
        except (Exception, SystemExit) as error:
            raise self._failure(error, cell) from error

    def _await(self, coroutine: Any) -> None:
        import asyncio  # few cells wait for anything, and it is slow to import

        self.loop = self.loop or asyncio.new_event_loop()
        self.loop.run_until_complete(coroutine)

    def _measure(self, metric: Mapping[str, Any]) -> float | int:
        name, expression = metric["name"], metric["expression"]
        try:
            value = eval(expression, self.namespace)  # noqa: S307 - as a cell
            return value if type(value) is int else float(value)
        except Exception as error:  # the user's expression may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise StepError(f"metric {name!r} is not a number: {expression} gives {reason}; print a number") from error

    def _save(self, output: str) -> None:
        values: dict[str, Any] = {}
        unbound = []
        for write in self.step["writes"]:
            if write["name"] in self.namespace:
                values[write["name"]] = self.namespace[write["name"]]
            elif write["optional"]:
                unbound.append(write["name"])
            else:
                raise StepError(
                    f"the step ended, and variable {write['name']!r}, which a later step reads, has no value"
                )
        save(values, output, unbound)

    def _failure(self, error: BaseException, cell: Mapping[str, Any]) -> CellFailed:
        """The failure as the user sees it."""
        here = run_step.__code__.co_filename
        whole = _told(error, lambda frame: frame.filename != here)
        own = _told(error, lambda frame: frame.filename in self.labels)
        line = next(
            (f.lineno for f in reversed(own.stack) if f.filename == cell["label"]), getattr(error, "lineno", None)
        )
        place = cell["label"] + (f":{line}" if line else "")
        one_line = "".join(own.format_exception_only()).strip().splitlines()[-1]
        return CellFailed(place, one_line, "".join(whole.format()), "".join(own.format()), self.came_in)


def _told(error: BaseException, keep: Callable[[traceback.FrameSummary], bool]) -> traceback.TracebackException:
    """An exception and its causes, with those frames that are to be kept."""
    told = traceback.TracebackException.from_exception(error)
    waiting: list[traceback.TracebackException | None] = [told]
    for one in waiting:  # grows while it is gone through
        if one is not None:
            one.stack = traceback.StackSummary.from_list([frame for frame in one.stack if keep(frame)])
            waiting += [one.__cause__, one.__context__]
    return told


def _show_lines(label: str, source: str) -> None:
    """Let tracebacks show the lines of a cell. A label may be that of several cells, each at its own lines of one file."""
    lines = source.splitlines(keepends=True)
    known = linecache.getlines(label)
    both = [new if new.strip() else old for old, new in zip(known, lines)] + known[len(lines) :] + lines[len(known) :]
    linecache.cache[label] = (sum(map(len, both)), None, both, label)


def _map_paths(value: Any, paths: Mapping[str, str]) -> Any:
    """`value`, with each text in it that begins with a folder in `paths` beginning with the other one."""
    if isinstance(value, str):
        for mounted, folder in paths.items():
            if value == mounted or value.startswith(mounted.rstrip("/") + "/"):
                return folder + value[len(mounted.rstrip("/")) :]
        return value
    if isinstance(value, list):
        return [_map_paths(item, paths) for item in value]
    if isinstance(value, dict):
        return {key: _map_paths(item, paths) for key, item in value.items()}
    return value


class _Paths(ast.NodeTransformer):
    """Maps the text constants of a cell as `_map_paths` does."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        self.paths = paths

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.copy_location(ast.Constant(_map_paths(node.value, self.paths)), node)


def main() -> None:
    """Execute the step that is described on standard input, as `kalec run` starts it, and leave with its code.

    The input is one JSON object with the arguments of `run_step` and `result`: the file that what it returns is written to,
    or {"failure": {place, error, traceback, values}}; and "memory", the most that the process had. The code is 0, or 1 when
    the step failed. Without an input nothing is done: who would have written it is gone.
    """
    told = sys.stdin.buffer.read()
    if not told:
        sys.exit(1)
    request = json.loads(told)
    sys.argv = [""]
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # input() in a cell finds the end of the file
    result = Path(request.pop("result"))
    try:
        answer = run_step(**request)
    except CellFailed as failed:
        told = {"place": failed.place, "error": failed.error, "traceback": failed.traceback, "values": failed.values}
        print(failed, file=sys.stderr)  # noqa: T201 - the log of the step
        answer = {"failure": told}
    except (StepError, OSError) as failed:
        print(f"error: {failed}", file=sys.stderr)  # noqa: T201 - the log of the step
        answer = {"failure": {"place": "", "error": str(failed), "traceback": "", "values": {}}}
    except KeyboardInterrupt:
        sys.exit(130)
    result.write_text(json.dumps({**answer, "memory": _peak_memory()}), encoding="ascii")
    sys.exit(1 if "failure" in answer else 0)


def _peak_memory() -> int:
    """The most memory that this process has had, in bytes; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
