"""What a compilation imports, and how the words of the command line become values."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kalec.cli import run

ROOT = Path(__file__).parents[2]
# Beyond what `import typer` brings: the packages of others, the modules of ours, and the classes that take a millisecond
# each to import. Whoever adds to a list shows what it costs: `python -X importtime -m kalec compile`, `scripts/bench kalec`.
FOREIGN = {"typer", "json", "_json", "encodings", "graphlib", "shlex"}
OURS = {
    "kalec", *(f"kalec.{name}" for name in ("cli", "commands", "declared", "emit", "errors", "findings", "load", "metadata")),
    *(f"kalec.{name}" for name in ("model", "outline", "runtime", "runtime.packed", "vocabulary", "words", "analysis", "source")),
    *(f"kalec.commands.{name}" for name in ("compile", "options", "words")),
    *(f"kalec.source.{name}" for name in ("cells", "magics", "module", "notebook", "percent", "stars")),
    *(f"kalec.analysis.{name}" for name in ("assemble", "checks", "definitions", "effects", "facts", "flow", "functions")),
    *(f"kalec.analysis.{name}" for name in ("known", "making", "modules", "names", "order", "scopes", "shared", "travel")),
    "kalec.analysis.values", "kalec.analysis.versions", "kalec.stdout",
    *(f"kalec.emit.{name}" for name in ("claims", "compilation", "distributions", "files", "installation", "limits")),
    *(f"kalec.emit.{name}" for name in ("lockfile", "naming", "options", "pipeline", "plan", "platform", "program", "quantity")),
    *(f"kalec.emit.{name}" for name in ("requirements", "specification", "yamltext")),
}  # fmt: skip
DATACLASSES = {"StepOutline", "Draft", "Journey", "Code", "Definition", "Version"}  # filled in step by step


def a_notebook(folder):
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["step:a"]}, "source": "import numpy as np\nx = np.zeros(3)\n"},
        {"cell_type": "code", "metadata": {"tags": ["step:b", "prev:a"]}, "source": "print(x.sum())\n"},
    ]
    path = folder / "nb.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


def said_by(program):
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def compiling(folder):
    words = ["compile", str(a_notebook(folder)), "-o", str(folder / "p.yaml"), "--toleration", "a"]
    return f"import sys; from kalec.cli import run; assert run({words!r}) == 0; "


def test_a_compilation_imports_no_more_than_it_needs(tmp_path):
    loaded = said_by(compiling(tmp_path) + "print(*sys.modules)") - said_by("import sys, typer; print(*sys.modules)")

    ours = {name for name in loaded if name.partition(".")[0] == "kalec"}
    assert ours - OURS == set()
    assert {name.partition(".")[0] for name in loaded - ours} - FOREIGN == set()


def test_what_a_compilation_imports_compiles_no_methods_for_values(tmp_path):
    made = said_by(
        compiling(tmp_path) + "import dataclasses; print(*{one.__name__ for name, module in sys.modules.items()"
        " if name.startswith('kalec') for one in vars(module).values()"
        " if isinstance(one, type) and dataclasses.is_dataclass(one) and one.__module__ == name})"
    )

    assert made == DATACLASSES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compile"], "missing argument"), (["compile", "x", "--image-pull-policy", "Often"], "is not one of Always"),
        (["tune", "x", "--max-trials", "many"], "no whole number"), (["tune", "x", "--max-trials", "0"], "less than 1"),
        (["serve", "n", "s3://b/m", "--protocol", "v3"], "not one of v1, v2"), (["run", "x", "--jobs", "-1"], "less than 0"),
    ],
)  # fmt: skip
def test_a_word_that_is_no_value_is_a_usage_error_that_says_why(words, said, capsys):
    assert run(words) == 2
    assert said in capsys.readouterr().err
