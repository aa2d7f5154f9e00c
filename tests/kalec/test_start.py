"""What a compilation imports, and how the words of the command line become values."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kalec.cli import run

ROOT = Path(__file__).parents[2]
NOT_TO_COMPILE = {
    "kfp", "nbformat", "jupyter_core", "IPython", "numpy", "pandas", "yaml", "pydantic", "rich", "importlib.metadata",
    "socket", "asyncio", "tomllib", "kalec.emit.katib", "kalec.running",
}  # fmt: skip


def a_notebook(folder):
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["step:a"]}, "source": "import numpy as np\nx = np.zeros(3)\n"},
        {"cell_type": "code", "metadata": {"tags": ["step:b", "prev:a"]}, "source": "print(x.sum())\n"},
    ]
    path = folder / "nb.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


def test_a_compilation_imports_no_more_than_it_needs(tmp_path):
    program = (
        "import sys; from kalec.cli import run\n"
        f"assert run(['compile', {str(a_notebook(tmp_path))!r}, '-o', {str(tmp_path / 'p.yaml')!r}, '--toleration', 'a']) == 0\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert set(done.stdout.split()) & NOT_TO_COMPILE == set()


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
