"""IPython's magics: left out, kept as Python, or refused; lines stay where they are."""

import subprocess

import pytest
from stepwise import load

from kalec.source.magics import translate


def execute(source, names=(), **variables):
    """Run a translated cell; give its namespace."""
    namespace = dict(variables)
    exec(compile(translate(source, frozenset(names)).source, "cell", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    "line",
    [
        "%matplotlib inline",
        "%load_ext autoreload",
        "%autoreload 2",
        "%config A.b = 1",
        "%timeit f(x)",
        "x?",
        "?x",
        "x.y??",
        "%env",
    ],
)
def test_what_only_sets_up_or_shows_is_left_out_with_a_note(line):
    translation = translate(f"x = 1\n{line}\ny = 2")
    assert translation.source == "x = 1\n\ny = 2"
    assert [(remark.code, remark.line) for remark in translation.remarks] == [("KLC004", 2)]


@pytest.mark.parametrize("magic", ["%%time", "%%capture", "%%capture out", "%%prun -s cumtime"])
def test_a_cell_magic_around_code_is_left_out_and_the_code_kept(magic):
    assert execute(f"{magic}\nx = 1\n%matplotlib inline\ny = 2")["y"] == 2


@pytest.mark.parametrize("magic", ["%%timeit", "%%html", "%%javascript", "%%latex"])
def test_a_cell_that_leaves_nothing_behind_is_left_out(magic):
    assert translate(f"{magic}\nx = 1").source == ""


def test_what_time_runs_is_kept():
    assert execute("%time x = 1 + 1")["x"] == 2


@pytest.mark.parametrize(
    "line", ["%run a.py", "%store x", "%conda install x", "%pylab", "%nosuch", "x = %nosuch", "%load a"]
)
def test_what_has_no_meaning_in_a_step_is_refused_at_its_line(line):
    found = translate(f"x = 1\n{line}").remarks
    assert [(remark.code, remark.line) for remark in found] == [("KLC003", 2)]


@pytest.mark.parametrize("magic", ["%%cython", "%%R", "%%sql", "%%nosuch", "%%bash --out x", "%%writefile"])
def test_a_cell_of_another_language_is_refused(magic):
    assert [remark.code for remark in translate(f"{magic}\nx").remarks] == ["KLC003"]


def test_a_shell_command_gives_its_lines():
    assert execute("x = !printf 'a\\nb\\n'")["x"] == ["a", "b"]


def test_a_shell_command_in_a_block_and_over_lines_keeps_its_place(tmp_path):
    source = "for n in [1, 2]:\n    !echo $n \\\n      {n + 1} >> {path}\nx = 1"
    assert translate(source).source.count("\n") == source.count("\n")
    execute(source, ["n", "path"], path=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "1 2\n2 3\n"


def test_braces_and_dollars_of_the_shell_stay_the_shells(tmp_path):
    execute("!V=7; echo ${V} $V | awk '{print $1}' > {path}", ["path"], path=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "7\n"


def test_a_bash_cell_runs_and_fails_as_in_the_notebook(tmp_path):
    execute(f'%%bash\nx=\'a "b" \\\\ c\'\necho "$x" > {tmp_path}/out')
    assert (tmp_path / "out").read_text() == 'a "b" \\\\ c\n'
    with pytest.raises(subprocess.CalledProcessError):
        execute("%%bash\nexit 3")
    execute("%%bash --no-raise-error\nexit 3")


@pytest.mark.parametrize(
    "text", ['x = """a\\n"""', "tab\tand 'quotes'", 'ends in "', "back\\slash\\", "", "\u00e9 \U0001f600"]
)
def test_a_written_file_holds_what_the_cell_says(tmp_path, text):
    path = tmp_path / "out.py"
    execute(f"%%writefile {path}\nfirst\n{text}")
    assert path.read_text(encoding="utf-8") == f"first\n{text}\n"
    execute(f"%%writefile -a {path}\nmore")
    assert path.read_text(encoding="utf-8").endswith("\nmore\n")


def test_environment_variables_are_set_and_read(monkeypatch):
    monkeypatch.setenv("KALEC_TEST", "old")
    assert execute("%env KALEC_TEST=new {x}\ny = %env KALEC_TEST", ["x"], x=5)["y"] == "new 5"


@pytest.mark.parametrize(
    "lead", ["%pip install", "!pip install", "!python -m pip install", "!{sys.executable} -m pip install"]
)
def test_pip_install_becomes_requirements(lead):
    translation = translate(f"{lead} -q --upgrade 'numpy>=1.2' pandas==2.1 -i https://x.org/simple > /dev/null 2>&1")
    assert translation.requirements == ["numpy>=1.2", "pandas==2.1"]
    assert translation.source == ""


@pytest.mark.parametrize("words", ["-r requirements.txt", "-e .", "x && y"])
def test_pip_install_of_what_is_no_requirement_is_refused(words):
    assert [remark.code for remark in translate(f"!pip install {words}").remarks] == ["KLC003"]


def test_requirements_hold_for_the_step_and_those_after_it():
    pipeline = load(
        ("imports", "%pip install a==1"),
        ("step:x", "!pip install b==1"),
        ("step:y", "z = 1"),
        ("step:z prev:x", "z = 1"),
    ).pipeline
    assert [step.requirements for step in pipeline.steps] == [("a==1", "b==1"), ("a==1",), ("a==1", "b==1")]


@pytest.mark.parametrize(
    "source",
    [
        "x = '''\n%matplotlib\n!ls\n'''",
        "x = (5\n%3)",
        "a = 5 \\\n%3",
        "y = 'a?'",
        "# %matplotlib inline\n# !ls",
        "x = a != b",
        "print('!ls')",
    ],
)
def test_python_that_looks_like_a_magic_is_left_alone(source):
    assert translate(source).source == source
    assert translate(f"%matplotlib\n{source}").source == f"\n{source}"


def test_a_block_of_nothing_but_magics_stays_python():
    assert execute("if True:\n    %matplotlib inline\nx = 1")["x"] == 1
