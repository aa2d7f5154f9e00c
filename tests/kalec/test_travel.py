"""The pipeline's results are the notebook's: each case runs both ways, in one namespace and in steps."""

import ast

import pytest
from stepwise import as_pipeline, codes, load, same_both_ways

from kalec.analysis.definitions import survey
from kalec.model import Severity

# Two or three steps, each after the one before. Names that begin with `seen` are compared.
CHAINS = {
    "a plain name": ["x = 1", "seen = x + 1"],
    "an augmented assignment": ["x = [1]", "x += [2]", "seen = x"],
    "an augmented number": ["x = 1", "x += 1", "seen = x"],
    "a change in place": ["items = [1]", "items.append(2)", "seen = items"],
    "a change of an item": ["d = {}", "d['k'] = 1", "seen = d"],
    "a change of an attribute": [
        "from types import SimpleNamespace\no = SimpleNamespace(a=1)",
        "o.a = 2",
        "seen = o.a",
    ],
    "a change by an unknown function": ["d = {'a': 1}", "import operator\noperator.setitem(d, 'b', 2)", "seen = d"],
    "a value made from itself": ["def f(x):\n    return x + 1\nx = 1", "x = f(x)", "seen = x"],
    "a free variable of a function": ["k = 2\ndef f(x):\n    return x * k", "seen = f(3)"],
    "a free variable of a nested function": [
        "k = 2\ndef f():\n    def g(x):\n        return x * k\n    return g(2)",
        "seen = f()",
    ],
    "a function passed to map": ["k = 2\ndef f(x):\n    return x * k", "seen = list(map(f, [1, 2]))"],
    "a decorator": [
        "def twice(f):\n    def g(*a):\n        return 2 * f(*a)\n    return g\n@twice\ndef h(x):\n    return x",
        "seen = h(3)",
    ],
    "a default argument": ["k = 7\ndef f(x=k):\n    return x", "seen = f()"],
    "type hints, also in texts": [
        "class Box:\n    pass\ndef f(x: 'Box', y: int = 1) -> 'Box':\n    return y",
        "seen = f(None)",
    ],
    "a walrus": ["x = [1, 2]", "if (n := len(x)) > 1:\n    pass", "seen = n"],
    "a walrus in a comprehension": ["x = [1, 2]", "y = [last := i for i in x]", "seen = last"],
    "an f-string": ["x = 1.234\nw = 8", "seen = f'{x:{w}.1f} {x!r}'"],
    "a loop's target": ["x = [1, 2]", "for i in x:\n    pass", "seen = i"],
    "a starred target": ["first, *rest = [1, 2, 3]", "seen = (first, rest)"],
    "an import of an earlier step": ["import math", "seen = math.floor(2.5)"],
    "an import under another name": ["import math as m\nfrom math import floor as low", "seen = (m.pi, low(2.5))"],
    "an import of a module in a package": ["import os.path", "seen = os.path.basename('a/b')"],
    "a shadowed name in a function": ["x = 1", "def f():\n    x = 5\n    return x\ny = f()", "seen = (x, y)"],
    "await at the top": [
        "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x",
        "y = await f(3)",
        "seen = y",
    ],
    "a star import": ["from math import *", "x = floor(pi)", "seen = (x, ceil(0.5))"],
    "a comprehension's variable of the same name": ["x = 1", "y = [x for x in range(3)]", "seen = (x, y)"],
    "a lambda's variable of the same name": ["x = 1", "f = lambda x: x + 1\ny = f(5)", "seen = (x, y)"],
    "a deleted name that is made again": ["x = 1", "del x\nx = 2", "seen = x"],
    "a deletion in a side path": ["x = 1\ny = 2", "del y", "seen = x"],
    "a global that a function changes": ["n = 0\ndef f():\n    global n\n    n += 1", "f()\nf()", "seen = n"],
    "free variables of a lambda": ["k = 3\nf = lambda x: x * k", "seen = f(2)"],
    "free variables of a method": [
        "k = 3\nclass C:\n    def m(self):\n        return k\nc = C()",
        "seen = c.m()",
    ],
    "free variables of async def": [
        "k = 3\nasync def f():\n    return k",
        "y = await f()",
        "seen = y",
    ],
    "free variables of another name for a function": ["k = 3\ndef f():\n    return k\ng = f", "seen = g()"],
    "match captures": [
        "d = {'a': 1}\nl = [1, 2, 3]",
        "match d:\n    case {'a': v}:\n        pass\nmatch l:\n    case [h, *t]:\n        pass",
        "seen = (v, h, t)",
    ],
    "a conditional assignment": ["x = 1\nc = False", "if c:\n    x = 2\ny = x", "seen = (x, y)"],
    "a conditional assignment that happens": ["x = 1\nc = True", "if c:\n    x = 2", "seen = x"],
    "try and NameError": ["x = 1", "try:\n    x\nexcept NameError:\n    x = 2", "seen = x"],
    "try without a name": ["y = 1", "try:\n    x\nexcept NameError:\n    x = 2", "seen = (x, y)"],
    "a name that shadows a builtin": ["id = 5\nsum = 6", "seen = (id, sum)"],
    "a loop that may run zero times": ["y = 0\nitems = []", "for i in items:\n    y = i", "seen = y"],
    "a change in a loop": ["d = {}", "for i in range(3):\n    d[i] = i", "seen = d"],
    "another name in one step": ["a = [1]\nb = a", "a.append(2)", "seen = (a, b, a is b)"],
    "another name in a later step": ["a = [1]", "b = a\nb.append(2)", "seen = (a, b)"],
    "an element that is changed through another name": ["a = [[1]]", "b = a[0]\nb.append(2)", "seen = a"],
    "a loop over parts that are changed": ["rows = [[1], [2]]", "for row in rows:\n    row.append(0)", "seen = rows"],
    "a holder whose content is changed later": [
        "x = [1]",
        "h = {'x': x}",
        "x.append(2)",
        "seen = (h, x, h['x'] is x)",
    ],
    "a content changed through its holder": ["x = [1]", "h = {'x': x}", "h['x'].append(2)", "seen = (h, x)"],
    "a function that appends to a global": [
        "history = []\ndef log(x):\n    history.append(x)",
        "log(1)",
        "log(2)\nseen = history",
    ],
    "a function that changes its argument": ["def add(x):\n    x.append(1)\nl = []", "add(l)", "seen = l"],
    "an iterator that is used up": ["it = iter([1, 2, 3])", "a = next(it)", "seen = (a, list(it))"],
    "an iterator that a loop uses up": ["it = iter([1, 2, 3])", "for i in it:\n    break", "seen = list(it)"],
    "an instance keeps its class": [
        "class C:\n    def __init__(self):\n        self.n = 0\n    def up(self):\n        self.n += 1\na = C()\nb = C()",
        "a.up()",
        "seen = (a.n, b.n, type(a) is type(b), type(a) is C)",
    ],
    "a subclass": [
        "class A:\n    def f(self):\n        return k\nclass B(A):\n    pass\nk = 4",
        "o = B()",
        "seen = (o.f(), isinstance(o, A))",
    ],
    "a class changed by its operator": [
        "class N:\n    n = 0\n    def __lshift__(self, x):\n        self.n += x\n        return self\no = N()",
        "o << 3",
        "seen = o.n",
    ],
    "a dataclass": [
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 0",
        "p = P(2)",
        "seen = (p.x, p == P(2))",
    ],
    "a named tuple": ["from collections import namedtuple\nP = namedtuple('P', 'x y')\np = P(1, 2)", "seen = p.x"],
    "an enumeration": ["import enum\nclass Color(enum.Enum):\n    RED = 1\nc = Color.RED", "seen = c is Color.RED"],
    "a function held in a dict": ["k = 2\ndef f():\n    return k\nd = {'f': f}", "seen = d['f']()"],
    "an instance made in a function": [
        "class C:\n    v = 3\ndef make():\n    return C()\nc = make()",
        "seen = c.v",
    ],
    "an instance in a list": ["class C:\n    v = 3\nl = []\nl.append(C())", "seen = l[0].v"],
    "a function made anew": ["def f():\n    return 1", "def f():\n    return 2", "seen = f()"],
    "a function that wraps itself": [
        "import functools\ndef f(x):\n    return x * k\nf = functools.lru_cache(f)\nk = 2",
        "seen = f(4)",
    ],
    "a deep copy": ["import copy\na = [1]", "b = copy.deepcopy(a)\nb.append(2)", "seen = (a, b)"],
    "a try around an import": [
        "try:\n    import nowhere_to_be_found as m\nexcept ImportError:\n    m = None",
        "seen = m",
    ],
    "while with break": ["n = 0", "while True:\n    n += 1\n    if n > 3:\n        break", "seen = n"],
    "with": ["import contextlib\nx = 1", "with contextlib.suppress(KeyError) as c:\n    y = x + 1", "seen = y"],
    "names in the text of eval": ["x = 1", "y = eval('x + 1')", "seen = y"],
    "tuple assignment": ["a, (b, c) = 1, (2, 3)", "a, b = b, a", "seen = (a, b, c)"],
    "a class body that uses a name": [
        "k = 4",
        "class C:\n    v = k\n    w = [k for _ in range(2)]",
        "seen = (C.v, C.w)",
    ],
    "swapped objects": ["a = [1]\nb = [2]", "a, b = b, a", "a.append(3)", "seen = (a, b)"],
    "nonlocal": [
        "def counter():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    return up",
        "c = counter()\nx = (c(), c())",
        "seen = x",
    ],
    "a global statement at the top": ["global x\nx = 1", "seen = x"],
    "an annotated name": ["x: int = 3", "seen = x"],
    "an exception's name": ["try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    text = str(e)", "seen = text"],
    "delete an item": ["d = {'a': 1, 'b': 2}", "del d['a']", "seen = d"],
    "recursive functions": [
        "def even(n):\n    return n == 0 or odd(n - 1)\ndef odd(n):\n    return n != 0 and even(n - 1)",
        "seen = even(10)",
    ],
    "a callable with a state of its own": [
        "from functools import partial\nup = partial(next, iter([1, 2, 3, 4]))",
        "first = up()",
        "second = [up() for _ in range(2)]",
        "seen = (first, second, up())",
    ],
    "a bound method that is held and called": [
        "items = [1]\npush = items.append",
        "push(2)",
        "push(3)",
        "seen = items",
    ],
    "a callable that is given to map, to sorted and as a decorator": [
        "items = []\npush = items.append",
        "list(map(push, 'ab'))",
        "sorted('c', key=push)",
        "@push\ndef f():\n    pass\nlast = items.pop() is not None",
        "seen = (items, last)",
    ],
    "a property that changes its object": [
        "class C:\n    n = 0\n    @property\n    def up(self):\n        self.n += 1\n        return self.n\nc = C()",
        "c.up",
        "seen = c.n",
    ],
    "conditional expressions": ["x = 1\nz = 2\nc = True", "y = x if c else z", "seen = y"],
    "a comprehension whose variable has the name of another": [
        "def grow(x):\n    x.append(9)\n    return x\na = [[1], [2]]\nb = 0",
        "c = [grow(b) for b in a]",
        "seen = (a, b, c, a[0] is c[0])",
    ],
    "annotations that are never evaluated": [
        "from __future__ import annotations\nx = 1",
        "seen_b = x",
        "seen_c = x",
    ],
    "a function whose annotations are never evaluated": [
        "from __future__ import annotations\ndef f(x: Nowhere) -> Nobody:\n    return x",
        "y = f(1)",
        "seen = (y, f(2))",
    ],
    "what a function keeps": [
        "kept = []\nx = [1]\ndef keep(one):\n    kept.append(one)",
        "keep(x)",
        "x.append(2)",
        "seen = (kept, x, kept[0] is x)",
    ],
    "what a function keeps by a name": [
        "current = None\ndef choose(one):\n    global current\n    current = one",
        "x = [1]\nchoose(x)",
        "x.append(2)",
        "seen = (current, current is x)",
    ],
    "what a function of functions keeps": [
        "kept = []\nx = [1]\ndef keep(one):\n    kept.append(one)\ndef go():\n    keep(x)",
        "go()",
        "x.append(2)",
        "seen = kept",
    ],
    "a part that a function gives": [
        "rows = [[0]]\ndef first():\n    return rows[0]",
        "part = first()",
        "part.append(1)",
        "seen = rows",
    ],
    "a function that an object calls back": [
        "hooks = []\ndef on(f):\n    hooks.append(f)",
        "def hello():\n    return 7\non(hello)",
        "seen = [hook() for hook in hooks]",
    ],
    "the names of what a decorator has seen": [
        "names = []\ndef note(f):\n    names.append(f.__name__)\n    return f",
        "@note\ndef hello():\n    return 7",
        "seen = names",
    ],
    "a decorator whose wrapper measures each call": [
        "import time\ntimings = []\ndef timed(f):\n    def g(*a):\n        t = time.perf_counter()\n        try:\n"
        "            return f(*a)\n        finally:\n            timings.append(time.perf_counter() - t)\n    return g\n"
        "@timed\ndef prepare(n):\n    return n + 1\nx = prepare(1)",
        "y = prepare(x)",
        "seen = (y, len(timings))",
    ],
    "a decorator whose wrapper remembers results": [
        "cache = {}\ndef memo(f):\n    def g(n):\n        if n not in cache:\n            cache[n] = f(n)\n"
        "        return cache[n]\n    return g\n@memo\ndef prepare(n):\n    return n + 1\nx = prepare(1)",
        "y = prepare(x)",
        "seen = (y, cache)",
    ],
    "a decorator whose wrapper, a lambda, notes the name": [
        "names = []\ndef note(f):\n    return lambda *a: (names.append(f.__name__), f(*a))[1]\n"
        "@note\ndef one():\n    return 1\none()",
        "y = one()",
        "seen = (y, names)",
    ],
    "a decorator with arguments whose wrapper counts": [
        "counts = {}\ndef counted(key):\n    def decorate(f):\n        def g(*a):\n"
        "            counts[key] = counts.get(key, 0) + 1\n            return f(*a)\n        return g\n"
        "    return decorate\n@counted('one')\ndef one():\n    return 1\none()",
        "y = one()",
        "seen = (y, counts)",
    ],
    "a decorator that binds a name": [
        "last = None\ndef note(f):\n    global last\n    last = f.__name__\n    return f\n"
        "@note\ndef one():\n    return 1\n@note\ndef two():\n    return 2",
        "y = one()",
        "seen = (y, last)",
    ],
    "a base class that hears of its subclasses": [
        "class Base:\n    def __init_subclass__(cls, **options):\n        super().__init_subclass__(**options)\n"
        "        cls.label = cls.__name__.lower()\nclass Child(Base):\n    pass",
        "seen = Child.label",
    ],
    "a base class whose methods keep their object": [
        "saved = []\nclass Base:\n    n = 1\n    def save(self):\n        saved.append(self.n)\nclass Child(Base):\n    n = 2",
        "Child().save()",
        "seen = saved",
    ],
    "keyword arguments": ["def f(*, key):\n    return key\nvalue = 3", "seen = f(key=value)"],
    "exec of a text": ["x = 1", "exec('y = x + 1')\nz = y", "seen = z"],
}


