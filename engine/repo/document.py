"""JSON in a repository: canonical, and sealed as a document (rok-repository(5), BOXES)."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import zstandard

from engine.errors import Damaged
from engine.repo.seal import Cipher, Entropy, open_box, seal_box
from engine.store.base import Buffer
from engine.units import MIB

EXPANDED_LIMIT: Final = 64 * MIB
_LEVEL: Final = 3

Value = TypeVar("Value")


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


class Fields:
    """Takes typed fields out of a JSON object, and knows what is left."""

    def __init__(self, document: object, what: str) -> None:
        if not isinstance(document, Mapping):
            raise Damaged(f"{what} lacks an object where one belongs")
        self._document = document
        self._taken: set[str] = set()
        self._what = what

    def take(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """The value of a field, of a kind. Raises Damaged, as all of these do."""
        value = self._document.get(name, self)
        if not isinstance(value, kind):
            raise Damaged(f"{self._what} lacks a valid {name!r}")
        self._taken.add(name)
        return value

    def count(self, name: str) -> int:
        """A number that is not negative."""
        value: int = self.take(name, int)
        if value < 0:
            raise Damaged(f"{self._what} has a negative {name!r}")
        return value

    def time(self, name: str) -> datetime:
        """A moment: without a time zone it is none, and could not be compared with those that are."""
        moment = self._convert(name, datetime.fromisoformat)
        if moment.tzinfo is None:
            raise Damaged(f"{self._what} has no time zone in {name!r}")
        return moment

    def reference(self, name: str) -> bytes:
        """16 bytes in hexadecimal."""
        value = self._convert(name, bytes.fromhex)
        if len(value) != 16:
            raise Damaged(f"{self._what} lacks a valid {name!r}")
        return value

    def rest(self) -> dict[str, Any]:
        """The fields that were not asked for."""
        return {key: value for key, value in self._document.items() if key not in self._taken}

    def _convert(self, name: str, convert: Callable[[str], Value]) -> Value:
        try:
            return convert(self.take(name, str))
        except ValueError:
            raise Damaged(f"{self._what} lacks a valid {name!r}") from None
