"""One step in one process: its opening, its cells, what it leaves, and how it fails. Over the text that travels."""

import ast
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

import kalec.runtime as runtime_package
from kalec.model import Cell, Metric, Place, Read, Step, StepSettings, Write
from kalec.runtime import describe, source_text
from kalec.runtime.packed import PACKED
from kalec.runtime.packing import PARTS


@pytest.fixture(scope="module")
def runtime():
    module = types.ModuleType("kalec_runtime")
    exec(compile(source_text(), "runtime", "exec"), module.__dict__)
    return module


def cell(number, source):
    return {"label": f"n.ipynb:cell {number}", "line": 1, "source": source}


def read(name, step="first", *, optional=False):
    return {"read": name, "from": step, "optional": optional}


def step(*cells, opening=(), writes=(), metrics=(), optional=()):
    return {
        "name": "step",
        "opening": list(opening),
        "cells": [source if isinstance(source, dict) else cell(n, source) for n, source in enumerate(cells, 1)],
        "writes": [{"name": name, "optional": name in optional} for name in writes],
        "metrics": [{"name": name, "expression": text} for name, text in dict(metrics).items()],
    }


def pass_on(runtime, tmp_path, first, second):
    """Run two steps, the second over what the first left, and return its metrics."""
    runtime.run_step(first, {}, {}, str(tmp_path / "first"))
    return runtime.run_step(second, {}, {"first": str(tmp_path / "first")}, str(tmp_path / "second"))["metrics"]


def test_the_text_needs_python_3_9_and_nothing_of_kalec():
    tree = ast.parse(source_text(), feature_version=(3, 9))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(module.startswith("kalec") for module in modules)
    assert len(PACKED) < 20_000  # it stands in the pipeline once for each step


