"""The command line: what it shows, how it ends, and what it loads."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest
from stepwise import notebook

from kalec.cli import run

ROOT = Path(__file__).parents[2]

WRONG = notebook(
    ("imports", "import os\n%matplotlib inline"), ("step:a", "total = 1"), ("step:b prev:a", "print(total, totla)")
)
RIGHT = notebook(
    ("step:load", "rows = [1]\nlabels = [2]"),
    ("step:left prev:load", "m = sum(rows)"),
    ("step:right prev:load", "n = max(rows)"),
    ("step:end prev:left prev:right", "print(m, n, labels)"),
)


@pytest.fixture
def kalec(tmp_path, monkeypatch, capsys):
    """Run one command line in a folder with a wrong and a right notebook; gives (code, stdout, stderr)."""
    (tmp_path / "wrong.ipynb").write_text(WRONG)
    (tmp_path / "right.ipynb").write_text(RIGHT)
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = run(words)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def test_lint_shows_each_finding_on_a_line_and_ends_with_1(kalec):
    code, out, err = kalec("lint", "wrong.ipynb")
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "wrong.ipynb:cell 1 [c1]:2:1: note KLC004 %matplotlib is left out: it has no effect in a step",
        "wrong.ipynb:cell 3 [c3]:1:14: error KLC104 undefined name 'totla'. Did you mean 'total'?",
        "1 error, 1 note",
    ]


def test_lint_is_silent_when_all_is_well(kalec):
    assert kalec("lint", "right.ipynb") == (0, "", "")


def test_lint_json_is_one_object_a_line(kalec):
    _, out, _ = kalec("lint", "wrong.ipynb", "right.ipynb", "--format", "json", "--quiet")
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "file": "wrong.ipynb",
            "code": "KLC104",
            "severity": "error",
            "message": "undefined name 'totla'. Did you mean 'total'?",
            "hint": "",
            "cell": 3,
            "cell_id": "c3",
            "line": 1,
            "column": 14,
        }
    ]


def test_lint_sarif_names_rules_levels_and_cells(kalec):
    _, out, _ = kalec("lint", "wrong.ipynb", "--format", "sarif")
    log = json.loads(out)
    (result,) = [one for one in log["runs"][0]["results"] if one["ruleId"] == "KLC104"]
    assert log["version"] == "2.1.0"
    assert log["runs"][0]["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "KLC104"
    assert result["level"] == "error"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 1, "startColumn": 14}
    assert result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "cell 3 [c3]"


def test_lint_github_escapes_what_would_end_an_annotation(kalec, tmp_path):
    (tmp_path / "a,b.py").write_text("# %% tags=['step:a']\nx = 1\nprint(zz)\n%matplotlib\n")
    _, out, _ = kalec("lint", "a,b.py", "--format", "github")
    assert out.splitlines() == [
        "::error file=a%2Cb.py,line=3,col=7,title=KLC104::undefined name 'zz'",
        "::notice file=a%2Cb.py,line=4,col=1,title=KLC004::%25matplotlib is left out: it has no effect in a step",
    ]


def test_severities_come_from_the_project_and_the_command_line_wins(kalec, tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.kalec.severity]\nKLC104 = "warning"\nKLC004 = "off"\n')
    code, out, _ = kalec("lint", "wrong.ipynb")
    assert (code, out.splitlines()[-1]) == (0, "1 warning")
    assert kalec("lint", "wrong.ipynb", "--strict")[0] == 1
    assert kalec("lint", "wrong.ipynb", "--severity", "KLC104=error")[0] == 1
    assert kalec("lint", "wrong.ipynb", "--severity", "KLC104=off")[:2] == (0, "")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["lint", "nowhere.ipynb"], 10, "there is no file nowhere.ipynb"),
        (["lint", "note.txt"], 2, "neither a notebook"),
        (["lint", "broken.ipynb"], 13, "not JSON"),
        (["lint", "old.ipynb"], 2, "format 3"),
        (["lint", "right.ipynb", "--severity", "KLC999=off"], 2, "no rule 'KLC999'"),
        (["lint", "right.ipynb", "--severity", "KLC104=loud"], 2, "no severity"),
        (["lint", "right.ipynb", "--severity", "KLC104"], 2, "no severity"),
        (["lint", "right.ipynb", "--format", "xml"], 2, "xml"),
        (["lint"], 2, "SOURCE"),
        (["lnt"], 2, "lint"),
        (["explain", "right.ipynb", "rwos"], 10, "Did you mean 'rows'?"),
        (["graph", "right.ipynb", "-o", "nowhere/x.svg"], 10, "the folder of nowhere/x.svg does not exist"),
        (["init", "right.ipynb"], 2, "tagged already"),
    ],
)
def test_an_error_is_one_sentence_with_a_code_of_its_own(kalec, tmp_path, words, code, message):
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "old.ipynb").write_text('{"nbformat": 3, "worksheets": []}')
    ended, _, err = kalec(*words)
    assert ended == code
    assert message in err
    assert err.startswith("kalec: ")
    assert "Traceback" not in err


def test_lint_goes_on_after_a_file_that_cannot_be_read(kalec):
    code, out, err = kalec("lint", "nowhere.ipynb", "wrong.ipynb")
    assert code == 10
    assert "KLC104" in out
    assert "nowhere.ipynb" in err


def test_graph_draws_edges_with_the_variables_that_travel(kalec):
    _, out, _ = kalec("graph", "right.ipynb")
    assert '    step_load -->|"rows"| step_left\n' in out
    assert '    step_load -->|"labels"| step_end\n' in out
    _, out, _ = kalec("graph", "right.ipynb", "--format", "dot")
    assert '    "left" -> "end" [label="m"];\n' in out


def test_graph_draws_svg_with_no_two_steps_in_one_place(kalec, tmp_path):
    assert kalec("graph", "right.ipynb", "-o", "graph.svg")[0] == 0
    tree = ElementTree.parse(tmp_path / "graph.svg")
    space = "{http://www.w3.org/2000/svg}"
    boxes = [box for box in tree.iter(f"{space}rect") if box.get("class") == "step"]
    places = [tuple(float(box.get(key)) for key in ("x", "y", "width", "height")) for box in boxes]
    assert len(places) == 4
    for number, (x, y, width, height) in enumerate(places):
        for left, top, _, _ in places[number + 1 :]:
            assert abs(top - y) >= height or left >= x + width or left < x
    assert {text.text for text in tree.iter(f"{space}text")} >= {"load", "left", "right", "end", "labels", "m"}


def test_explain_tells_the_life_of_a_name(kalec):
    code, out, _ = kalec("explain", "right.ipynb", "rows")
    assert code == 0
    assert out.splitlines() == [
        "right.ipynb:cell 1 [c1]:1:1: step 'load' makes it",
        "step 'load' hands it on, because a later step reads it",
        "right.ipynb:cell 2 [c2]:1:9: step 'left' uses it: its value comes from step 'load'",
        "right.ipynb:cell 3 [c3]:1:9: step 'right' uses it: its value comes from step 'load'",
    ]
    _, out, _ = kalec("explain", "right.ipynb", "rows", "--json")
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["made", "written", "read", "read"]


UNTAGGED = notebook(
    {"cell_type": "markdown", "metadata": {}, "source": "# Load data"},
    ("", "import math"),
    ("", "def area(r):\n    return math.pi * r"),
    ("parameters", "radius = 2"),
    ("", "x = area(radius)"),
    ("", "y = x + 1"),
    {"cell_type": "markdown", "metadata": {}, "source": ["## Train the model!\n", "text"]},
    ("hide-input", "z = y"),
    {"cell_type": "markdown", "metadata": {}, "source": "# Load data"},
    ("", "print(y)"),
)


@pytest.mark.parametrize("words", [(), ("runs",)], ids=" ".join)
def test_a_noun_alone_shows_its_help_line_by_line_and_ends_with_2(kalec, words):
    code, out, err = kalec(*words)
    assert (code, out) == (2, "")
    assert "\nCommands:\n" in err


def test_init_proposes_tags_and_writes_them_on_request(kalec, tmp_path):
    path = tmp_path / "new.ipynb"
    path.write_text(UNTAGGED)
    code, out, err = kalec("init", "new.ipynb")
    assert (code, path.read_text()) == (0, UNTAGGED)
    assert "nothing is written" in err
    assert "cell 5: step:load_data " in out
    assert kalec("init", "new.ipynb", "--write")[0] == 0
    cells = json.loads(path.read_text())["cells"]
    assert [cell["metadata"].get("tags") for cell in cells] == [
        None,
        ["imports"],
        ["functions"],
        ["parameters", "pipeline-parameters"],
        ["step:load_data"],
        [],
        None,
        ["hide-input", "step:train_the_model", "prev:load_data"],
        None,
        ["step:load_data_2", "prev:load_data"],
    ]
    code, out, _ = kalec("lint", "new.ipynb", "--quiet")
    assert (code, out) == (0, "")


def test_init_leaves_every_other_byte_of_a_notebook_as_it_is(kalec, tmp_path):
    path = tmp_path / "new.ipynb"
    odd = (
        r'{"metadata": {"x": 1e400}, "cells": [ {"cell_type":"code","metadata":{},"source":"x = 1",'
        r'"outputs":[{"a": "\ud800 \u00e9 é", "b": 1.50}]}], "nbformat":4}'
    )
    path.write_text(odd, encoding="utf-8")
    path.chmod(0o640)
    assert kalec("init", "new.ipynb", "--write")[0] == 0
    assert path.read_text(encoding="utf-8") == odd.replace('"metadata":{}', '"metadata":{"tags": ["step:start"]}')
    assert path.stat().st_mode & 0o777 == 0o640


def test_init_tells_of_a_cell_that_cannot_hold_tags_and_leaves_the_notebook(kalec, tmp_path):
    path = tmp_path / "new.ipynb"
    path.write_text(UNTAGGED.replace('"metadata": {"tags": ["parameters"]}', '"metadata": null'))
    before = path.read_bytes()
    code, _, err = kalec("init", "new.ipynb", "--write")
    assert (code, path.read_bytes()) == (2, before)
    assert "has no metadata to hold its tags" in err


def test_a_result_is_written_into_a_pipe_and_leaves_it_there(kalec, tmp_path):
    (tmp_path / "right.ipynb").write_text(RIGHT)
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as other:
        read = other.submit((tmp_path / "pipe").read_text)
        assert kalec("graph", "right.ipynb", "-o", "pipe")[0] == 0
    assert read.result().startswith("flowchart")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("words", [("lint",), ("graph",), ("explain", "x")], ids=" ".join)
def test_nothing_beyond_the_standard_library_and_the_option_parser_is_loaded(tmp_path, words):
    path = tmp_path / "n.ipynb"
    text = "import numpy as np\nimport pandas\nfrom sklearn import svm\nfrom math import *\nx = np.zeros(3)"
    path.write_text(notebook(("step:a", text), ("step:b prev:a", "print(x, floor(2.5))")))
    script = (
        "import sys; before = set(sys.modules); from kalec.cli import run; run(sys.argv[1:]);"
        "print('\\n'.join(set(sys.modules) - before), file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, words[0], str(path), *words[1:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split() if "no-such" not in name}
    foreign = {name for name in loaded if not name.startswith("_")} - sys.stdlib_module_names - {"kalec"}
    parser = {"typer", "shellingham", "annotated_doc", "typing_extensions", "rich", "markdown_it", "mdurl", "pygments"}
    values = {"pydantic", "pydantic_core", "annotated_types", "typing_inspection"}
    assert {name for name in foreign if name.isidentifier()} <= parser | values


@pytest.mark.slow
def test_rokctl_kalec_is_the_same_program(tmp_path):
    (tmp_path / "wrong.ipynb").write_text(WRONG)
    both = [
        subprocess.run(
            [sys.executable, "-m", *program, "lint", str(tmp_path / "wrong.ipynb")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        for program in (["kalec"], ["rokctl", "kalec"])
    ]
    assert both[0].returncode == both[1].returncode == 1
    assert both[0].stdout == both[1].stdout != ""


def test_a_notebook_is_never_executed(kalec, tmp_path):
    source = f"open({str(tmp_path / 'made')!r}, 'w')\nimport sys\nsys.exit(5)"
    (tmp_path / "n.ipynb").write_text(
        notebook(("imports", source), ("pipeline-parameters", source), ("step:a", source))
    )
    kalec("lint", "n.ipynb")
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_the_same_source_gives_the_same_pipeline_whatever_the_hash_seed(tmp_path):
    cells = [
        ("imports", "import os, json\nfrom math import *"),
        ("functions", "class C:\n    pass\ndef f(x):\n    log.append(x)\nlog = []"),
        ("step:a", "x, y, z = C(), [1], {'k': C()}\nh = [x, y, z]\ndef g():\n    return x, y\nzz = missing + other"),
        ("step:b prev:a", "f(h)\ny.append(z)\nq = g"),
        ("step:c prev:a", "f(x)\nz['l'] = floor(2.5)"),
        ("step:d prev:b prev:c", "print(h, x, y, z, q(), log, json.dumps(1))"),
    ]
    (tmp_path / "n.ipynb").write_text(notebook(*cells))
    script = "import sys; from pathlib import Path; from kalec.load import load_pipeline; print(load_pipeline(Path(sys.argv[1])))"
    shown = {
        subprocess.run(
            [sys.executable, "-c", script, tmp_path / "n.ipynb"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(shown) == 1
