"""Whatever the input, kalec says what is wrong in its own words: findings, or an error of its own; never a traceback."""

import json
import string
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from stepwise import notebook

from kalec.errors import KalecError
from kalec.findings import RULES
from kalec.load import load_pipeline
from kalec.source.magics import translate

WHOLE = notebook(
    ("imports", "import os\nfrom math import *"),
    (
        "functions",
        "class C:\n    k = 1\n    def f(self, x: 'C' = None):\n        global g\n        g = [x for x in y]\n        return g",
    ),
    ("pipeline-parameters", "rate: float = -0.5\nnames = ['a']"),
    ("step:load limit:memory:4Gi", "%matplotlib inline\nx = !ls\nfor i in x:\n    !echo {i}\ny = C().f(1)"),
    (
        "step:train prev:load secret:a:b:C",
        "match y:\n    case [h, *t]:\n        del h\ntry:\n    z = t\nexcept NameError as e:\n    raise",
    ),
    ("pipeline-metrics", "print(f'{rate:.2f}', len(names))"),
    metadata={
        "pipeline_name": "a",
        "volumes": [{"name": "v", "type": "pvc", "mount_point": "/v"}],
        "steps_defaults": ["label:a:b"],
    },
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def survives(text, name="n.ipynb"):
    try:
        loaded = load_pipeline(Path("/nowhere") / name, text=text)
    except KalecError as error:
        message = error.message
    else:
        message = "loaded"
        assert all(one.code in RULES and one.place.line >= 0 for one in loaded.diagnostics)
        assert list(loaded.diagnostics) == sorted(
            loaded.diagnostics, key=lambda one: (one.place, one.code, one.message)
        )
    assert message
    assert "\n" not in message


def paths(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from paths(one, (*path, key))


PATHS = list(paths(json.loads(WHOLE)))[1:]


def replace(whole, path, value):
    """Put a value at a path, unless what leads there has been replaced already."""
    place = whole
    for key in path[:-1]:
        if not has(place, key):
            return
        place = place[key]
    if has(place, path[-1]):
        place[path[-1]] = value


def has(place, key):
    if isinstance(place, list):
        return isinstance(key, int) and key < len(place)
    return isinstance(place, dict) and key in place


@given(st.lists(st.tuples(st.sampled_from(PATHS), PLAIN), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_a_notebook_with_parts_replaced(changes):
    whole = json.loads(WHOLE)
    for path, value in changes:
        replace(whole, path, value)
    survives(json.dumps(whole))


@given(st.integers(0, len(WHOLE)), st.integers(0, 20), st.text(max_size=5))
@settings(max_examples=40, deadline=None)
def test_a_notebook_with_bytes_cut_out_and_put_in(start, length, put_in):
    survives(WHOLE[:start] + put_in + WHOLE[start + length :])


PIECES = st.sampled_from(
    [
        *(
            "x",
            "y",
            "f",
            "C",
            "self",
            " = ",
            " += ",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ":",
            "\n",
            "\n    ",
            "\n        ",
            ",",
            ".a",
            "1",
            "'t'",
        ),
        *(
            "def f(x):",
            "class C:",
            "if x:",
            "else:",
            "for x in y:",
            "while x:",
            "try:",
            "except NameError as x:",
            "finally:",
            "with x as y:",
        ),
        *(
            "lambda x: ",
            "match x:",
            "case [y, *x]:",
            "global x",
            "nonlocal x",
            "del x",
            "import os",
            "from math import *",
            "return x",
        ),
        *(
            "raise",
            "break",
            "async ",
            "await ",
            "yield ",
            "!ls {x}",
            "%matplotlib",
            "%%bash\n",
            "x?",
            "\\",
            "f'{x}'",
            "*",
            "**",
            "@x",
            ":=",
            "#",
        ),
    ]
)
SOURCES = st.lists(PIECES, max_size=14).map("".join) | st.text(string.printable, max_size=30)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["", "imports", "functions", "step:a", "step:b prev:a", "pipeline-parameters", "pipeline-metrics"]
            ),
            SOURCES,
        ),
        max_size=5,
    )
)
@settings(max_examples=60, deadline=None)
def test_cells_of_any_text(cells):
    survives(notebook(*cells))


@given(SOURCES)
@settings(max_examples=40, deadline=None)
def test_scripts_and_modules_of_any_text(text):
    survives("# %% tags=['step:a']\n" + text, "s.py")
    survives(f"@step\ndef f(x):\n    return x\n@pipeline\ndef p(a=1):\n    {text}\n", "s.py")


@given(SOURCES)
@settings(max_examples=60, deadline=None)
def test_translation_keeps_the_lines_of_a_cell(source):
    translation = translate(source)
    assert translation.source.count("\n") <= source.count("\n")
    assert all(1 <= remark.line <= source.count("\n") + 1 for remark in translation.remarks)


@given(
    st.text(st.characters(), max_size=30)
    | st.sampled_from(["step:a:b", "limit:::", "retry:::::", "secret:::", ":", "prev:"])
)
@settings(max_examples=40, deadline=None)
def test_tags_of_any_text(tag):
    cell = {"cell_type": "code", "metadata": {"tags": ["step:a", tag]}, "source": "x = 1", "outputs": []}
    survives(notebook(cell, metadata={"steps_defaults": [tag]}))
