"""How `kalec run` and `kalec runs` end: exit codes, and a sentence with what to do next."""

import pytest
from stepwise import notebook

from kalec.cli import run
from kalec.running.folder import RunsFolder

FINE = (("pipeline-parameters", "n = 1"), ("step:a", "x = n"))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "n.ipynb"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--param", "n=x"], 2, "parameter n is an integer"),
        (["--param", "m=1"], 2, "hint: it has n"),
        (["--jobs", "-1"], 2, "--jobs"),
        (["--volume", "v=/tmp"], 2, "no volume 'v'"),
        (["--from", "b"], 10, "no such step"),
        (["--python", "/no/such/python"], 2, "is no Python that runs"),
        (["--state", "n.ipynb"], 2, "is not a folder"),
    ],
)
def test_a_wrong_request_is_refused_with_its_code(path, capsys, words, code, told):
    path.write_text(notebook(*FINE))
    assert run(["run", "n.ipynb", *words]) == code
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    assert not (path.parent / ".kalec").exists()


def test_a_file_that_is_none_and_a_notebook_with_errors(path, capsys):
    assert run(["run", "n.ipynb"]) == 10
    path.write_text("{")
    assert run(["run", "n.ipynb"]) == 13
    path.write_text(notebook(("step:a", "y = nope")))
    assert run(["run", "n.ipynb"]) == 1
    assert "n.ipynb:cell 1 [c1]:1:5: error KLC104" in capsys.readouterr().err


def test_earlier_runs_that_are_not_there_or_are_in_use(path, capsys):
    assert run(["runs", "list"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["runs", "show", "1"]) == 10
    assert run(["runs", "rm"]) == 2
    with RunsFolder(path.parent / ".kalec").start():
        assert run(["runs", "rm", "1"]) == 11
        assert run(["runs", "show", "1"]) == 13
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told(path, capsys):
    path.write_text(notebook(*FINE))
    (path.parent / "file").write_text("")
    assert run(["run", "n.ipynb", "--state", "file/deeper"]) == 1
    assert "--state names another folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_fails_is_1_and_the_next_that_does_not_is_0(path, capsys):
    path.write_text(notebook(FINE[0], ("step:a", "1 / 0")))
    assert run(["run", "n.ipynb"]) == 1
    error = capsys.readouterr().err
    assert "kalec: run 1: a failed" in error
    assert "hint: mend it and run again" in error
    path.write_text(notebook(*FINE))
    assert run(["run", "n.ipynb"]) == 0
    assert run(["runs", "list", "n.ipynb"]) == 0
    assert [line.split()[2] for line in capsys.readouterr().out.splitlines()] == ["STATE", "failed", "done"]
    assert run(["runs", "rm", "--all"]) == 0
