"""What kalec reads: notebooks of any minor, percent-format scripts, modules with decorators; and how it refuses the rest."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stepwise import codes, notebook, run

from kalec.errors import Damaged, NotFound, Refused
from kalec.load import load_pipeline
from kalec.model import Severity
from kalec.source.notebook import with_tags, without_outputs

ROOT = Path(__file__).parents[2]


def test_a_source_may_be_one_text_or_a_list_of_lines():
    cell = {"cell_type": "code", "metadata": {"tags": ["step:a"]}, "source": ["x = 1\n", "y = x"], "outputs": []}
    assert load_pipeline(Path("n.ipynb"), text=notebook(cell)).pipeline.steps[0].cells[0].source == "x = 1\ny = x"


def test_cells_count_prose_too():
    prose = {"cell_type": "markdown", "metadata": {}, "source": "# Title"}
    cell = {"cell_type": "code", "metadata": {"tags": ["step:a"]}, "source": "x", "outputs": []}
    loaded = load_pipeline(Path("n.ipynb"), text=notebook(prose, cell))
    assert str(loaded.diagnostics[0]).startswith("n.ipynb:cell 2 [c2]:1:1: error KLC104")


def test_an_old_minor_without_cell_ids_is_read():
    text = notebook(("step:a", "x = 1"), nbformat_minor=2).replace('"id": "c1", ', "")
    assert load_pipeline(Path("n.ipynb"), text=text).pipeline.steps[0].cells[0].cell_id == ""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", Damaged),
        ("{", Damaged),
        ("[]", Damaged),
        ("{}", Damaged),
        ("[" * 100_000, Damaged),
        ('{"nbformat": 4, "cells": 5}', Damaged),
        ('{"nbformat": 4, "cells": [5]}', Damaged),
        ('{"nbformat": 4, "cells": [{"cell_type": "code", "source": 5}]}', Damaged),
        ('{"nbformat": 4, "cells": [{"cell_type": "code", "source": "", "metadata": 5}]}', Damaged),
        ('{"nbformat": 4, "cells": [{"cell_type": "code", "source": "", "metadata": {"tags": "x"}}]}', Damaged),
        ('{"nbformat": 3, "worksheets": []}', Refused),
        ('{"nbformat": 4, "cells": [], "metadata": {"kernelspec": {"language": "R"}}}', Refused),
        ('{"nbformat": 4, "cells": [], "metadata": {"language_info": {"name": "julia"}}}', Refused),
    ],
)
def test_what_is_no_python_notebook_of_format_4_is_refused(text, kind):
    with pytest.raises(kind, match=r"n\.ipynb"):
        load_pipeline(Path("n.ipynb"), text=text)


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(NotFound, match="there is no file"):
        load_pipeline(tmp_path / "n.ipynb")
    (tmp_path / "n.txt").write_text("x")
    with pytest.raises(Refused, match="neither a notebook"):
        load_pipeline(tmp_path / "n.txt")
    with pytest.raises(Refused, match="folder"):
        load_pipeline(tmp_path)
    (tmp_path / "n.ipynb").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Damaged, match="not UTF-8"):
        load_pipeline(tmp_path / "n.ipynb")


def test_a_notebook_without_cells_has_no_steps():
    assert codes(load_pipeline(Path("n.ipynb"), text=notebook())) == ["KLC001"]


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [{"text": 'a "quoted" ] } [ \\ line'}],
        [{"data": {"x": ["\\", '\\"', "]"], "deep": [[[{"outputs": [1]}]]]}}],
        [{"text": "snow \u2603 \ud83d\ude00"}],
    ],
)
def test_outputs_are_cut_out_and_nothing_else(outputs):
    cell = {"cell_type": "code", "source": 'x = {"outputs": [1]}', "metadata": {"outputs": 1}, "outputs": outputs}
    for indent in (None, 1):
        whole = json.dumps({"cells": [cell, cell], "metadata": {"outputs": [2]}}, indent=indent, ensure_ascii=False)
        expected = {"cells": [{**cell, "outputs": None}] * 2, "metadata": {"outputs": [2]}}
        assert json.loads(without_outputs(whole.encode("utf-8", errors="surrogatepass"))) == expected


INSIDE = [
    None,
    1,
    1.5,
    "é",
    r"\ud800",
    '"}, [',
    [],
    {},
    {"metadata": {"tags": []}},
    [[{"metadata": {}}]],
    {"cells": [{}]},
]
OBJECTS = st.dictionaries(st.sampled_from(["metadata", "cells", "x"]), st.sampled_from(INSIDE))


@given(st.lists(OBJECTS, min_size=1, max_size=3), OBJECTS, st.sampled_from([None, 1, 2]), st.booleans(), st.data())
def test_tags_are_added_to_a_notebook_and_no_other_byte_of_it_is_changed(cells, other, indent, ascii_only, drawn):
    cells = [{"source": "", **cell, "metadata": dict(cell)} for cell in cells]
    whole = {"x": other, "cells": cells, "metadata": other, "y": [[other]]}  # Jupyter too writes the cells first

    def written():
        return json.dumps(whole, indent=indent, ensure_ascii=ascii_only).encode()

    before = written()
    tags = {number: ["step:a", "prev:b"] for number in drawn.draw(st.sets(st.integers(1, len(cells))))}
    for number, own in tags.items():
        cells[number - 1]["metadata"]["tags"] = own

    assert b"".join(with_tags(before, tags)) == written()


def test_a_half_of_a_surrogate_pair_in_the_metadata_of_a_cell_stays_what_it_is():
    before = rb'{"cells": [{"metadata": {"x": "\ud800 ' + "é".encode() + b'"}}]}'
    after = before.replace(b'"}}]}', b'", "tags": ["step:a"]}}]}')

    assert b"".join(with_tags(before, {1: ["step:a"]})) == after


@pytest.mark.slow
def test_a_notebook_full_of_outputs_costs_no_more_than_three_times_its_size(tmp_path):
    lines = [f"{number}\n" for number in range(1_000_000)]
    cell = {"cell_type": "code", "metadata": {"tags": ["step:a"]}, "source": "x = 1", "outputs": [{"text": lines}]}
    path = tmp_path / "n.ipynb"
    path.write_text(notebook(cell))
    script = (
        "import resource, sys; from pathlib import Path; from kalec.load import load_pipeline\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert load_pipeline(Path(sys.argv[1])).pipeline.steps\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3 * path.stat().st_size


SCRIPT = """\
# ---
# kubeflow_notebook:
#   pipeline_name: taxi
#   docker_image: python:3.12
# ---
import os

