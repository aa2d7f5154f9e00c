"""Merging the changes of a delta."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.device.base import Change, ChangeKind, join_changes
from engine.extent import Extent

kinds = st.lists(st.sampled_from([*ChangeKind, None]), max_size=30)


@given(kinds)
def test_merged_changes_say_the_same_and_no_two_could_be_merged(of_bytes: list[ChangeKind | None]) -> None:
    single = [Change(Extent(place, 1), kind) for place, kind in enumerate(of_bytes) if kind is not None]

    merged = list(join_changes(single))

    again = {place: change.kind for change in merged for place in range(change.extent.start, change.extent.end)}
    assert again == {place: kind for place, kind in enumerate(of_bytes) if kind is not None}
    for left, right in pairwise(merged):
        assert left.extent.end < right.extent.start or left.kind is not right.kind
