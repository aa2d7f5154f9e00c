"""JSON in a repository: canonical, and sealed as a document (rok-repository(5), BOXES)."""

import json
from collections.abc import Mapping
from typing import Any, Final

import zstandard

from engine.errors import Damaged
from engine.repo.seal import Cipher, Entropy, open_box, seal_box
from engine.store.base import Buffer
from engine.units import MIB

EXPANDED_LIMIT: Final = 64 * MIB
_LEVEL: Final = 3


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one way to write a JSON object."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse_object(text: Buffer, what: str) -> dict[str, Any]:
    """A JSON object from untrusted bytes. Raises Damaged, naming `what`."""
    try:
        document = json.loads(bytes(text))
    except (ValueError, RecursionError):
        raise Damaged(f"{what} is not JSON") from None
    if not isinstance(document, dict):
        raise Damaged(f"{what} is not a JSON object")
    return document


def seal_document(magic: bytes, cipher: Cipher, document: Mapping[str, Any], entropy: Entropy) -> bytes:
    """The blob of a document."""
    compressed = zstandard.ZstdCompressor(level=_LEVEL).compress(canonical(document))
    return magic + seal_box(cipher, compressed, entropy)


def open_document(magic: bytes, cipher: Cipher, blob: Buffer, what: str) -> dict[str, Any]:
    """The document in a blob. Raises Damaged, naming `what`."""
    view = memoryview(blob)
    if bytes(view[: len(magic)]) != magic:
        raise Damaged(f"{what} does not start with its magic")
    try:
        compressed = open_box(cipher, view[len(magic) :])
        return parse_object(expand_frame(compressed, EXPANDED_LIMIT), what)
    except Damaged as error:
        raise Damaged(f"{what} is damaged: {error.message}") from error


def expand_frame(frame: Buffer, limit: int) -> bytes:
    """Decompress a zstd frame that declares its size, refusing sizes beyond `limit` before any memory is taken."""
    try:
        declared = zstandard.get_frame_parameters(bytes(memoryview(frame)[:32])).content_size
        if declared > limit:  # CONTENTSIZE_UNKNOWN is 2^64 - 1
            raise Damaged(f"a compressed piece declares {declared} bytes, beyond the limit of {limit}")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=limit)
    except zstandard.ZstdError as error:
        raise Damaged(f"decompression failed: {error}") from None
