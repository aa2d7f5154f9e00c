"""What a chunk is called."""

import pytest

from engine.chunk.identity import chunk_id

KEY = b"whats the Elvish word for friend"  # the key and the answers of the BLAKE3 authors' test vectors


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"),
        (1024, "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4"),
    ],
)
def test_a_chunk_id_is_keyed_blake3(length, expected):
    body = bytes(i % 251 for i in range(length))

    assert chunk_id(KEY, body).hex() == expected


def test_any_buffer_gives_the_same_id():
    body = b"twelve bytes"

    assert chunk_id(KEY, body) == chunk_id(KEY, bytearray(body)) == chunk_id(KEY, memoryview(b"[" + body + b"]")[1:-1])


def test_another_key_gives_another_id():
    assert chunk_id(KEY, b"body") != chunk_id(bytes(32), b"body")


def test_a_short_key_is_not_taken():
    with pytest.raises(AssertionError, match="a key of 16 bytes"):
        chunk_id(bytes(16), b"body")
