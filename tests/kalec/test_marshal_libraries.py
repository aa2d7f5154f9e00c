"""Frames, sparse matrices, estimators and boosters: what one step leaves is what the next one gets."""

import importlib
import os
import types

import numpy as np
import pytest

from kalec.runtime.marshal import load, save

pytestmark = pytest.mark.slow  # to import the libraries takes seconds


def library(name):
    """The module; without it the test is left out, but not in CI."""
    if os.environ.get("CI") == "true":
        return importlib.import_module(name)
    return pytest.importorskip(name)


def through(tmp_path, **values):
    """The variables again, and the kind of the group of each."""
    manifest = save(values, tmp_path / "values")
    kinds = {name: manifest["groups"][manifest["values"][name]["group"]]["kind"] for name in values}
    return load(tmp_path / "values", values), kinds


def frames():
    pd = library("pandas")
    numbers = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, np.nan, -0.0], "c": [True, False, True]})
    return {
        "numbers": numbers,
        "texts": pd.DataFrame({"s": ["a", "ü", ""]}),
        "objects of text": pd.DataFrame({"s": pd.Series(["a", "b"], dtype=object)}),
        "small dtypes": numbers.astype({"a": "int8", "b": "float32"}),
        "nullable": pd.DataFrame(
            {"i": pd.array([1, None], dtype="Int64"), "b": pd.array([True, None], dtype="boolean")}
        ),
        "categories": pd.DataFrame({"c": pd.Categorical(["lo", "hi", None], ["lo", "mid", "hi"], ordered=True)}),
        "times": pd.DataFrame({"t": pd.to_datetime(["2020-01-01", None]), "d": pd.to_timedelta([1, 2], unit="h")}),
        "zoned times": pd.DataFrame({"t": pd.to_datetime(["2020-01-01", "2020-06-01"]).tz_localize("Europe/Berlin")}),
        "labels": numbers.set_index(pd.Index(["x", "y", "z"], name="key")),
        "two levels": numbers.set_index(pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1)], names=["k", None])),
        "a range": numbers.set_index(pd.RangeIndex(10, 40, 10, name="r")),
        "regular times": numbers.set_index(pd.date_range("2020", periods=3, freq="D")),
        "periods": numbers.set_index(pd.period_range("2020", periods=3, freq="M")),
        "intervals": pd.DataFrame({"i": pd.cut([1, 5, 9], [0, 4, 10])}),
        "odd labels": pd.DataFrame([[1, 2, 3]], columns=[0, "0", None]),
        "numbered columns": pd.DataFrame(np.arange(6).reshape(2, 3)),
        "one label twice": pd.DataFrame([[1, 2]], columns=["a", "a"]),
        "levels of columns": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
        "objects": pd.DataFrame({"o": [[1, 2], (3,), {"k": {1}}, None, float("nan"), 5, "x"]}),
        "nothing": pd.DataFrame(),
        "no rows": numbers.iloc[:0],
        "no columns": numbers[[]],
        "attributes": _with_attributes(numbers.copy()),
        "sparse": pd.DataFrame({"s": pd.arrays.SparseArray([0, 0, 1])}),
        "a frame of floats in columns": pd.DataFrame({"x": [1.5]}, index=[7]),
        "series": numbers["b"],
        "series without a name": pd.Series([1, 2], index=["a", "b"]),
        "series with an odd name": pd.Series([1], name=("a", 1)),
        "series of objects": pd.Series([{1}, None, "x"]),
    }


def _with_attributes(frame):
    frame.attrs["unit"] = "m"
    return frame


def same_frame(pd, one, other):
    """Of one type, with equal labels and dtypes and cells; objects in cells of one type too."""
    check = pd.testing.assert_frame_equal if isinstance(one, pd.DataFrame) else pd.testing.assert_series_equal
    check(one, other, check_exact=True, check_freq=True)
    assert type(one) is type(other)
    assert one.attrs == other.attrs
    for mine, yours in zip(one.axes, other.axes, strict=True):
        assert type(mine) is type(yours)
        assert getattr(mine, "freq", None) == getattr(yours, "freq", None)
        assert [type(label) for label in mine] == [type(label) for label in yours]
    columns = [one.iloc[:, n] for n in range(one.shape[1])] if one.ndim == 2 else [one]
    others = [other.iloc[:, n] for n in range(one.shape[1])] if one.ndim == 2 else [other]
    for mine, yours in zip(columns, others, strict=True):
        assert [type(cell) for cell in mine.array] == [type(cell) for cell in yours.array]


