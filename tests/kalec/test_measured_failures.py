"""What Kale 2.3 was measured to get wrong, a row each: the pipeline runs, and its results are those of the notebook."""

import pytest
from stepwise import as_notebook, load, travelled

from kalec.runtime.failure import CannotMarshal

NUMPY = ("imports", "import numpy as np")

# Row -> cells without magics, which run in order in one namespace too.
PYTHON = {
    "a star import in an imports cell": [
        ("imports", "from math import *"), ("step:a", "r = 2"), ("step:b prev:a", "seen = floor(pi * r)"),
    ],
    "a star import in a step": [
        ("step:a", "from math import *\nr = 2"), ("step:b prev:a", "seen = floor(pi * r)"),
    ],
    "a comprehension's variable of the same name in a middle step": [
        ("step:a", "x = 1"), ("step:b prev:a", "y = [x for x in range(3)]"), ("step:c prev:b", "seen = (x, y)"),
    ],
    "a lambda's variable of the same name in a middle step": [
        ("step:a", "x = 1"), ("step:b prev:a", "y = (lambda x: x + 1)(5)"), ("step:c prev:b", "seen = (x, y)"),
    ],
    "a name that a middle step deletes, made again after it": [
        ("step:a", "x = 1"), ("step:b prev:a", "seen_b = x\ndel x"), ("step:c prev:b", "x = 2"),
        ("step:d prev:c", "seen_d = x"),
    ],
    "a name that a step beside deletes": [
        ("step:a", "x = [1]"), ("step:b prev:a", "seen_b = x"), ("step:c prev:a", "y = list(x)\ndel x"),
        ("step:d prev:b prev:c", "seen_d = y"),
    ],
    "a global that a function of a functions cell changes": [
        ("functions", "n = 0\ndef up():\n    global n\n    n += 1"), ("step:a", "up()"), ("step:b prev:a", "up()"),
        ("step:c prev:b", "seen = n"),
    ],
    "free variables of a lambda": [("step:a", "k = 3\nf = lambda x: x * k"), ("step:b prev:a", "seen = f(2)")],
    "free variables of a method": [
        ("step:a", "k = 3\nclass C:\n    def m(self):\n        return k\nc = C()"), ("step:b prev:a", "seen = c.m()"),
    ],
    "free variables of async def": [
        ("step:a", "k = 3\nasync def f():\n    return k"), ("step:b prev:a", "seen = await f()"),
    ],
    "free variables of another name for a function": [
        ("step:a", "k = 3\ndef f():\n    return k\ng = f"), ("step:b prev:a", "seen = g()"),
    ],
    "match captures": [
        ("step:a", "d = {'a': 1}\nl = [1, 2, 3]"),
        ("step:b prev:a", "match d:\n    case {'a': v}:\n        pass\nmatch l:\n    case [h, *t]:\n        pass"),
        ("step:c prev:b", "seen = (v, h, t)"),
    ],
    "import os.path in one step, os in another": [
        ("step:a", "import os.path"), ("step:b prev:a", "seen = (os.sep, os.path.basename('a/b'))"),
    ],
    "an assignment under a condition": [
        ("step:a", "x = 1\nc = False"), ("step:b prev:a", "if c:\n    x = 2\nseen_b = x"), ("step:c prev:b", "seen_c = x"),
    ],
    "try, and NameError": [
        ("step:a", "x = 1"), ("step:b prev:a", "try:\n    x\nexcept NameError:\n    x = 2\nseen = x"),
    ],
    "names that shadow builtins": [("step:a", "id = 5\nsum = 6"), ("step:b prev:a", "seen = (id, sum)")],
    "scalars of numpy": [
        NUMPY, ("step:a", "x = np.float64(1.5)\ny = np.int64(2)"),
        ("step:b prev:a", "seen = (type(x), x, type(y), y)"),
    ],
    "an array of objects": [
        NUMPY, ("step:a", "x = np.array([1, 'a', None], dtype=object)"), ("step:b prev:a", "seen = (x.dtype, x.tolist())"),
    ],
    "a masked array": [
        NUMPY, ("step:a", "x = np.ma.array([1, 2, 3], mask=[0, 1, 0])"),
        ("step:b prev:a", "seen = (type(x), x.mask.tolist(), x.sum())"),
    ],
    "a random generator of numpy": [
        NUMPY, ("step:a", "rng = np.random.default_rng(5)\nrng.random()"), ("step:b prev:a", "seen = rng.random()"),
    ],
    "a random state of numpy": [
        NUMPY, ("step:a", "rng = np.random.RandomState(5)\nrng.rand()"), ("step:b prev:a", "seen = rng.rand()"),
    ],
    "a dtype": [NUMPY, ("step:a", "t = np.dtype('i4, f8')"), ("step:b prev:a", "seen = (type(t), t)")],
    "a matrix and a record array": [
        NUMPY, ("step:a", "m = np.matrix([[1, 2]])\nr = np.rec.array([(1, 2.0)], dtype=[('a', 'i4'), ('b', 'f8')])"),
        ("step:b prev:a", "seen = (type(m), m * m.T, type(r), r.b.tolist())"),
    ],
    "a model that keeps itself in a folder, as those of Keras do": [
        (
            "functions",
            "import pathlib, tempfile\ndef restore(weights):\n    return Net(weights)\nclass Net:\n"
            "    def __init__(self, weights):\n        self.weights = weights\n"
            "    def save(self, folder):\n        (pathlib.Path(folder) / 'weights').write_bytes(self.weights)\n"
            "    def __reduce__(self):\n        with tempfile.TemporaryDirectory() as folder:\n            self.save(folder)\n"
            "            return restore, ((pathlib.Path(folder) / 'weights').read_bytes(),)",
        ),
        ("step:a", "net = Net(b'123')"), ("step:b prev:a", "seen = (type(net) is Net, net.weights)"),
    ],
}  # fmt: skip

