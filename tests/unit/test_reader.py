"""What leaves a reader was compared with its id, whatever the ciphers said."""

import numpy as np
import pytest

from engine.chunk.codec import Codec
from engine.chunk.identity import chunk_id
from engine.repo.index import Index, Places
from engine.repo.map import REFERENCE, Entry
from engine.repo.pack import ChunkId, PackBuilder, PackKind, PackName, read_directory
from engine.repo.reader import Missing, Reader, Room
from engine.repo.seal import Keyring
from engine.repo.segment import facts_of
from engine.repo.span import SPAN_LIMIT
from engine.store.memory import MemoryStore
from tests.counting_entropy import CountingEntropy
from tests.repositories import CLOCK

KEYRING = Keyring(bytes(range(32)), encrypted=True)


def reader_of(*contents):
    """A reader of one pack that holds each content under the id that is given for it."""
    store, name = MemoryStore(CLOCK), PackName("ab" * 16, 0)
    pack = PackBuilder(name, PackKind.CHUNKS, bytearray(1 << 20), KEYRING, CountingEntropy())
    for chunk, content in contents:
        payload, raw = Codec().compress(content)
        pack.add(chunk, payload, raw=raw, blocks=len(content) // 4096)
    blob = bytes(pack.finish())
    store.put(name.key, blob)
    directory = read_directory(name, len(blob), lambda o, n: blob[o : o + n], KEYRING)
    return Reader(store, KEYRING, Index([facts_of(directory)]))


def identity(content):
    return ChunkId(chunk_id(KEYRING.subkey("chunk id"), content))


def test_chunks_come_as_they_were_stored():
    contents = [b"a" * 4096, bytes(range(256)) * 32]
    reader = reader_of(*((identity(content), content) for content in contents))
    entries = [Entry(0, len(content) // 4096, identity(content)[:16]) for content in contents]
    assert [bytes(body) for _, body in reader.chunks(entries, Room())] == contents


def test_content_that_is_sealed_well_under_the_id_of_another_is_not_given_out():
    wanted, other = b"a" * 4096, b"b" * 4096
    reader = reader_of((identity(wanted), other))
    with pytest.raises(Missing):
        list(reader.chunks([Entry(0, 1, identity(wanted)[:16])], Room()))


def test_a_chunk_of_another_length_than_its_map_says_is_not_given_out():
    wanted = b"a" * 8192
    reader = reader_of((identity(wanted), wanted))
    with pytest.raises(Missing):
        list(reader.chunks([Entry(0, 1, identity(wanted)[:16])], Room()))


def test_no_more_memory_is_taken_for_a_chunk_than_any_chunk_has_whatever_an_index_says_of_its_length():
    asked, pack = [], PackName("ab" * 16, 0)

    class Asked(MemoryStore):
        def read_into(self, key, offset, target):
            asked.append(len(target))
            return super().read_into(key, offset, target)

    class Lying(Index):
        def find_many(self, prefixes):
            count = len(prefixes) // REFERENCE
            lengths = np.full(count, 1 << 31, np.uint32)
            return Places(np.zeros(count, int), np.full(count, 32, np.uint32), lengths, np.zeros(count, bool))

        def pack(self, number):
            return pack

    store = Asked(CLOCK)
    store.put(pack.key, bytes(1 << 20))
    with pytest.raises(Missing):
        list(Reader(store, KEYRING, Lying()).chunks([Entry(0, 1, b"x" * 16)], Room()))
    assert asked == [SPAN_LIMIT]
