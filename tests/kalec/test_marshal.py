"""What one step leaves is what the next one gets: types, sharing, errors that name the variable, and damage found."""

import collections
import copyreg
import datetime
import decimal
import enum
import fractions
import functools
import json
import math
import operator
import pathlib
import re
import socket
import sqlite3
import tempfile
import threading
import types
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kalec.runtime import marshal
from kalec.runtime.failure import CannotMarshal, DamagedValue
from kalec.runtime.marshal import MANIFEST, Stored, load, read_manifest, save


def through(tmp_path, **values):
    save(values, tmp_path / "values")
    return load(tmp_path / "values", values)


def kind_of(tmp_path, value):
    return save({"v": value}, tmp_path / "kind")["groups"]["v"]["kind"]


def same(one, other):
    """Equal, of one type, and so for all that is in them; NaN is NaN, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float | complex):
        return repr(one) == repr(other)
    if isinstance(one, dict):
        return len(one) == len(other) and all(map(same, one.items(), other.items()))
    if isinstance(one, list | tuple | collections.deque):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, set | frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.dtype.type is other.dtype.type
            and one.shape == other.shape
            and one.flags.fnc == other.flags.fnc
            and one.flags.writeable == other.flags.writeable
            and same(one.ravel(order="K").tolist(), other.ravel(order="K").tolist())
        )
    return bool(one == other)


PLAIN = [
    None, True, 0, -5, 10**400, 1.5, -0.0, math.inf, -math.inf, math.nan, "", "it's \"ü\"\n", "\ud800", 1 - 2j,
    complex(math.nan, -0.0), b"\x00\xff", bytearray(b"ab"), (), (1, (2.5, "x")), [], [1, [2, (3,)]], [math.nan, 1.0],
    [1, True, 1.0], {1, 2}, {"a", (1, 2)}, frozenset({1}), {}, {"a": 1}, {True: 1}, {"$ref": 1}, {"$": {"$tuple": []}},
    {1: "a", "1": "b", None: "c", (1, 2): "d", 2.5: "e"}, collections.OrderedDict(b=1, a=2), collections.Counter("abca"),
    collections.deque([1, 2], 5), range(2, 10, 3), slice(1, None), ..., datetime.date(2020, 1, 2), datetime.time(1, 2, 3, 4),
    datetime.datetime.fromisoformat("2020-01-02T03:04:05.000006"), datetime.timedelta(-1, 5, 7), decimal.Decimal("1.10"),
    fractions.Fraction(1, 3), uuid.UUID(int=5), pathlib.Path("a/b"), pathlib.PurePosixPath("/x"),
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=[f"{type(v).__name__}-{number}" for number, v in enumerate(PLAIN)])
def test_plain_data_comes_back_as_it_was_without_pickle(tmp_path, value):
    assert same(through(tmp_path, v=value)["v"], value)
    assert kind_of(tmp_path, value) == "json"


atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.complex_numbers()
)
keys = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.tuples(st.integers(), st.text())
trees = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner) | st.sets(keys) | st.frozensets(keys)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(trees)
def test_any_plain_data_comes_back_as_it_was(value):
    with tempfile.TemporaryDirectory() as folder:
        assert same(through(pathlib.Path(folder), v=value)["v"], value)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=10), st.booleans())
def test_any_objects_that_are_shared_stay_shared(edges, pickled):
    nodes = []  # node n holds a number of its own, and those of the nodes before it that `edges` says
    for number, children in enumerate(edges):
        holder = types.SimpleNamespace(own=[number]) if pickled and number % 2 else [number]
        held = holder.own if isinstance(holder, types.SimpleNamespace) else holder
        held += [nodes[child] for child in children if child < number]
        nodes.append(holder)
    names = [f"v{number}" for number in range(len(nodes))]
    with tempfile.TemporaryDirectory() as folder:
        back = through(pathlib.Path(folder), **dict(zip(names, nodes, strict=True)))

    def held_by(node):
        return node.own if isinstance(node, types.SimpleNamespace) else node

    for number, children in enumerate(edges):
        held = held_by(back[names[number]])
        assert held[0] == number
        expected = [back[names[child]] for child in children if child < number]
        assert all(map(operator.is_, held[1:], expected))
        assert len(held) == len(expected) + 1


def test_names_of_one_object_are_one_object_also_when_they_are_loaded_one_by_one(tmp_path):
    frame = np.arange(3.0)
    save({"a": frame, "b": frame, "c": {"inside": frame}}, tmp_path)
    with Stored(tmp_path) as stored:
        assert stored.value("c")["inside"] is stored.value("a") is stored.value("b")


def test_a_list_that_holds_itself_comes_back_so(tmp_path):
    value = [1]
    value.append(value)
    back = through(tmp_path, v=value)["v"]
    assert back[1] is back


def test_values_that_share_nothing_are_kept_apart(tmp_path):
    manifest = save({"a": [1], "b": [1], "c": types.SimpleNamespace(x=[1])}, tmp_path)
    assert sorted(manifest["groups"]) == ["a", "b", "c"]
    assert manifest["groups"]["a"]["hash"] != manifest["groups"]["c"]["hash"]


def test_the_hash_is_of_the_content_alone(tmp_path):
    hashes = [
        save({"v": {"k": np.ones(3), "s": {"b", "a", "c"}}}, tmp_path / str(n))["groups"]["v"]["hash"] for n in range(2)
    ]
    other = save({"v": {"k": np.ones(4), "s": {"b", "a", "c"}}}, tmp_path / "2")["groups"]["v"]["hash"]
    assert hashes[0] == hashes[1] != other


def test_names_that_a_filesystem_may_take_for_one_do_not_meet(tmp_path):
    manifest = save({"X": np.ones(1), "x": np.zeros(1), "manifest": 5, "größe": 6, "l" * 300: 7}, tmp_path)
    files = [file for group in manifest["groups"].values() for file in group["files"]] + [MANIFEST]
    assert len({file.lower() for file in files}) == len(files)
    assert load(tmp_path, ["manifest", "größe", "l" * 300]) == {"manifest": 5, "größe": 6, "l" * 300: 7}


class Colour(enum.Enum):
    RED = 1


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is Point and self.x == other.x

    def double(self):
        return self.x * 2


Pair = collections.namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    "value",
    [Colour.RED, Point(1), Pair(1, [2]), Point, re.compile("a+"), math, np, functools.partial(max, 1),
     collections.defaultdict(list, a=[1]), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), 1 < 2, print, len],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_objects_that_python_pickles_come_back_as_they_were(tmp_path, value):
    back = through(tmp_path, v=value)["v"]
    assert type(back) is type(value)
    assert back == value or back.func is value.func


def test_a_bound_method_stays_bound_to_its_object(tmp_path):
    point = Point(4)
    back = through(tmp_path, point=point, method=point.double)
    back["point"].x = 5
    assert back["method"]() == 10


def test_what_is_pickled_has_a_note_that_says_why(tmp_path):
    manifest = save({"plain": [1], "odd": [Point(1)]}, tmp_path)
    assert manifest["groups"]["plain"]["note"] == ""
    assert manifest["groups"]["odd"]["note"].startswith("Point has no format of its own: pickled")


structured = np.array([(1, 2.5, "ab")], dtype=[("i", "<i4"), ("f", "<f8"), ("s", "<U4")])
ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(10)[::2],
    np.array(5),
    np.zeros((0, 3)),
    np.array([1, 2], dtype=">i2"),
    np.array(["a", "bc"]),
    np.array([b"a"]),
    np.array([True]),
    np.array([1j]),
    np.array([1.5], dtype="f2"),
    structured,
    structured["f"],
    np.array(["2020-01-01", "NaT"], dtype="datetime64[s]"),
    np.array([5], dtype="timedelta64[ms]"),
    np.array([1, "a", None, [2], (3, 4)], dtype=object),
    np.array([[1, None], [2.5, {"a": 1}]], dtype=object, order="F"),
    np.array(None, dtype=object),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype}-{value.shape}")
def test_arrays_come_back_as_they_were_without_pickle(tmp_path, value):
    assert same(through(tmp_path, v=value)["v"], value)
    assert kind_of(tmp_path, value) == "json"
    assert same(through(tmp_path, v=[value, {"k": value}])["v"][1]["k"], value)


def test_an_array_whose_dtype_npy_does_not_keep_is_pickled_and_comes_back_as_it_was(tmp_path):
    value = np.array([(1, 2)], dtype=np.dtype({"names": ["a", "b"], "formats": ["u1", "<i4"]}, align=True))
    back = through(tmp_path, v=value)["v"]
    assert same(back, value)
    assert back.dtype.isalignedstruct
    assert kind_of(tmp_path, value) == "pickle"


def test_a_read_only_array_stays_so(tmp_path):
    value = np.arange(3)
    value.flags.writeable = False
    assert same(through(tmp_path, v=value)["v"], value)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_matrices_and_record_arrays_stay_what_they_are(tmp_path):
    matrix, record = np.matrix([[1, 2]]), np.rec.array([(1, 2.5)], dtype=[("a", int), ("b", float)])
    back = through(tmp_path, matrix=matrix, record=record)
    assert same(back["matrix"], matrix)
    assert same(back["record"], record)
    assert back["record"].a[0] == 1
    assert kind_of(tmp_path, [matrix, record]) == "json"


@pytest.mark.parametrize(
    "value",
    [
        np.ma.array([1, 2, 3], mask=[0, 1, 0], fill_value=7),
        np.ma.array([1.5, 2.5]),
        np.ma.array([[1, 2]], mask=[[True, False]], hard_mask=True),
        np.ma.array([(1, 2.0)], mask=[(True, False)], dtype=[("a", int), ("b", float)]),
    ],
    ids=["mask", "no mask", "hard", "structured"],
)
def test_masked_arrays_come_back_with_mask_and_fill_value(tmp_path, value):
    back = through(tmp_path, v=value)["v"]
    assert type(back) is np.ma.MaskedArray
    assert same(back.data, value.data)
    assert (back.mask is np.ma.nomask) == (value.mask is np.ma.nomask)
    assert np.array_equal(back.mask, value.mask)
    assert back.fill_value == value.fill_value
    assert back.hardmask == value.hardmask
    assert kind_of(tmp_path, value) == "json"


@pytest.mark.parametrize(
    "value",
    [np.float64(0.1), np.int64(-1), np.bool_(True), np.float32("nan"), np.str_("ü"), np.str_(""), np.bytes_(b""),
     np.complex128(1j), np.datetime64("2020-01-01", "D"), np.timedelta64(5, "m"), np.longdouble(1) / 3, np.float16(0.1)],
    ids=lambda value: f"{type(value).__name__}-{value}",
)  # fmt: skip
def test_numpy_scalars_stay_scalars(tmp_path, value):
    back = through(tmp_path, v=value, inside=(value,))
    for one in (back["v"], back["inside"][0]):
        assert type(one) is type(value)
        assert one.dtype == value.dtype
        assert one.tobytes() == value.tobytes()
    assert kind_of(tmp_path, value) == "json"


@pytest.mark.parametrize(
    "value",
    [
        np.dtype("<f8"),
        structured.dtype,
        np.dtype(object),
        np.dtype((np.record, [("a", int)])),
        np.dtype(("i4", (2, 3))),
    ],
    ids=str,
)
def test_dtypes_stay_what_they_are(tmp_path, value):
    back = through(tmp_path, v=value)["v"]
    assert back == value
    assert back.type is value.type


@pytest.mark.parametrize(
    "make", [np.random.default_rng, np.random.RandomState, lambda seed: np.random.Generator(np.random.MT19937(seed))]
)
def test_a_random_generator_goes_on_where_it_was(tmp_path, make):
    generator = make(7)
    generator.normal(size=3)
    back = through(tmp_path, generator=generator)["generator"]
    assert type(back) is type(generator)
    assert np.array_equal(back.normal(size=5), generator.normal(size=5))
    if hasattr(generator, "spawn"):
        assert back.spawn(1)[0].random() == generator.spawn(1)[0].random()


@pytest.mark.parametrize(
    "wrap", [lambda array: array, lambda array: types.SimpleNamespace(array=array)], ids=["json", "pickle"]
)
def test_windows_into_one_memory_stay_windows_into_one_memory(tmp_path, wrap):
    whole = np.arange(12.0).reshape(3, 4)
    back = through(tmp_path, row=wrap(whole[1]), turned=wrap(whole.T), whole=whole, reverse=wrap(whole[::-1, 1]))
    row, turned, reverse = (getattr(back[name], "array", back[name]) for name in ("row", "turned", "reverse"))
    assert np.array_equal(row, whole[1])
    assert np.array_equal(turned, whole.T)
    assert np.array_equal(reverse, whole[::-1, 1])
    row[1] = -1
    assert back["whole"][1, 1] == turned[1, 1] == reverse[1] == -1


def test_one_window_alone_does_not_take_the_whole_memory_along(tmp_path):
    manifest = save({"v": np.zeros(100_000)[:2]}, tmp_path)
    assert manifest["groups"]["v"]["bytes"] < 1000


def test_hundreds_of_small_arrays_do_not_become_as_many_files(tmp_path):
    arrays = [np.full(3, number) for number in range(300)]
    manifest = save({"v": arrays}, tmp_path)
    assert manifest["groups"]["v"]["kind"] == "json"
    assert len(manifest["groups"]["v"]["files"]) < 20
    assert all(map(same, load(tmp_path, ["v"])["v"], arrays))


def test_more_large_arrays_than_a_group_may_have_files_are_one_pickle(tmp_path, monkeypatch):
    monkeypatch.setattr(marshal, "MOST_FILES", 30)
    arrays = [np.full(600, number) for number in range(31)]
    assert save({"v": arrays}, tmp_path)["groups"]["v"]["kind"] == "pickle"
    assert len(list(tmp_path.iterdir())) == 2
    assert all(map(same, load(tmp_path, ["v"])["v"], arrays))


NO_OTHER_STEP = {
    "file": lambda path: (path / "f").open("w"),
    "binary file": lambda path: (path / "f").open("wb"),
    "lock": lambda _: threading.Lock(),
    "generator": lambda _: (i for i in []),
    "connection": lambda _: sqlite3.connect(":memory:"),
    "socket": lambda _: socket.socket(),
    "thread": lambda _: threading.Thread(),
    "memoryview": lambda _: memoryview(b"ab"),
}


@pytest.mark.parametrize("name", NO_OTHER_STEP)
def test_what_no_other_step_can_be_given_is_named_with_variable_type_and_advice(tmp_path, name):
    value = NO_OTHER_STEP[name](tmp_path)
    with pytest.raises(
        CannotMarshal, match=r"variable 'thing'.* holds a .*, which no other step can be given: .*; \w+"
    ):
        save({"fine": 1, "thing": value}, tmp_path / "values")
    assert not (tmp_path / "values" / MANIFEST).exists()
    if hasattr(value, "close"):
        value.close()


def test_the_way_to_what_cannot_be_marshalled_is_told(tmp_path):
    value = types.SimpleNamespace(cache={"a": [0, threading.Lock()]})
    with pytest.raises(
        CannotMarshal, match=re.escape("variable 'model' (in model.cache['a'][1]) holds a _thread.lock")
    ):
        save({"model": value}, tmp_path)


@pytest.mark.slow
def test_a_value_that_is_nested_too_deeply_is_refused(tmp_path):
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(CannotMarshal, match="nested too deeply"):
        save({"deep": value}, tmp_path)


class Celsius:
    def __init__(self, degrees):
        self.degrees, self.lock = degrees, threading.Lock()


def celsius_from_text(text):
    return Celsius(float(text))


def test_a_type_that_is_registered_with_copyreg_travels(tmp_path):
    copyreg.pickle(Celsius, lambda value: (celsius_from_text, (str(value.degrees),)))
    try:
        assert through(tmp_path, v=[Celsius(21.5)])["v"][0].degrees == 21.5
    finally:
        del copyreg.dispatch_table[Celsius]


@pytest.mark.parametrize("value", [[1, 2], np.arange(3), Point(1)], ids=["json", "npy", "pickle"])
def test_damage_is_found_and_named(tmp_path, value):
    manifest = save({"x": value, "fine": 1}, tmp_path)
    for file in manifest["groups"]["x"]["files"]:
        path = tmp_path / file
        whole = path.read_bytes()
        for broken in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1], None):
            path.unlink(missing_ok=True)
            if broken is not None:
                path.write_bytes(broken)
            with pytest.raises(DamagedValue, match=r"variable 'x': .*run the step that makes it again"):
                load(tmp_path, ["x"])
        assert load(tmp_path, ["fine"]) == {"fine": 1}
        path.write_bytes(whole)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 2}', None])
def test_a_manifest_that_is_none_is_damage(tmp_path, text):
    if text is not None:
        (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(DamagedValue, match=re.escape(MANIFEST)):
        read_manifest(tmp_path)


def test_a_value_that_was_not_saved_is_named(tmp_path):
    save({}, tmp_path, unbound=["nothing"])
    assert load(tmp_path, ["nothing"]) == {}
    with pytest.raises(DamagedValue, match="no value 'other'"):
        load(tmp_path, ["other"])


def test_a_manifest_is_readable_and_says_the_same_each_time(tmp_path):
    for folder in ("one", "two"):
        save({"b": {3, 1, 2}, "a": np.arange(3)}, tmp_path / folder)
    texts = [(tmp_path / folder / MANIFEST).read_text() for folder in ("one", "two")]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["values"]["a"]["summary"] == "numpy.ndarray (3,) int64"