def test_no_two_parts_of_the_text_use_one_name():
    names = [node.name for node in ast.parse(source_text()).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assert len(names) == len(set(names))


def test_the_text_alone_runs_a_step_in_a_process_without_site_packages(tmp_path):
    request = {"step": step("y = x + 1", writes=["y"], metrics={"y": "y"}), "parameters": {"x": 1}, "inputs": {},
               "output": str(tmp_path / "out"), "result": str(tmp_path / "result")}  # fmt: skip
    (tmp_path / "runtime.py").write_text(source_text() + "\nmain()\n")
    command = [sys.executable, "-I", "-S", str(tmp_path / "runtime.py")]
    subprocess.run(command, input=json.dumps(request).encode(), check=True)
    assert json.loads((tmp_path / "result").read_text())["metrics"] == {"y": 2}


def test_parameters_are_variables_whatever_stands_in_them(runtime, tmp_path):
    text = "it's \"quoted\"\n\\'''"
    program = step(f"assert text == {text!r} and number == -1 and nothing is None")
    runtime.run_step(program, {"text": text, "number": -1, "nothing": None}, {}, str(tmp_path))


def test_instances_are_of_the_class_that_the_step_defines(runtime, tmp_path):
    definition = cell(1, "class Model:\n    pass")
    first = step("m = Model()\nm.weights = [1]", opening=[definition], writes=["m"])
    second = step("assert type(m) is Model and isinstance(m, Model)\nw = m.weights[0]", opening=[definition, read("m")],
                  metrics={"w": "w"})  # fmt: skip
    assert pass_on(runtime, tmp_path, first, second) == {"w": 1}


def test_a_closure_and_a_lambda_travel_and_see_the_variables_of_the_step_they_come_to(runtime, tmp_path):
    first = step(
        "n = 1\nscale = lambda v: v * n\ndef counter():\n    count = 0\n    def up():\n        nonlocal count\n"
        "        count += n\n        return count\n    def now():\n        return count\n    return up, now\nup, now = counter()",
        writes=["scale", "up", "now"],
    )
    second = step("n = 10\nup()\nresult = scale(2) + now()", opening=[read("scale"), read("up"), read("now")],
                  metrics={"r": "result"})  # fmt: skip
    assert pass_on(runtime, tmp_path, first, second) == {"r": 30}


def test_a_variable_that_was_optional_stays_unbound(runtime, tmp_path):
    first = step("if False:\n    x = 1", writes=["x"], optional=["x"])
    second = step("try:\n    x\nexcept NameError:\n    x = 7", opening=[read("x", optional=True)], metrics={"x": "x"})
    assert pass_on(runtime, tmp_path, first, second) == {"x": 7}


def test_a_variable_that_a_later_step_needs_and_that_has_no_value_is_named(runtime, tmp_path):
    with pytest.raises(runtime.StepError, match="variable 'x', which a later step reads, has no value"):
        runtime.run_step(step("if False:\n    x = 1", writes=["x"]), {}, {}, str(tmp_path))


def test_a_failing_cell_is_told_with_its_line_the_users_frames_and_what_came_in(runtime, tmp_path):
    second = step("def half(v):\n    return v / 0\n\nhalf(x[0])", opening=[read("x")])
    with pytest.raises(runtime.CellFailed) as failed:
        pass_on(runtime, tmp_path, step("x = [1, 2]", writes=["x"]), second)
    failure = failed.value
    assert failure.place == "n.ipynb:cell 1:2"
    assert failure.error == "ZeroDivisionError: division by zero"
    assert failure.values == {"x": "list of 2"}
    assert 'n.ipynb:cell 1", line 4, in <module>\n    half(x[0])' in failure.traceback
    assert failure.traceback.count("File ") == 2


def test_frames_of_libraries_are_in_the_log_and_not_among_the_users(runtime, tmp_path):
    with pytest.raises(runtime.CellFailed) as failed:
        runtime.run_step(step("import json\njson.loads('{')"), {}, {}, str(tmp_path))
    assert "json/decoder.py" in str(failed.value)
    assert "decoder.py" not in failed.value.traceback
    assert failed.value.place == "n.ipynb:cell 1:2"


def test_a_failing_cell_of_a_text_file_is_told_with_the_line_of_the_file(runtime, tmp_path):
    with pytest.raises(runtime.CellFailed) as failed:
        runtime.run_step(step({"label": "p.py", "line": 10, "source": "x = 1\n1 / 0"}), {}, {}, str(tmp_path))
    assert failed.value.place == "p.py:11"
    assert "1 / 0" in failed.value.traceback


@pytest.mark.parametrize("leave", ["import sys; sys.exit(0)", "raise SystemExit", "exit()"])
def test_a_cell_that_leaves_the_process_has_failed(runtime, tmp_path, leave):
    with pytest.raises(runtime.CellFailed):
        runtime.run_step(step(leave), {}, {}, str(tmp_path))


def test_await_and_future_imports_work_as_in_jupyter(runtime, tmp_path):
    program = step(
        "from __future__ import annotations\nimport asyncio",
        "async def get() -> Undefined:\n    await asyncio.sleep(0)\n    return 5\nx = await get()",
        metrics={"x": "x"},
    )
    assert runtime.run_step(program, {}, {}, str(tmp_path))["metrics"] == {"x": 5}


def test_a_metric_is_any_expression_that_is_a_number(runtime, tmp_path):
    program = step("a = 0.25", metrics={"half": "a * 2", "text": "f'{a:.1f}'", "count": "int(4)"})
    assert runtime.run_step(program, {}, {}, str(tmp_path))["metrics"] == {"half": 0.5, "text": 0.2, "count": 4}
    with pytest.raises(runtime.StepError, match="metric 'm' is not a number: 'x' gives ValueError"):
        runtime.run_step(step(metrics={"m": "'x'"}), {}, {}, str(tmp_path))


def test_paths_of_a_volume_are_mapped_in_code_and_parameters(runtime, tmp_path):
    code = "name = 'x'\nassert f'/data/{name}.csv' == '/tmp/v/x.csv' and folder == '/tmp/v/in' and '/database' == '/data' 'base'"
    runtime.run_step(step(code), {"folder": "/data/in"}, {}, str(tmp_path), {"/data": "/tmp/v"})


def test_the_process_has_its_own_main_again_afterwards(runtime, tmp_path):
    before = sys.modules["__main__"]
    runtime.run_step(step("import sys\nassert sys.modules['__main__'].__dict__ is globals()"), {}, {}, str(tmp_path))
    assert sys.modules["__main__"] is before


def test_a_step_of_the_model_is_described_in_plain_json():
    one = Cell("n.ipynb", 3, "ab", "y = x")
    model = Step("s", (one,), (Read("x", "first"), one), ("first",), ("first",), (Write("y"),), (), (),
                 (Metric("m", "y", Place("n.ipynb")),), (), (), (), StepSettings(), one.place())  # fmt: skip
    shown = json.loads(json.dumps(describe(model)))
    assert shown["opening"] == [read("x"), cell(3, "y = x")]
    assert shown["cells"] == [cell(3, "y = x")]
    assert shown["writes"] == [{"name": "y", "optional": False}]


def test_what_an_instance_holds_can_be_read_where_its_class_is_not_defined(runtime, tmp_path):
    definition = cell(1, "class Model:\n    pass")
    first = step("a = Model()\nx = a.held = [5]", opening=[definition], writes=["a", "x"])
    assert pass_on(runtime, tmp_path, first, step(opening=[read("x")], metrics={"m": "x[0]"})) == {"m": 5}
    with pytest.raises(runtime.StepError, match="variable 'a' cannot be loaded: it needs 'Model' of the notebook"):
        pass_on(runtime, tmp_path, first, step(opening=[read("a")]))


def test_two_copies_of_the_runtime_read_what_the_other_wrote(runtime, tmp_path):
    from kalec.runtime.marshal import load, save

    def closure():
        return 7

    save({"f": lambda: closure()}, tmp_path / "one")
    assert runtime.load(tmp_path / "one", ["f"])["f"]() == 7
    runtime.save({"f": lambda: closure()}, tmp_path / "other")
    assert load(tmp_path / "other", ["f"])["f"]() == 7


def test_each_part_of_the_text_imports_only_parts_before_it():
    for number, part in enumerate(PARTS):
        tree = ast.parse(Path(runtime_package.__file__).with_name(f"{part}.py").read_text())
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        own = {module for module in imported if module.startswith("kalec")}
        assert own <= {f"kalec.runtime.{name}" for name in PARTS[:number]}
