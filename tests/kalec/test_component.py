"""What runs around a step on KFP: parameters come back as what they were."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalec.runtime.component import restore

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def through_kfp(value):
    """What KFP makes of a value: every number is a double, and keys are sorted."""
    return json.loads(json.dumps(value, sort_keys=True), parse_int=float)


@given(st.lists(PLAIN) | st.dictionaries(st.text(), PLAIN))
def test_a_default_comes_back_to_the_type_and_to_the_order(value):
    back = restore(through_kfp(value), type(value).__name__, value)

    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    ("given_value", "kind", "default", "expected"),
    [
        (3.0, "int", 1, 3), (3, "float", 1.0, 3.0), (None, "list", [1], None), (None, "str", "x", None),
        ([1.0, 2.5], "list", [9], [1, 2.5]), ([True], "list", [1], [True]), ({"a": [1.0]}, "dict", {}, {"a": [1]}),
        ("3", "str", "", "3"), (True, "bool", False, True),
    ],
)  # fmt: skip
def test_another_value_than_the_default_has_whole_numbers_as_int(given_value, kind, default, expected):
    assert repr(restore(given_value, kind, default)) == repr(expected)
