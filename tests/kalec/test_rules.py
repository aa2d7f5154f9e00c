"""Each rule has a notebook that breaks it, and the finding has its place; a like notebook that keeps it has none."""

import pytest
from stepwise import codes, load

from kalec.findings import RULES
from kalec.model import Severity

GOOD = ("step:a", "x = 1")

# code -> (cells, metadata, cell, line) of the one finding.
BROKEN = {
    "KLC001": ([("imports", "import os")], {}, 0, 0),
    "KLC002": ([("step:a", "x = 1\ny = = 2")], {}, 1, 2),
    "KLC003": ([("step:a", "x = 1\n%run other.py")], {}, 1, 2),
    "KLC004": ([("step:a", "%matplotlib inline\nx = 1")], {}, 1, 1),
    "KLC005": ([("step:a", "!ls")], {}, 1, 1),
    "KLC010": ([("stpe:b", "y = 1"), GOOD], {}, 1, 0),
    "KLC011": ([("step:a hide-input", "x = 1")], {}, 1, 0),
    "KLC012": ([("step:a limit:memory", "x = 1")], {}, 1, 0),
    "KLC013": ([("step:a prev:nowhere", "x = 1")], {}, 1, 0),
    "KLC014": ([("step:a prev:b", "x = 1"), ("step:b prev:a", "y = 1")], {}, 1, 0),
    "KLC015": ([("step:a image:one", "x = 1"), ("step:a image:two", "y = 1")], {}, 2, 0),
    "KLC016": ([("", "x = 1"), ("step:a", "y = 1")], {}, 1, 0),
    "KLC017": ([("step:a", "# nothing")], {}, 1, 0),
    "KLC018": ([GOOD, ("limit:cpu:1", "y = 1")], {}, 2, 0),
    "KLC019": ([GOOD, ("step:b prev:a if:x>0", "y = x")], {}, 2, 0),
    "KLC020": ([GOOD], {"pipeline_nmae": "x"}, 0, 0),
    "KLC021": ([GOOD], {"pipeline_name": 5}, 0, 0),
    "KLC022": ([GOOD], {"volumes": [{"name": "v", "type": "new_pvc", "mount_point": "/v"}]}, 0, 0),
    "KLC023": ([GOOD, ("notebook:other", "")], {}, 2, 0),
    "KLC030": ([("pipeline-parameters", "x = f()"), GOOD], {}, 1, 1),
    "KLC031": ([("pipeline-parameters", "x: int = 'a'"), ("step:a", "y = x")], {}, 1, 1),
    "KLC032": ([("pipeline-parameters", "x = 1"), ("step:a", "x = 2")], {}, 2, 1),
    "KLC033": ([GOOD, ("pipeline-metrics", "if x:\n    print(x)")], {}, 2, 1),
    "KLC104": ([("step:a", "x = 1\nprint(xx + x)")], {}, 1, 2),
    "KLC105": ([("step:a", "x = 1"), ("step:b", "y = x")], {}, 2, 1),
    "KLC106": ([("step:a", "import os\nif os.getpid():\n    x = 1\nprint(x)")], {}, 1, 4),
    "KLC107": ([("step:a", "x = 1\ndel x"), ("step:b prev:a", "print(x)")], {}, 2, 1),
    "KLC108": (
        [("step:a", "x = 1"), ("step:b", "x = 2"), ("step:c prev:a prev:b", "print(x)")],
        {},
        3,
        1,
    ),
    "KLC109": (
        [("step:a", "x = [1]"), ("step:b prev:a", "x.append(2)"), ("step:c prev:a", "print(x)")],
        {},
        3,
        1,
    ),
    "KLC109 ": (
        [
            ("step:a", "x = [1]\ny = [2]"),
            ("step:b", "x = 0"),
            ("step:c prev:a", "try:\n    y.append(0)\nexcept AttributeError:\n    x = []"),
            ("step:d prev:c", "print(x)"),
        ],
        {},
        4,
        1,
    ),
    "KLC110": ([("step:a", "from no_such_module_anywhere import *")], {}, 1, 1),
    "KLC111": ([("step:a", "print(globals())")], {}, 1, 1),
    "KLC112": (
        [
            ("step:a", "k = 1\ndef f(x=k):\n    return x"),
            ("step:b prev:a", "k = 2"),
            ("step:c prev:b", "print(f(), k)"),
        ],
        {},
        1,
        2,
    ),
    "KLC113": ([("step:a", "x = 1"), ("step:b prev:a", "print(x)"), ("step:a", "x = 2")], {}, 2, 1),
    "KLC114": ([("step:a", "x = 1"), ("functions", "y = x + 1"), ("step:b prev:a", "print(y)")], {}, 2, 1),
    "KLC115": (
        [("step:a", "import os\nos.environ['A'] = '1'"), ("step:b prev:a", "import os\nprint(os.getcwd())")],
        {},
        1,
        2,
    ),
    "KLC115 ": (
        [("step:a", "class C:\n    n = 0"), ("step:b prev:a", "C.n += 1"), ("step:c prev:b", "print(C.n)")],
        {},
        2,
        1,
    ),
    "KLC115      ": (
        [("step:a", "class C:\n    n = []\nC.n.append(1)\nx = C()"), ("step:b prev:a", "print(x.n)")],
        {},
        1,
        3,
    ),
    "KLC115  ": (
        [
            ("functions", "class C:\n    n = 0\ndef up():\n    C.n += 1"),
            ("step:b", "up()"),
            ("step:c prev:b", "print(C.n)"),
        ],
        {},
        2,
        0,
    ),
    "KLC115   ": (
        [
            ("functions", "def f(x, seen=[]):\n    seen.append(x)\n    return seen"),
            ("step:a", "f(1)"),
            ("step:b", "f(2)"),
        ],
        {},
        1,
        1,
    ),
    "KLC115    ": (
        [
            (
                "functions",
                "def counted(f):\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n        return f(n)\n"
                "    return g\n@counted\ndef h(n):\n    return n",
            ),
            ("step:a", "h()"),
            ("step:b", "h()"),
        ],
        {},
        1,
        9,
    ),
    "KLC116": ([("functions", "x = 1"), ("step:a", "print(x)"), ("functions", "x = 2")], {}, 2, 1),
    "KLC117": (
        [
            ("step:a", "import colorsys\nx = [1]"),
            ("step:b prev:a", "colorsys.rgb_to_hsv(x, 1, 1)"),
            ("step:c prev:a", "print(x)"),
        ],
        {},
        3,
        1,
    ),
    "KLC201": ([("step:a", "f = open('/dev/null')"), ("step:b prev:a", "f.read()")], {}, 1, 1),
    "KLC202": ([("step:a", "open('a.txt', 'w')"), ("step:b prev:a", "open('a.txt')")], {}, 2, 1),
    "KLC202 ": ([("step:a", "%%writefile a.py\nx = 1"), ("step:b prev:a", "open('a.py').read()")], {}, 2, 1),
    "KLC203": ([("step:a", "password = 'correct horse'")], {}, 1, 1),
    "KLC204": ([("step:a", "%pip install requests")], {}, 1, 1),
    "KLC205": ([("step:a", "import no_such_module_anywhere")], {}, 1, 1),
    "KLC206": ([("step:a", "raise ValueError\nx = 1")], {}, 1, 2),
}