@pytest.mark.parametrize("sources", CHAINS.values(), ids=CHAINS.keys())
def test_a_chain_of_steps_gives_what_the_notebook_gives(sources):
    cells = [(f"step:s{n}" + (f" prev:s{n - 1}" if n else ""), source) for n, source in enumerate(sources)]
    same_both_ways(*cells)


@pytest.mark.parametrize("sources", CHAINS.values(), ids=CHAINS.keys())
def test_the_same_holds_when_no_edge_is_said(sources):
    same_both_ways(*[(f"step:s{n}", source) for n, source in enumerate(sources)])


@pytest.mark.parametrize(
    "cells",
    {
        "a function of a functions cell that uses a step's name": [
            ("functions", "def f():\n    return k"),
            ("step:a", "k = 5"),
            ("step:b prev:a", "seen = f()"),
        ],
        "an object of a functions cell that a step changes": [
            ("functions", "history = []\ndef log(x):\n    history.append(x)"),
            ("step:a", "log(1)"),
            ("step:b prev:a", "log(2)\nseen = history"),
        ],
        "a registry that a decorator fills": [
            ("functions", "made = {}\ndef register(one):\n    made[one.__name__] = one\n    return one"),
            ("step:a", "@register\ndef one():\n    return 1\n@register\nclass Two:\n    value = 2"),
            ("step:b prev:a", "seen = (made['one'](), made['Two']().value)"),
        ],
        "instances of a step's class that a function keeps": [
            ("functions", "kept = []\ndef keep(one):\n    kept.append(one)"),
            ("step:a", "class Box:\n    value = 1\nkeep(Box())"),
            ("step:b prev:a", "seen = [box.value for box in kept]"),
        ],
        "a functions cell that makes a name anew": [
            ("step:a", "x = 1\nseen_a = x"),
            ("functions", "x = 2"),
            ("step:b prev:a", "seen_b = x"),
        ],
        "parameters": [
            ("pipeline-parameters", "rate = -0.5\nnames: list = ['a', \"it's\"]\nlimit = None"),
            ("step:a", "rate2 = rate * 2"),
            ("step:b prev:a", "seen = (rate, rate2, names, limit)"),
        ],
        "a parameter that a step changes": [
            ("pipeline-parameters", "n = 1\nitems = []"),
            ("step:a", "n = n + 1\nitems.append(n)"),
            ("step:b prev:a", "seen = (n, items)"),
        ],
        "parallel steps that join": [
            ("step:a", "x = 2"),
            ("step:b prev:a", "y = x + 1"),
            ("step:c prev:a", "z = x + 2"),
            ("step:d prev:b prev:c", "seen = (x, y, z)"),
        ],
        "a skipped cell": [("step:a", "x = 1"), ("skip", "x = 2"), ("step:b prev:a", "seen = x")],
        "cells without tags": [("step:a", "x = 1"), ("", "x = x + 1"), ("step:b prev:a", "seen = x")],
        "a global random state that a functions cell sets": [
            ("imports", "import random\nrandom.seed(1)"),
            ("step:a", "seen = random.random()"),
        ],
    }.values(),
    ids=str,
)
def test_notebooks_with_shared_cells_give_the_same(cells):
    same_both_ways(*cells)


