"""Over the runtime that travels, a pipeline's results are those of the notebook's cells run in order."""

import pytest
from stepwise import as_notebook, travelled

PROGRAMS = {
    "an object inside another": [
        ("step:a", "inner = [1]\nouter = {'k': inner}"),
        ("step:b prev:a", "inner.append(2)"),
        ("step:c prev:b", "seen = (outer['k'] is inner, outer)"),
    ],
    "two names of one object": [
        ("imports", "import numpy as np"),
        ("step:a", "one = other = np.arange(3)"),
        ("step:b prev:a", "one[0] = 9"),
        ("step:c prev:b", "seen = (one is other, other.tolist())"),
    ],
    "a window into an array": [
        ("imports", "import numpy as np"),
        ("step:a", "whole = np.arange(6)\nrow = whole[2:4]"),
        ("step:b prev:a", "row[:] = 0\nseen = whole.tolist()"),
    ],
    "instances, and the class they are of": [
        ("functions", "class Model:\n    kept = 3\n    def predict(self, x):\n        return x * self.w"),
        ("step:a", "m = Model()\nm.w = 4"),
        ("step:b prev:a", "seen = (type(m) is Model, isinstance(m, Model), m.predict(2), m.kept)"),
    ],
    "a free variable of a lambda": [
        ("step:a", "n = 2\nf = lambda x: x + n"),
        ("step:b prev:a", "n = 10"),
        ("step:c prev:b", "seen = f(1)"),
    ],
    "lambdas in what else travels": [
        ("step:a", "n = 2\nfs = {}\nfor i in range(2):\n    fs[i] = lambda x: x + n + i"),
        ("step:b prev:a", "fs['k'] = lambda x: x + n"),
        ("step:c prev:b", "seen = [f(1) for f in fs.values()]"),
    ],
    "a lambda that is given to what keeps it": [
        (
            "step:a",
            "class Keeper:\n    def __init__(self, f):\n        self.f = f\nk = 2\ndef double(x):\n    return 2 * x\n"
            "m = Keeper(lambda x: double(x) + k)",
        ),
        ("step:b prev:a", "k = 3"),
        ("step:c prev:b", "held = [m]"),
        ("step:d prev:c", "seen = held[0].f(3)"),
    ],
    "a lambda that is appended": [
        ("step:a", "k = 2\nl = []"),
        ("step:b prev:a", "l.append(lambda x: x * k)"),
        ("step:c prev:b", "seen = l[0](3)"),
    ],
    "a function whose annotations are never evaluated": [
        ("step:a", "from __future__ import annotations\ndef f(x: Nowhere) -> Nobody:\n    return x"),
        ("step:b prev:a", "seen = f(2)"),
    ],
    "a closure that counts": [
        (
            "step:a",
            "def make():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n        return n\n    return up\n"
            "up = make()\nup()",
        ),
        ("step:b prev:a", "seen_b = up()"),
    ],
    "a random generator": [
        ("imports", "import numpy as np"),
        ("step:a", "rng = np.random.default_rng(5)\nfirst = rng.random()"),
        ("step:b prev:a", "seen_b = rng.random()"),
        ("step:c prev:b", "seen_c = (rng.random(), first)"),
    ],
    "views of dictionaries": [
        ("imports", "from collections import OrderedDict"),
        ("step:a", "d = {'x': [1]}\nkeys, values = d.keys(), d.values()\nitems = OrderedDict(a=1).items()"),
        ("step:b prev:a", "d['x'].append(2)\nd['y'] = 3"),
        ("step:c prev:b", "seen = (list(keys), list(values), items)"),
    ],
    "a name that may be unbound": [
        ("step:a", "flag = False\nif flag:\n    x = 1"),
        ("step:b prev:a", "try:\n    seen = x\nexcept NameError:\n    seen = 'unbound'"),
    ],
    "a decorated function and a partial of it": [
        (
            "functions",
            "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def g(*a):\n        return f(*a) * 2\n    return g",
        ),
        ("step:a", "@twice\ndef h(x, y):\n    return x + y\np = functools.partial(h, 1)"),
        ("step:b prev:a", "seen = (p(2), h(3, 4), h.__name__)"),
    ],
    "types of numbers": [
        ("imports", "import numpy as np"),
        ("step:a", "x = np.float64(1.5); y = np.int64(2); z = np.array([1, 'a'], dtype=object); d = {1: (2, {3})}"),
        ("step:b prev:a", "seen = (type(x), type(y), z.dtype, z.tolist(), d, [type(v) for v in d.values()])"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_pipeline_and_the_notebook_agree(tmp_path, name):
    expected = {name: repr(value) for name, value in as_notebook(*PROGRAMS[name]).items()}
    assert travelled(tmp_path, *PROGRAMS[name]) == expected