# %% [markdown]
# # Load

# %% Load it tags=["step:load"]
# !ls
x = os.getcwd()

# %% tags=["step:use", "prev:load"]
seen = x
print(undefined)
"""


def test_a_percent_script_is_read_and_its_lines_are_those_of_the_file():
    loaded = load_pipeline(Path("taxi.py"), text=SCRIPT)
    assert loaded.pipeline.name == "taxi"
    assert loaded.pipeline.settings.base_image == "python:3.12"
    assert [step.name for step in loaded.pipeline.steps] == ["load", "use"]
    errors = [str(one) for one in loaded.diagnostics if one.severity is Severity.ERROR]
    assert errors[-1].startswith("taxi.py:17:7: error KLC104 undefined name 'undefined'")


def test_code_before_the_first_marker_belongs_to_no_step():
    assert "KLC016" in codes(load_pipeline(Path("taxi.py"), text=SCRIPT))


@pytest.mark.parametrize("marker", ["# %% tags=[", "# %% tags=[5]", "# %% tags=5"])
def test_tags_of_a_script_that_are_no_list_are_refused(marker):
    with pytest.raises((Damaged, Refused), match=r"s\.py:1"):
        load_pipeline(Path("s.py"), text=f"{marker}\nx = 1\n")


MODULE = '''\
"""A module of Kale 0.x."""
from kale.sdk import pipeline, step

SCALE = 10


def scaled(x):
    return x * SCALE


@step(name="load")
def load(n):
    return list(range(n)), n


@step(name="Train-It", limits={"nvidia.com/gpu": "1"}, retry_count=3, retry_interval=20, timeout=60, labels={"a": "b"})
def train(rows, rate):
    rows.append(1)
    return scaled(sum(rows) * rate)


@step()
def check(model):
    return model + 1


@pipeline(name="taxi", experiment="demo", steps_defaults={"labels": {"team": "x"}})
def taxi(n=3, rate: float = -0.5):
    """What it is for."""
    rows, _ = load(n)
    model = train(rows, rate)
    seen = check(model)
    seen_rows = check(
        len(rows)
    ).after(train)


if __name__ == "__main__":
    taxi()
'''


def test_a_module_with_decorators_is_a_pipeline_and_its_arguments_are_copies():
    loaded = load_pipeline(Path("taxi.py"), text=MODULE)
    assert loaded.diagnostics == ()
    pipeline = loaded.pipeline
    assert (pipeline.name, pipeline.experiment, pipeline.description) == ("taxi", "demo", "What it is for.")
    assert [(parameter.name, parameter.default) for parameter in pipeline.parameters] == [("n", 3), ("rate", -0.5)]
    assert [(step.name, step.after) for step in pipeline.steps] == [
        ("load", ()),
        ("train_it", ("load",)),
        ("check", ("train_it",)),
        ("check_2", ("load", "train_it")),
    ]
    train = pipeline.step("train_it").settings
    assert (train.limits, train.labels, train.timeout_seconds) == ({"nvidia.com/gpu": "1"}, {"team": "x", "a": "b"}, 60)
    assert (train.retry.times, train.retry.interval_seconds) == (3, 20)
    assert run(pipeline) == {"seen": -19.0, "seen_rows": 4}


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("x = 1", Refused, "only calls steps"),
        ("x = unknown()", Refused, "'unknown' is no step"),
        ("x = one().after(nothing)", Refused, "no step stands above"),
    ],
)
def test_a_pipeline_function_only_calls_steps(body, kind, message):
    text = f"from kale.sdk import step, pipeline\n@step\ndef one():\n    return 1\n@pipeline\ndef p():\n    {body}\n"
    with pytest.raises(kind, match=message):
        load_pipeline(Path("p.py"), text=text)


def test_of_several_pipelines_one_is_named():
    text = "@step\ndef one():\n    return 1\n@pipeline\ndef p():\n    one()\n@pipeline\ndef q():\n    one()\n"
    with pytest.raises(Refused, match="several pipelines: p, q"):
        load_pipeline(Path("p.py"), text=text)
    assert load_pipeline(Path("p.py"), text=text, pipeline="q").pipeline.name == "q"
    with pytest.raises(NotFound, match="no pipeline function 'r'"):
        load_pipeline(Path("p.py"), text=text, pipeline="r")


def test_a_notebook_may_be_made_of_others(tmp_path):
    reference = {"cell_type": "code", "source": "", "outputs": []}
    inner = notebook(
        ("imports", "import math"), ("step:load", "x = math.floor(2.5)"), ("step:more prev:load", "y = x + 1")
    )
    (tmp_path / "inner.ipynb").write_text(inner)
    outer = notebook(
        ("step:first", "k = 5"),
        {**reference, "metadata": {"tags": ["notebook:data"], "notebook_path": "inner.ipynb"}},
        ("step:last", "seen = y + k"),
    )
    (tmp_path / "outer.ipynb").write_text(outer)
    loaded = load_pipeline(tmp_path / "outer.ipynb")
    assert loaded.diagnostics == ()
    assert [(step.name, step.unit) for step in loaded.pipeline.steps] == [
        ("first", ""),
        ("data_load", "data"),
        ("data_more", "data"),
        ("last", ""),
    ]
    assert run(loaded.pipeline) == {"seen": 8}
