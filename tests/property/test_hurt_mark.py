"""The mark of a version that lost something comes back as it was written, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Damaged
from engine.extent import Extent
from engine.repo.document import seal_document
from engine.repo.hurt import open_mark, seal_mark
from engine.repo.seal import Keyring
from tests.counting_entropy import CountingEntropy

VERSION = "ab" * 16
extents = st.builds(Extent, st.integers(0, 2**60), st.integers(1, 2**60))
losses = st.dictionaries(st.text(max_size=8), st.lists(extents, max_size=5).map(tuple), max_size=4)


def keyring(encrypted=True):
    return Keyring(b"k" * 32, encrypted=encrypted)


@given(losses, st.booleans())
def test_a_mark_comes_back_as_it_was_written(lost, encrypted):
    blob = seal_mark(VERSION, lost, keyring(encrypted), CountingEntropy(0))
    assert open_mark(VERSION, blob, keyring(encrypted)) == lost


@given(losses)
def test_the_mark_of_another_version_is_none(lost):
    blob = seal_mark(VERSION, lost, keyring(), CountingEntropy(0))
    with pytest.raises(Damaged):
        open_mark("cd" * 16, blob, keyring())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "lost", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_whatever_a_holder_of_the_key_writes_there_is_a_mark_or_damaged(value):
    blob = seal_document(b"ROKHURT\x01", keyring().cipher("hurt", VERSION), {"members": value}, CountingEntropy(0))
    try:
        lost = open_mark(VERSION, blob, keyring())
    except Damaged:
        return
    assert all(isinstance(extent, Extent) for extents in lost.values() for extent in extents)
