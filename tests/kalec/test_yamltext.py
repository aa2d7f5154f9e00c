"""The YAML text that kalec writes: what goes in comes out of a YAML reader, and a person can read it."""

import math

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pipelines import documents

from kalec.emit.yamltext import to_yaml

TEXT = st.text(st.characters(exclude_categories=("Cs",))) | st.text(" \n\t#-:|'\"\\ab{", max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.slow
@settings(max_examples=60)
@example({"x": ["\t\n0", "\n\t0\n"]})
@given(st.dictionaries(TEXT, VALUES, min_size=1) | st.lists(VALUES, min_size=1))
def test_every_yaml_reader_gives_back_every_value(value):
    text = to_yaml(value)

    assert documents(text) == [value]  # as Kubernetes reads
    assert yaml.safe_load(text) == value  # as the KFP SDK reads


@given(
    st.sampled_from(
        ["null", "~", "Yes", "off", "y", "1e3", "0x10", "1_000", "2026-01-01", "12:30", "=", "<<", ".inf", "-", ""]
    )
)
def test_text_that_looks_like_another_value_stays_text(text):
    assert yaml.safe_load(to_yaml({text: [text]})) == {text: [text]}


@pytest.mark.parametrize("number", [1e-05, 1e22, -0.0, 5e-324, 1.7976931348623157e308, 3.0])
def test_a_float_comes_back_as_a_float(number):
    back = yaml.safe_load(to_yaml({"x": number}))["x"]

    assert isinstance(back, float)
    assert math.copysign(1, back) == math.copysign(1, number)
    assert back == number


def test_text_of_several_lines_is_a_literal_block_that_reads_as_it_is():
    text = to_yaml({"command": ["sh", "def f():\n    return 'ü'\n\n\nprint(f())\n"]})

    assert text == "command:\n- sh\n- |\n  def f():\n      return 'ü'\n\n\n  print(f())\n"


def test_a_header_stands_above_as_comments_however_many_lines_it_has():
    text = to_yaml({"a": 1}, header="Name: x\nb: 2\r\n\x85c: 3")

    assert yaml.safe_load(text) == {"a": 1}
    assert text.startswith("# Name: x\n# b: 2")


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800"])
def test_what_readers_do_not_agree_on_is_refused(value):
    with pytest.raises(ValueError, match=r"not a number|surrogate"):
        to_yaml({"x": value})