# Each puts what it is given, or its name, into the outer list `names`, when a definition is made.
REGISTERING = {
    "it itself": "def note(f):\n    names.append(f.__name__)\n    return f\n@note\ndef one():",
    "it by a variable": (
        "def note(f):\n    name = str(f.__name__)\n    names.append(name)\n    return f\n@note\ndef one():"
    ),
    "it with a wrapper": (
        "def note(f):\n    def g(*a):\n        return f(*a)\n    names.append(g)\n    return g\n@note\ndef one():"
    ),
    "it with arguments": (
        "def note(key):\n    def decorate(f):\n        names.append((key, f))\n        return f\n    return decorate\n"
        "@note('k')\ndef one():"
    ),
    "it through another function": (
        "def add(name):\n    names.append(name)\ndef note(f):\n    add(f.__name__)\n    return f\n@note\ndef one():"
    ),
    "it through a function inside": (
        "def note(f):\n    def add():\n        names.append(f)\n    add()\n    return f\n@note\ndef one():"
    ),
    "it as a class": (
        "class Note:\n    def __init__(self, f):\n        names.append(self)\n    def __call__(self):\n        pass\n"
        "@Note\ndef one():"
    ),
    "it as a base class": "class Note:\n    def __init_subclass__(cls):\n        names.append(cls)\nclass one(Note):",
}


