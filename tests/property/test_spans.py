"""Spans: what one read of a pack serves."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from engine.repo.pack import PackName
from engine.repo.span import SPAN_GAP, SPAN_LIMIT, spans

lengths = st.integers(1, 40_000) | st.sampled_from([SPAN_LIMIT - 1, SPAN_LIMIT, SPAN_LIMIT + 1])
gaps = st.integers(-50, 200) | st.sampled_from([SPAN_GAP, SPAN_GAP + 1])


@st.composite
def places(draw):
    """Packs, offsets and lengths in order. Equal packs are different objects, some of them."""
    found = []
    for number in range(draw(st.integers(0, 3))):
        end = 32
        for gap, length in draw(st.lists(st.tuples(gaps, lengths), max_size=12)):
            start = max(end + gap, found[-1][1] if found and found[-1][0].number == number else 0)
            found.append((PackName("ab" * 16, number), start, length))
            end = start + length
    return found


def fits(span):
    """May one read serve these? By the words of the docstring."""
    first, last = span[0], span[-1]
    near = all(later[1] - (one[1] + one[2]) <= SPAN_GAP for one, later in pairwise(span))
    return (
        {one[0] for one in span} == {first[0]}
        and near
        and (len(span) == 1 or last[1] + last[2] - first[1] <= SPAN_LIMIT)
    )


@given(places())
@example([])
def test_all_come_in_their_order_in_runs_that_one_read_serves_and_none_could_take_the_next(found):
    made = list(spans(found, lambda place: place))
    assert [place for span in made for place in span] == found
    assert all(map(fits, made))
    assert not any(fits([*span, following[0]]) for span, following in pairwise(made))
