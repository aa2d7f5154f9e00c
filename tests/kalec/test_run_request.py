"""What `kalec run` refuses, before anything runs."""

import pytest
from lab import Lab

from kalec.errors import Failed, NotFound, Refused

TWO = (("pipeline-parameters", "n = 3"), ("step:load", "x = list(range(n))"), ("step:add prev:load", "total = sum(x)"))
TYPED = ("pipeline-parameters", "i = 1\nf = 0.5\ns = 'a'\nb = False\nl = [1]\nd = {'k': 1}")


@pytest.fixture
def lab(tmp_path, capfd):
    return Lab(tmp_path, capfd)


@pytest.mark.parametrize(
    ("word", "told", "hint"),
    [
        ("i=1.5", "parameter i is an integer, and '1.5' is not", "--param i=-5"),
        ("f=x", "parameter f is a number", ""),
        ("b=1", "parameter b is true or false", ""),
        ("l={}", "parameter l is a JSON list", ""),
        ("d=[", "parameter d is a JSON object", ""),
        ("s", "is not NAME=VALUE", ""),
        ("ff=1", "no parameter 'ff'", "did you mean f?"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(lab, word, told, hint):
    lab.write(TYPED, ("step:a", "print(i, f, s, b, l, d)"))
    with pytest.raises(Refused) as refused:
        lab.run(word)
    assert told in refused.value.message
    assert hint in refused.value.hint
    assert lab.runs.numbers() == []


@pytest.mark.parametrize("options", [{"first": "lod"}, {"last": "lod"}])
def test_an_unknown_step_is_refused_with_the_near_name(lab, options):
    lab.write(*TWO)
    with pytest.raises(NotFound, match="no such step") as refused:
        lab.run(**options)
    assert refused.value.hint == "did you mean load?"
    assert lab.runs.numbers() == []


def test_from_after_to_is_refused(lab):
    lab.write(*TWO)
    with pytest.raises(Refused, match="load does not come after add"):
        lab.run(first="add", last="load")


def test_a_notebook_with_errors_is_refused_and_they_are_told(lab):
    lab.write(("step:a", "y = undefined_name"))
    with pytest.raises(Failed, match=r"n.ipynb has 1 error"):
        lab.run()
    assert "undefined_name" in lab.err
    assert lab.runs.numbers() == []


def test_a_python_that_is_none_is_refused(lab):
    lab.write(*TWO)
    with pytest.raises(Refused, match="--python /bin/false is no Python"):
        lab.run(python="/bin/false")


def test_a_state_that_is_no_folder_is_refused(lab):
    lab.write(*TWO)
    with pytest.raises(Refused, match="is not a folder"):
        lab.run(state=lab.notebook)
