"""Notebooks for tests; and the reference for what a pipeline means: cells in one namespace, and steps each in its own."""

import asyncio
import inspect
import json
import pickle
import sys
import types
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from contextlib import contextmanager
from pathlib import Path

from kalec.load import load_pipeline
from kalec.model import Cell, Severity
from kalec.runtime import describe
from kalec.runtime.step import run_step

UNBOUND = object()
SHOW = (  # binds no name of its own
    "__import__('pathlib').Path({path!r}).write_text("
    "__import__('json').dumps({{k: repr(v) for k, v in globals().items() if k.startswith('seen')}}))"
)


def notebook(*cells, metadata=None, **extra):
    """The text of a notebook. A cell is (tags in one text, source), or a dict as in the file."""
    made = []
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, tuple):
            tags, source = cell
            cell = {"cell_type": "code", "metadata": {"tags": tags.split()}, "source": source, "outputs": []}
        made.append({"id": f"c{number}", "execution_count": None, **cell})
    whole = {"nbformat": 4, "nbformat_minor": 5, "cells": made}
    return json.dumps({**whole, "metadata": {"kubeflow_notebook": metadata or {}}, **extra})


def load(*cells, **options):
    """What becomes of a notebook of these cells."""
    return load_pipeline(Path("n.ipynb"), text=notebook(*cells, **options))


def codes(loaded, at_least=Severity.WARNING):
    """The codes of the findings, as they are sorted."""
    order = list(Severity)
    return [found.code for found in loaded.diagnostics if order.index(found.severity) >= order.index(at_least)]


def as_notebook(*cells):
    """The names that begin with `seen`, when all cells have run in one namespace."""
    with _module() as module:
        for tags, source in cells:
            if "skip" not in tags.split():
                _execute(source, module, "cell")
        return _seen(module)


def as_pipeline(*cells):
    """The same, when each step has run with nothing but what the pipeline gives it."""
    loaded = load(*cells)
    errors = [str(found) for found in loaded.diagnostics if found.severity is Severity.ERROR]
    assert not errors, errors
    return run(loaded.pipeline)


def travelled(folder, *cells):
    """The same, as texts, when each step has run with the runtime that travels, over files in `folder`."""
    loaded = load(*cells)
    errors = [str(found) for found in loaded.diagnostics if found.severity is Severity.ERROR]
    assert not errors, errors
    seen = {}
    for step in loaded.pipeline.steps:
        path = folder / f"{step.name}.seen"
        told = describe(step)
        told["cells"].append({"label": "n.ipynb:cell 99", "line": 1, "source": SHOW.format(path=str(path))})
        defaults = {parameter.name: parameter.default for parameter in loaded.pipeline.parameters}
        parameters = {name: defaults[name] for name in step.parameters}
        run_step(told, parameters, {before: str(folder / before) for before in step.data_from}, str(folder / step.name))
        seen |= json.loads(path.read_text())
    return seen


def run(pipeline):
    """Run the steps as the model says."""
    saved, seen = {}, {}
    defaults = {parameter.name: parameter.default for parameter in pipeline.parameters}
    for step in pipeline.steps:
        with _module() as module:
            vars(module).update({name: defaults[name] for name in step.parameters})
            loaded = {}
            for part in step.opening:
                if isinstance(part, Cell):
                    _execute(part.source, module, f"opening of {step.name}, cell {part.number}")
                else:
                    _load(part, saved, loaded, module)
            for cell in step.cells:
                _execute(cell.source, module, f"{step.name}, cell {cell.number}")
            _save(step, saved, module)
            for metric in step.metrics:
                seen[f"metric {metric.name}"] = eval(metric.expression, vars(module))
            seen |= _seen(module)
    return seen


def same_both_ways(*cells):
    """Run both ways, and compare."""
    expected = as_notebook(*[cell for cell in cells if "pipeline-metrics" not in cell[0]])
    assert expected, "the cells of this test show nothing: bind a name that begins with `seen`"
    found = {name: value for name, value in as_pipeline(*cells).items() if not name.startswith("metric ")}
    assert found == expected


def _load(read, saved, loaded, module):
    for group, content in saved[read.step]:
        if read.name in group:
            key = (read.step, group)
            if key not in loaded:
                loaded[key] = pickle.loads(content)
            if read.name in loaded[key]:
                vars(module)[read.name] = loaded[key][read.name]
            else:
                assert read.optional, f"{read.name} is unbound"
            return
    raise AssertionError(f"step {read.step} does not write {read.name}")


def _save(step, saved, module):
    grouped = {name for group in step.aliases for name in group}
    groups = [*step.aliases, *((write.name,) for write in step.writes if write.name not in grouped)]
    optional = {write.name for write in step.writes if write.optional}
    saved[step.name] = []
    for group in groups:
        missing = set(group) - vars(module).keys()
        assert missing <= optional, f"step {step.name} leaves {missing} unbound"
        values = {name: vars(module)[name] for name in group if name not in missing}
        saved[step.name].append((group, pickle.dumps(values)))


def _seen(module):
    return {name: value for name, value in vars(module).items() if name.startswith("seen")}


def _execute(source, module, name):
    code = compile(source, name, "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, vars(module))
    if inspect.iscoroutine(result):
        asyncio.run(_await(result))


async def _await(coroutine):
    await coroutine


@contextmanager
def _module():
    """A fresh `__main__`, in which pickle finds what the step defines."""
    module = types.ModuleType("__main__")
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield module
    finally:
        sys.modules["__main__"] = before