@pytest.mark.parametrize("code", BROKEN)
def test_a_notebook_that_breaks_a_rule_is_told_so_at_its_place(code):
    cells, metadata, cell, line = BROKEN[code]
    found = [one for one in load(*cells, metadata=metadata).diagnostics if one.code == code.strip()]
    assert [(one.place.cell, one.place.line) for one in found] == [(cell, line)]
    assert found[0].severity is RULES[code.strip()].severity


def test_every_rule_has_a_notebook_that_breaks_it():
    loading = {
        code for code in RULES if not code.startswith("KLC3")
    }  # the others are of test_limits.py and test_tune.py
    assert {code.strip() for code in BROKEN} == loading


@pytest.mark.parametrize(
    "cells",
    {
        "a loop's name after the loop": [("step:a", "for i in [1]:\n    y = i\nprint(y)")],
        "a name made on both sides": [("step:a", "import os\nif os.getpid():\n    x = 1\nelse:\n    x = 2\nprint(x)")],
        "a name that is used in a function before it is made": [("step:a", "def f():\n    return k\nk = 1\nf()")],
        "a name in a text annotation": [("step:a", "def f(x: 'Nothing'):\n    return x\nf(1)")],
        "parallel steps with the same import": [
            ("step:a", "import os\nos.getcwd()"),
            ("step:b", "import os\nos.getcwd()"),
        ],
        "parallel steps with names of their own": [("step:a", "m = 1\nprint(m)"), ("step:b", "m = 2\nprint(m)")],
        "a function with defaults that stay": [
            ("functions", "def f(x, more=[]):\n    return [x, *more]"),
            ("step:a", "f(1)"),
            ("step:b", "f(2)"),
        ],
        "a decorator that keeps nothing": [
            (
                "functions",
                "def twice(f):\n    def g(x):\n        made = []\n        made.append(f(x))\n        return made\n    return g\n"
                "@twice\ndef h(x):\n    return x",
            ),
            ("step:a", "h(1)"),
            ("step:b", "h(2)"),
        ],
        "a file on a volume": [("step:a", "open('/data/a.txt', 'w')"), ("step:b prev:a", "open('/data/a.txt')")],
        "a file made anew": [("step:a", "open('a.txt', 'w')"), ("step:b", "open('a.txt', 'w')\nopen('a.txt')")],
        "display": [("step:a", "display(1)")],
        "an optional import": [
            ("step:a", "try:\n    import no_such\nexcept ImportError:\n    no_such = None\nprint(no_such)")
        ],
        "a password from the environment": [("step:a", "import os\npassword = os.environ['PASSWORD']\napi_key = ''")],
        "comprehensions and lambdas": [
            ("step:a", "f = lambda a, *b, c=1, **d: (a, b, c, d)\nx = {k: v for k, v in {}.items()}")
        ],
        "a class that uses itself": [("step:a", "class A:\n    def make(self):\n        return A()\nA().make()")],
        "a module's name": [("step:a", "print(__name__)")],
    }.values(),
    ids=str,
)
def test_a_notebook_that_is_right_has_no_findings(cells):
    volume = {"name": "data", "type": "pvc", "mount_point": "/data"}
    assert codes(load(*cells, metadata={"volumes": [volume]}), at_least=Severity.NOTE) == []


def test_all_cells_are_checked_though_one_does_not_parse():
    found = codes(load(("step:a", "x = = 1"), ("step:b", "y = zz"), ("step:c", "return 5")))
    assert found == ["KLC002", "KLC104", "KLC002"]


def test_a_near_name_is_given():
    loaded = load(("step:a", "train_frame = 1"), ("step:b prev:a", "print(train_frme)"))
    assert "Did you mean 'train_frame'?" in loaded.diagnostics[0].message


def test_findings_are_sorted_by_place_and_each_stands_once():
    loaded = load(("step:a", "b2\na1"), ("step:b", "c3"), ("step:c", "c3"))
    places = [(one.place.cell, one.place.line) for one in loaded.diagnostics]
    assert places == [(1, 1), (1, 2), (2, 1), (3, 1)]


def test_a_severity_of_the_notebook_holds():
    metadata = {"kalec": {"severity": {"KLC104": "note", "KLC105": "off"}}}
    loaded = load(("step:a", "x = 1"), ("step:b", "print(x, y)"), metadata=metadata)
    assert [(one.code, one.severity) for one in loaded.diagnostics] == [("KLC104", Severity.NOTE)]
    assert not loaded.has_errors