FRAMES = [
    "numbers", "texts", "objects of text", "small dtypes", "nullable", "categories", "times", "zoned times", "labels",
    "two levels",
    "a range", "regular times", "periods", "intervals", "odd labels", "numbered columns", "one label twice", "levels of columns",
    "objects", "nothing", "no rows", "no columns", "attributes", "sparse", "a frame of floats in columns", "series",
    "series without a name", "series with an odd name", "series of objects",
]  # fmt: skip
IN_ARROW = {"numbers", "texts", "small dtypes", "nullable", "categories", "times", "labels", "a range", "series"}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_comes_back_with_its_labels_and_dtypes(tmp_path, name):
    pd = library("pandas")
    library("pyarrow")
    frame = frames()[name]
    back, kinds = through(tmp_path, frame=frame, inside=[frame])
    same_frame(pd, frame, back["frame"])
    assert back["inside"][0] is back["frame"]
    assert kinds["frame"] == "json" or name not in IN_ARROW


def test_all_frames_above_are_tried():
    assert set(frames()) == set(FRAMES)


def test_values_of_pandas_stay_what_they_are(tmp_path):
    pd = library("pandas")
    frame = pd.DataFrame({"k": ["a", "a", "b"], "v": [1, 2, 3]})
    values = {
        "stamp": pd.Timestamp("2020-01-01", tz="UTC"), "delta": pd.Timedelta(1, "h"), "nat": pd.NaT, "missing": pd.NA,
        "index": pd.Index([1, 2], name="i"), "interval": pd.Interval(0, 1), "category": pd.Categorical(["a", "b"]),
    }  # fmt: skip
    back, _ = through(tmp_path, groups=frame.groupby("k"), **values)
    assert type(back["groups"]) is type(frame.groupby("k"))
    assert back["groups"]["v"].sum().to_dict() == {"a": 3, "b": 3}
    for name, value in values.items():
        assert type(back[name]) is type(value)
        assert repr(back[name]) == repr(value)
    assert back["nat"] is pd.NaT
    assert back["missing"] is pd.NA


def test_sparse_matrices_and_arrays_keep_their_format(tmp_path):
    sparse = library("scipy.sparse")
    dense = np.array([[0, 1.5, 0], [2, 0, 0]])
    for kind in ("csr", "csc", "coo", "bsr", "dia", "lil", "dok"):
        for form in ("matrix", "array"):
            value = getattr(sparse, f"{kind}_{form}")(dense)
            back, kinds = through(tmp_path, v=value)
            assert type(back["v"]) is type(value)
            assert back["v"].dtype == value.dtype
            assert np.array_equal(back["v"].toarray(), dense)
            assert kinds["v"] == ("pickle" if kind in ("lil", "dok") else "json")


def test_an_estimator_predicts_the_same_and_shares_what_it_shared(tmp_path):
    library("sklearn")
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    generator = np.random.RandomState(0)
    x, y = generator.normal(size=(60, 3)), np.arange(60) % 2
    forest = RandomForestClassifier(5, random_state=generator).fit(x, y)
    line = make_pipeline(FunctionTransformer(lambda v: v * 2), LogisticRegression()).fit(x, y)
    back, _ = through(tmp_path, forest=forest, line=line, generator=generator)
    assert np.array_equal(back["forest"].predict_proba(x), forest.predict_proba(x))
    assert np.array_equal(back["line"].predict_proba(x), line.predict_proba(x))
    assert back["forest"].random_state is back["generator"]


def test_a_class_that_no_name_leads_to_travels_with_cloudpickle(tmp_path):
    library("cloudpickle")

    def make():
        class Local:
            def twice(self):
                return self.x * 2

        return Local

    one, other = make()(), [1]
    one.x, one.held = 4, other
    back, kinds = through(tmp_path, one=one, other=other)
    assert back["one"].twice() == 8
    assert back["one"].held is back["other"]
    assert kinds["one"] == "cloudpickle"


@pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning"
)  # xgboost says on import what it did not find
def test_a_booster_predicts_the_same_and_trains_on_the_same(tmp_path):
    xgboost = library("xgboost")
    x = np.random.RandomState(0).normal(size=(50, 3))
    matrix = xgboost.DMatrix(x, label=(x[:, 0] > 0).astype(int))
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 2, "eta": 0.3}, matrix, 4)
    booster.set_attr(note="kept")
    back, kinds = through(tmp_path, booster=booster, holder=types.SimpleNamespace(booster=booster))
    assert np.array_equal(back["booster"].predict(matrix), booster.predict(matrix))
    assert back["booster"].attributes() == booster.attributes()
    assert back["holder"].booster is back["booster"]
    alone, kinds = through(tmp_path, booster=booster)
    assert kinds["booster"] == "json"
    for one in (alone["booster"], booster):
        one.update(matrix, 4)
    assert np.array_equal(alone["booster"].predict(matrix), booster.predict(matrix))
