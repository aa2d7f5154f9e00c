"""Maps are read ahead, many with one request; what is damaged is met where it is asked for, and the memory is bounded."""

import os

import pytest
from blake3 import blake3

from engine.repo import reader as reading
from engine.repo.index import Index
from engine.repo.map import REFERENCE, ZEROS, RegionBuilder
from engine.repo.pack import ChunkId, PackBuilder, PackKind, PackName, read_directory
from engine.repo.reader import Missing, Reader
from engine.repo.seal import Keyring
from engine.repo.segment import facts_of
from engine.store.faulty import Faulty
from engine.store.memory import MemoryStore
from tests.counting_entropy import CountingEntropy
from tests.repositories import CLOCK

KEYRING = Keyring(bytes(range(32)), encrypted=True)
BLOCKS = 8
SIZE = BLOCKS * 4096


def a_map():
    builder = RegionBuilder()
    for _ in range(BLOCKS):
        builder.add(1, os.urandom(REFERENCE))
    return builder.encode()


def pack_of(store, number, maps):
    """A pack of maps, in the store; its facts, and the references of the maps."""
    name, key = PackName("ab" * 16, number), KEYRING.subkey("map id")
    pack = PackBuilder(name, PackKind.MAPS, bytearray(1 << 20), KEYRING, CountingEntropy())
    ids = [ChunkId(blake3(encoded, key=key).digest()) for encoded in maps]
    for chunk, encoded in zip(ids, maps, strict=True):
        pack.add(chunk, encoded, raw=True, blocks=0)
    blob = bytes(pack.finish())
    store.put(name.key, blob)
    facts = facts_of(read_directory(name, len(blob), lambda o, n: blob[o : o + n], KEYRING))
    return facts, [chunk[:REFERENCE] for chunk in ids]


@pytest.fixture
def store():
    return Faulty(MemoryStore(CLOCK), lambda _: None)


def entries_of(reader, references):
    regions = reader.ahead(enumerate(references), lambda region: (region[1],))
    return [reader.region(reference, 0, SIZE) for _, reference in regions]


def test_the_maps_of_many_regions_come_with_one_request_for_each_pack(store):
    packs = [pack_of(store, number, [a_map() for _ in range(reading.AHEAD // 2)]) for number in range(2)]
    references = [reference for _, found in packs for reference in found]
    expected = [Reader(store, KEYRING, Index([facts for facts, _ in packs])).region(r, 0, SIZE) for r in references]
    reader, before = Reader(store, KEYRING, Index([facts for facts, _ in packs])), len(store.calls)
    assert entries_of(reader, [*references, ZEROS])[:-1] == expected
    assert len(store.calls) - before == 2


def test_what_cannot_be_read_ahead_is_met_where_it_is_asked_for_and_hides_no_other(store):
    facts, references = pack_of(store, 0, [a_map() for _ in range(4)])
    blob = bytearray(store.get(facts.name.key))
    blob[int(facts.offsets()[1])] ^= 1
    store.put(facts.name.key, bytes(blob))
    reader = Reader(store, KEYRING, Index([facts]))
    regions = reader.ahead([*references, os.urandom(REFERENCE)], lambda reference: (reference,))
    lost = []
    for reference in regions:
        try:
            reader.region(reference, 0, SIZE)
        except Missing:
            lost.append(reference)
    assert len(lost) == 2
    assert lost[0] == references[1]


def test_a_pack_that_is_gone_is_met_there_too(store):
    facts, references = pack_of(store, 0, [a_map()])
    store.delete(facts.name.key)
    with pytest.raises(Missing):
        entries_of(Reader(store, KEYRING, Index([facts])), references)


def test_the_cache_of_maps_lets_go_of_the_oldest_and_never_of_what_is_right(store):
    facts, references = pack_of(store, 0, [a_map() for _ in range(20)])
    fresh = [Reader(store, KEYRING, Index([facts])).region(reference, 0, SIZE) for reference in references]
    length = len(Reader(store, KEYRING, Index([facts])).encoded_map(references[0]))
    reader = Reader(store, KEYRING, Index([facts]), map_cache=5 * length)
    assert entries_of(reader, references + references[::-1]) == fresh + fresh[::-1]
    for reference in references:
        reader.region(reference, 0, SIZE)
    before = len(store.calls)
    for reference in references[-5:]:
        reader.region(reference, 0, SIZE)
    assert len(store.calls) == before
    reader.region(references[0], 0, SIZE)
    assert len(store.calls) == before + 1
