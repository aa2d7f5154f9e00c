"""kalec compile, as a user meets it."""

import json
import stat

import pytest

from kalec.cli import run


def notebook(folder, name="nb.ipynb", *, source="x = 1\n", metadata=None):
    """A notebook with two steps."""
    cells = [
        {"cell_type": "code", "metadata": {"tags": ["step:load"]}, "source": source},
        {"cell_type": "code", "metadata": {"tags": ["step:train", "prev:load"]}, "source": "y = x + 1\n"},
    ]
    path = folder / name
    content = {"cells": cells, "metadata": {"kubeflow_notebook": metadata or {}}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def compile_(*arguments):
    """Run the command, and return its exit code."""
    return run(["compile", *map(str, arguments)])


def test_it_writes_the_file_says_nothing_and_leaves_it_alone_the_second_time(tmp_path, capsys):
    source, target = notebook(tmp_path), tmp_path / "p.yaml"
    compile_(source, "-o", target)
    before = target.stat()
    compile_(source, "-o", target)

    assert capsys.readouterr() == ("", "")
    assert target.stat().st_mtime_ns == before.st_mtime_ns
    assert target.stat().st_ino == before.st_ino


def test_standard_output_takes_the_same_bytes_as_the_file(tmp_path, capfdbinary):
    source = notebook(tmp_path, source="x = 'ü'\n")
    compile_(source, "-o", tmp_path / "p.yaml")
    compile_(source, "-o", "-")

    assert capfdbinary.readouterr().out == (tmp_path / "p.yaml").read_bytes()


def test_without_a_name_the_file_stands_beside_the_source(tmp_path):
    compile_(notebook(tmp_path), notebook(tmp_path, "other.ipynb"))

    assert {path.name for path in tmp_path.glob("*.yaml")} == {"nb.pipeline.yaml", "other.pipeline.yaml"}


def test_several_sources_go_into_a_folder(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    compile_(notebook(tmp_path), notebook(tmp_path, "other.ipynb"), "-o", tmp_path / "out", "--json")
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [(one["source"], one["result"]) for one in said] == [
        (str(tmp_path / "nb.ipynb"), "written"), (str(tmp_path / "other.ipynb"), "written"),
    ]  # fmt: skip


def test_check_is_silent_when_the_file_is_right_and_shows_the_difference_when_it_is_stale(tmp_path, capsys):
    source, target = notebook(tmp_path), tmp_path / "p.yaml"
    compile_(source, "-o", target)
    compile_(source, "-o", target, "--check")
    assert capsys.readouterr() == ("", "")

    notebook(tmp_path, source="x = 2\n")
    assert compile_(source, "-o", target, "--check") == 1
    shown = capsys.readouterr().out
    assert "\n-" in shown
    assert "x = 2" in shown
    assert "x = 2" not in target.read_text(encoding="utf-8")


def test_check_says_so_when_there_is_no_file(tmp_path):
    assert compile_(notebook(tmp_path), "-o", tmp_path / "p.yaml", "--check") == 10


def test_one_source_with_errors_keeps_all_from_being_written(tmp_path, capsys):
    bad = notebook(tmp_path, "bad.ipynb", source="y = (\n")
    assert compile_(notebook(tmp_path), bad) == 1
    said = capsys.readouterr().err
    assert "bad.ipynb:cell 1" in said
    assert "nothing was written" in said
    assert not list(tmp_path.glob("*.yaml"))


def test_a_flag_beats_the_notebook_and_nothing_else_does(tmp_path):
    metadata = {"pipeline_name": "theirs", "experiment_name": "lab", "base_image": "theirs:1"}
    source = notebook(tmp_path, metadata=metadata)
    compile_(source, "-o", tmp_path / "a.yaml")
    compile_(
        source,
        "-o",
        tmp_path / "b.yaml",
        "--name",
        "mine",
        "--experiment",
        "x",
        "--image",
        "mine:2",
        "--description",
        "d",
    )
    plain, told = ((tmp_path / name).read_text(encoding="utf-8") for name in ("a.yaml", "b.yaml"))

    assert "name: theirs\n" in plain
    assert "# Experiment: lab\n" in plain
    assert 'image: "theirs:1"\n' in plain
    assert "name: mine\n" in told
    assert "# Experiment: x\n# Description: d\n" in told
    assert 'image: "mine:2"\n' in told


def test_the_notebook_may_set_how_bad_a_finding_of_the_compiler_is(tmp_path, capsys):
    metadata = {"autosnapshot": True, "kalec": {"severity": {"KLC305": "error"}}}
    assert compile_(notebook(tmp_path, metadata=metadata)) == 1
    assert "KLC305" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "cloud"], ["--data", "volume:"], ["--data", "volume:nowhere"], ["--values-size", "1Gi"],
        ["--data", "volume", "--values-size", "big"], ["--toleration", "a:Sometimes"], ["--toleration", "=v"],
        ["--lock", "Pipfile"], ["-o", "nowhere/"], ["-o", "-", "--check"],
    ],
)  # fmt: skip
def test_a_bad_option_is_refused_before_anything_is_written(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pipfile").touch()
    assert compile_(notebook(tmp_path), *arguments) == 2
    assert not list(tmp_path.glob("*.yaml"))


def test_two_sources_that_would_be_one_file_are_refused(tmp_path, capsys):
    for folder in ("a", "b", "out"):
        (tmp_path / folder).mkdir()
    assert compile_(notebook(tmp_path / "a"), notebook(tmp_path / "b"), "-o", tmp_path / "out") == 2
    assert "two sources" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(tmp_path, capsys):
    assert compile_(notebook(tmp_path), "-o", tmp_path / "no-such-folder" / "p.yaml") == 10
    assert "no-such-folder" in capsys.readouterr().err


def test_the_permissions_and_the_link_of_the_file_are_kept(tmp_path):
    target, link = tmp_path / "real.yaml", tmp_path / "p.yaml"
    target.touch()
    target.chmod(0o640)
    link.symlink_to(target)
    compile_(notebook(tmp_path), "-o", link)

    assert link.is_symlink()
    assert target.read_text(encoding="utf-8")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