@pytest.mark.parametrize("source", REGISTERING.values(), ids=REGISTERING.keys())
def test_a_function_that_would_be_registered_twice_does_not_travel(source):
    above = f"names = []\n{source}"

    loaded = load(("step:a", f"{above}\n    value = 1"), ("step:b prev:a", "seen = (one(), names)"))

    (found,) = loaded.diagnostics
    assert (found.code, found.place.line) == ("KLC112", above.count("\n") + 1)
    assert "'one' would be put into 'names' again in step 'b'" in found.message


@pytest.mark.parametrize("source", ["seen = reg['one']()", "seen = x"])  # whether `x` is of the registry is not known
def test_a_registry_does_not_travel_without_what_it_holds(source):
    registry = "reg = {}\ndef register(f):\n    reg[f.__name__] = f\n    return f\n@register\ndef one():\n    return 1"

    loaded = load(("step:a", f"{registry}\nx = one()"), ("step:b prev:a", source))

    (found,) = loaded.diagnostics
    assert (found.code, found.place.line) == ("KLC112", 6)
    assert "'one' is in 'reg', which step 'b' takes, and would be put into it again there" in found.message


def test_a_decorator_that_keeps_nothing_of_its_function_is_no_registry():
    loaded = load(
        (
            "step:a",
            "limits = [1]\nkept = []\ndef note(f):\n    kept.append(limits)\n    return f\n@note\ndef one():\n    return 1",
        ),
        ("step:b prev:a", "limits.append(2)"),
        ("step:c prev:b", "print(kept)"),
    )

    assert codes(loaded) == []
    assert [(read.name, read.step) for read in loaded.pipeline.step("c").reads] == [("kept", "b")]


