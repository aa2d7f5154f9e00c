"""The index and the claims of a session, against dictionaries and sets."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.repo import index as index_module
from engine.repo.index import Index
from engine.repo.pack import PackKind, PackName
from engine.repo.segment import PackFacts

# Few values for each half, so that prefixes share halves, repeat, and stand in several packs.
halves = st.sampled_from([bytes(8), b"\xff" * 8, bytes(7) + b"\x01", b"\x01" + bytes(7), b"\x80" * 8])
prefixes = st.builds(lambda high, low: high + low, halves, halves)
packs = st.lists(st.lists(prefixes, max_size=12), max_size=5)


def facts(contents):
    return [
        PackFacts(
            PackName("ab" * 16, number),
            PackKind.CHUNKS,
            1000,
            b"".join(content),
            np.arange(1, len(content) + 1, dtype=np.uint32),
        )
        for number, content in enumerate(contents)
    ]


@given(packs, prefixes)
def test_a_chunk_is_found_in_every_pack_that_holds_it(contents, wanted):
    index = Index(facts(contents))
    places = [
        (pack.name, record.offset, record.length)
        for pack in facts(contents)
        for record in pack.records()
        if record.chunk == wanted
    ]

    found = [(one.pack, one.offset, one.length) for one in index.find_all(wanted)]

    assert sorted(found) == sorted(places)
    one = index.find(wanted)
    assert (one is None) == (not places)
    assert one is None or (one.pack, one.offset, one.length) in places
    assert index.chunks == sum(map(len, contents))


@given(packs, st.lists(prefixes, max_size=200), st.integers(1, 20))
@settings(max_examples=50)
def test_of_many_claims_of_one_chunk_one_succeeds(contents, wanted, limit):
    before, index_module._RECENT_LIMIT = index_module._RECENT_LIMIT, limit
    try:
        index, known = Index(facts(contents)), {prefix for content in contents for prefix in content}
        for prefix in wanted:
            assert index.claim(prefix) == (prefix not in known)
            known.add(prefix)
    finally:
        index_module._RECENT_LIMIT = before


@pytest.mark.slow
def test_claims_of_several_threads_are_told_apart_beyond_the_recent_ones():
    index, count = Index([]), 3 * index_module._RECENT_LIMIT // 2
    names = [number.to_bytes(8, "big") * 2 for number in range(count)]
    with ThreadPoolExecutor(4) as crew:
        successes = sum(sum(part) for part in crew.map(lambda _: [index.claim(name) for name in names], range(4)))
    assert successes == count
    assert not any(index.claim(name) for name in names)
