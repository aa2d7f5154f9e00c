"""The notebook that the README shows: what it says of each command is what the command prints."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from kalec.cli import run

pytestmark = [  # it takes seconds to import: only the steps of the runs do
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("sklearn") is None, reason="there is no scikit-learn"),
]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "example.ipynb"
SECTION = (ROOT / "README.md").read_text().partition("\n## Notebooks\n")[2].partition("\n## ")[0]


def shown(command):
    """What the README shows below a command."""
    return SECTION.partition(f"$ {command}\n")[2].partition("\n\n")[0].partition("\n```")[0]


def without_figures(text):
    return re.sub(r"[\d.]+ s, [\d.]+ MiB", "TIME, MEMORY", text)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "example.ipynb").write_text(EXAMPLE.read_text())
    return tmp_path


@pytest.fixture
def kalec(folder, monkeypatch, capfd):
    """Run one command line in the folder; gives (code, stdout, stderr)."""
    monkeypatch.chdir(folder)

    def call(*words):
        code = run(words)
        return code, *capfd.readouterr()

    return call


def test_the_example_of_the_readme_is_right_is_drawn_and_compiles(folder, kalec):
    assert kalec("lint", "config/example.ipynb") == (0, "", "")
    assert kalec("graph", "config/example.ipynb") == (0, shown("kalec graph config/example.ipynb") + "\n", "")
    assert kalec("compile", "config/example.ipynb", "-o", "which-wine.yaml") == (0, "", "")
    assert kalec("compile", "config/example.ipynb", "-o", "which-wine.yaml", "--check") == (0, "", "")
    assert "train_test_split(" in (folder / "which-wine.yaml").read_text()


def test_the_example_of_the_readme_runs_and_does_again_only_what_a_parameter_changes(kalec):
    code, printed, said = kalec("run", "config/example.ipynb", "--jobs", "1")
    assert (code, printed) == (0, "compare best_score 0.986\n"), said
    code, printed, said = kalec("run", "config/example.ipynb", "--jobs", "1", "--param", "trees=5")
    assert code == 0
    assert without_figures(said + printed).split("\n")[:-1] == without_figures(
        shown("kalec run config/example.ipynb --param trees=5")
    ).split("\n")


def test_mistakes_in_the_example_are_said_as_the_readme_shows(folder, kalec):
    text = (
        EXAMPLE.read_text()
        .replace('"prev:prepare"', '"prev:preprae"', 1)
        .replace("forest.fit(train,", "forest.fit(trian,")
    )
    (folder / "example.ipynb").write_text(text)
    assert kalec("lint", "example.ipynb") == (1, shown("kalec lint example.ipynb") + "\n", "")