def test_metrics_are_worked_out_where_their_names_are():
    found = as_pipeline(
        ("step:a", "acc = 0.5\nscores = {'f1': 0.25}"),
        ("step:b prev:a", "loss = 1.5"),
        ("pipeline-metrics", "print(acc)\nprint(f'{loss:.3f}')\nprint(scores['f1'])\nprint('both', acc + loss)"),
    )
    assert found == {"metric acc": 0.5, "metric loss": 1.5, "metric scores_f1": 0.25, "metric metric_4": 2.0}


def test_a_step_gets_only_what_it_needs_of_the_shared_code():
    pipeline = load(
        ("imports", "import json\nimport math\nimport this_is_only_for_b as b_only"),
        ("functions", "def area(r):\n    return math.pi * r\ndef other():\n    return b_only.x()"),
        ("step:a", "x = json.dumps(1)"),
        ("step:b", "y = other()\nz = area(1)"),
    ).pipeline
    assert pipeline.step("a").imports == ("json",)
    assert pipeline.step("b").imports == ("math", "this_is_only_for_b")


def test_independent_steps_stay_parallel_and_prev_edges_are_kept():
    pipeline = load(("step:a", "x = 1"), ("step:b", "y = 1"), ("step:c prev:a prev:b", "z = x")).pipeline
    assert [step.after for step in pipeline.steps] == [(), (), ("a", "b")]
    assert pipeline.step("c").data_from == ("a",)