# Rows for which a library is imported that takes its time.
LIBRARIES = {
    "groups of a frame": [
        ("imports", "import pandas as pd"),
        ("step:a", "g = pd.DataFrame({'k': ['a', 'b', 'a'], 'v': [1, 2, 3]}).groupby('k')"),
        ("step:b prev:a", "seen = (type(g), g.v.sum().to_dict())"),
    ],
    "an estimator whose class the notebook defines": [
        ("functions", "from sklearn.dummy import DummyClassifier\nclass Mine(DummyClassifier):\n    extra = 1"),
        ("step:a", "a = Mine().fit([[0], [1]], [1, 1])"), ("step:b prev:a", "b = Mine()"),
        ("step:c prev:b", "seen = (type(a) is type(b) is Mine, a.predict([[5]]).tolist(), a.extra)"),
    ],
}  # fmt: skip

# Row -> cells, and what Jupyter shows for them.
MAGICS = {
    "%matplotlib and %%time in an imports cell and in a step": (
        [
            ("imports", "%matplotlib inline\nimport math"),
            ("step:a", "%%time\nx = math.floor(2.5)"), ("step:b prev:a", "%matplotlib inline\nseen = x"),
        ],
        {"seen": "2"},
    ),
    "!pip install, x = !cmd, x = %env, an indented !cmd, and x?": (
        [
            ("step:a", "!pip install nothing==1\nx = !echo one; echo two\nhome = %env HOME\nx?"),
            ("step:b prev:a", "for word in x:\n    !echo {word} >> {folder}/words\nseen = (list(x), bool(home))"),
            ("step:c prev:b", "import pathlib\nseen_c = pathlib.Path(folder, 'words').read_text()"),
        ],
        {"seen": "(['one', 'two'], True)", "seen_c": "'one\\ntwo\\n'"},
    ),
    "%%bash and %%writefile": (
        [
            ("step:a", "%%writefile FOLDER/made.txt\none\ntwo"),
            ("step:b prev:a", "%%bash\nwc -l < FOLDER/made.txt > FOLDER/count.txt"),
            ("step:c prev:b", "import pathlib\nseen = int(pathlib.Path(folder, 'count.txt').read_text())"),
        ],
        {"seen": "2"},
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("cells", PYTHON.values(), ids=PYTHON.keys())
def test_the_pipeline_gives_what_the_notebook_gives(tmp_path, cells):
    assert travelled(tmp_path, *cells) == {name: repr(value) for name, value in as_notebook(*cells).items()}


@pytest.mark.slow
@pytest.mark.parametrize("cells", LIBRARIES.values(), ids=LIBRARIES.keys())
def test_so_it_does_with_values_of_large_libraries(tmp_path, cells):
    assert travelled(tmp_path, *cells) == {name: repr(value) for name, value in as_notebook(*cells).items()}


@pytest.mark.parametrize(("cells", "expected"), MAGICS.values(), ids=MAGICS.keys())
def test_magics_give_what_jupyter_gives(tmp_path, cells, expected):
    here = ("pipeline-parameters", f"folder = {str(tmp_path)!r}")
    cells = [(tags, source.replace("FOLDER", str(tmp_path))) for tags, source in cells]

    assert travelled(tmp_path, here, *cells) == expected


def test_an_undefined_name_is_found_before_anything_runs():
    [found] = load(("step:a", "x = 1\nprint(y)")).diagnostics
    assert str(found).startswith("n.ipynb:cell 1 [c1]:2:7: error KLC104 undefined name 'y'")


def test_a_syntax_error_has_the_place_in_its_cell():
    [found] = load(("step:a", "x = 1"), ("step:b prev:a", "y = x\nz = = 1")).diagnostics
    assert str(found).startswith("n.ipynb:cell 2 [c2]:2:5: error KLC002 not Python: invalid syntax")


def test_what_no_step_can_be_given_is_told_with_its_name(tmp_path):
    cells = [
        ("step:a", "def numbers():\n    yield 1\nfound = {'g': numbers()}"),
        ("step:b prev:a", "seen = next(found['g'])"),
    ]
    with pytest.raises(CannotMarshal, match=r"'found' \(in found\['g'\]\) holds a generator"):
        travelled(tmp_path, *cells)
