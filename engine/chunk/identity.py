"""What a chunk is called: a name that its bytes alone give it, and that nobody without the key can compute."""

from typing import Final

from blake3 import blake3

KEY_LENGTH: Final = 32
ID_LENGTH: Final = 32

Buffer = bytes | bytearray | memoryview


def chunk_id(key: bytes, body: Buffer) -> bytes:
    """BLAKE3 of the body, keyed: 32 bytes. The key, 32 bytes too, is the repository's."""
    assert len(key) == KEY_LENGTH, f"a key of {len(key)} bytes"
    return blake3(body, key=key).digest()