def test_what_no_later_step_reads_does_not_travel():
    pipeline = load(("step:a", "x = 1\nbig = [0] * 10"), ("step:b prev:a", "print(x)")).pipeline
    assert [write.name for write in pipeline.step("a").writes] == ["x"]


def test_data_that_a_step_only_looks_at_comes_from_where_it_was_made():
    pipeline = load(
        ("imports", "import pandas as pd"),
        ("step:load", "frame = pd.DataFrame({'a': [1, 2]})"),
        ("step:look prev:load", "print(frame.head(), len(frame), frame['a'].mean())"),
        ("step:use prev:look", "total = frame['a'].sum()"),
    ).pipeline
    assert [(read.name, read.step) for read in pipeline.step("use").reads] == [("frame", "load")]


def test_models_of_parallel_steps_leave_the_data_that_they_are_fitted_on_alone():
    loaded = load(
        ("imports", "import numpy as np\nfrom sklearn.svm import SVC"),
        (
            "functions",
            "def score(model, rows):\n    right = model.predict(rows) == 1\n    return float(np.mean(right))",
        ),
        ("step:load", "rows = np.zeros((2, 2))\nmarks = np.array([0, 1])"),
        ("step:one prev:load", "one = SVC(C=1)\none.fit(rows, marks)\nfirst = score(one, rows)"),
        ("step:two prev:load", "two = SVC(C=2)\ntwo.fit(rows, marks)\nsecond = score(two, rows)"),
        ("step:best prev:one prev:two", "print(max(first, second))"),
    )
    assert codes(loaded, at_least=Severity.NOTE) == []
    assert [write.name for write in loaded.pipeline.step("one").writes] == ["first"]


def test_a_comprehension_leaves_alone_what_has_the_name_of_its_variable():
    pipeline = load(
        ("step:s0", "def grow(x):\n    x.append(9)\n    return x\na = [[1]]\nb = [0]"),
        ("step:s1 prev:s0", "c = [grow(b) for b in a]"),
        ("step:s2 prev:s1", "print(a, b, c)"),
    ).pipeline
    assert [(read.name, read.step) for read in pipeline.step("s2").reads] == [("a", "s1"), ("b", "s0"), ("c", "s1")]


def test_what_a_step_only_hands_on_is_held_against_parallel_steps_too():
    loaded = load(
        ("step:s0", "b = [1]\nh = [b]"),
        ("step:s1 prev:s0", "b = [2]"),
        ("step:s2 prev:s0", "h[0].append(3)"),
        ("step:s3 prev:s1 prev:s2", "h[0].append(4)"),
        ("step:s4 prev:s3", "print(b)"),
    )
    assert codes(loaded, at_least=Severity.NOTE) == ["KLC108"]


@pytest.mark.parametrize(
    ("function", "is_fresh"),
    [
        ("def f(x):\n    return len(x)", True),
        ("def f(x):\n    made = []\n    made.append(str(x))\n    return made", True),
        ("def f(x):\n    return x", False),
        ("def f(x):\n    made = []\n    other = made\n    other.append(x)\n    return made", False),
        ("def f(x):\n    made = {}\n    unknown(made, x)\n    return made", False),
        ("def f(x):\n    def g():\n        return x\n    return g", False),
        ("def f(x):\n    yield x", False),
        ("kept = []\ndef f(x):\n    return kept", False),
    ],
)
def test_whether_the_result_of_a_function_may_share_something_is_seen_in_its_body(function, is_fresh):
    assert ("f" in survey(ast.parse(function).body).fresh) is is_fresh


def test_values_name_the_modules_they_may_be_of():
    pipeline = load(
        ("step:fit", "from sklearn.svm import SVC\nmodel = SVC()\nmodel.fit([[0], [1]], [0, 1])"),
        ("step:use prev:fit", "print(model.predict([[0]]))"),
    ).pipeline
    assert pipeline.step("use").imports == ()
    assert pipeline.step("use").value_imports == ("sklearn.svm",)


def test_a_name_made_in_no_ancestor_gets_its_edge_and_a_warning():
    loaded = load(("step:a", "x = 1"), ("step:b", "y = x"))
    assert codes(loaded) == ["KLC105"]
    assert loaded.pipeline.step("b").after == ("a",)


def test_a_closure_that_a_step_calls_travels_on_from_that_step():
    pipeline = load(
        (
            "step:a",
            "def make():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    return up\n"
            "up = make()",
        ),
        ("step:b prev:a", "print(up())"),
        ("step:c prev:b", "print(up())"),
    ).pipeline
    assert [(read.name, read.step) for read in pipeline.step("c").reads] == [("up", "b")]
