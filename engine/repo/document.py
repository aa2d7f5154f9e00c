"""JSON in a repository: canonical, and sealed as a document (rok-repository(5), BOXES)."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import zstandard

from engine.chunk.codec import expand_frame
from engine.clock import LAST_MOMENT, parse_moment
from engine.errors import Damaged, Refused
from engine.repo.seal import Cipher, Entropy, open_box, seal_box
from engine.store.base import Buffer
from engine.units import MIB

EXPANDED_LIMIT: Final = 64 * MIB
DOCUMENT_LIMIT: Final = EXPANDED_LIMIT + MIB  # of the blob: what cannot be compressed grows a little
VALUE_LIMIT: Final = 1 << 20
DEPTH_LIMIT: Final = 32
NUMBER_LIMIT: Final = 1 << 63
_LEVEL: Final = 3

Value = TypeVar("Value")


def canonical(document: Mapping[str, Any]) -> bytes:
    """The one way to write a JSON object."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse_object(text: Buffer, what: str) -> dict[str, Any]:
    """A JSON object from untrusted bytes, which can be written again. Raises Damaged, naming `what`."""
    body = bytes(text)
    # A value takes up to thirty times the memory of its text, so what would be too much is told before it is parsed.
    if sum(map(body.count, (b",", b"[", b"{"))) > VALUE_LIMIT:
        raise Damaged(f"{what} holds more than {VALUE_LIMIT} values")
    try:
        document = json.loads(body, object_pairs_hook=_object)
        if not isinstance(document, dict):
            raise Damaged(f"{what} is not a JSON object")
        if not _is_within_depth(document):
            raise Damaged(f"{what} is nested more than {DEPTH_LIMIT} deep")
        canonical(document)
    except (ValueError, RecursionError):  # `canonical` finds NaN and halves of surrogate pairs
        raise Damaged(f"{what} is not JSON") from None
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key stands twice: two readers could take two meanings")
    return document


def _is_within_depth(document: object) -> bool:
    level = [document]
    for _ in range(DEPTH_LIMIT):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return True
    return False


def _inside(value: object) -> Iterable[object]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
    return ()


def seal_document(magic: bytes, cipher: Cipher, document: Mapping[str, Any], entropy: Entropy) -> bytes:
    """The blob of a document. Raises Refused when it is larger than a reader takes."""
    text = canonical(document)
    if len(text) > EXPANDED_LIMIT or sum(map(text.count, (b",", b"[", b"{"))) > VALUE_LIMIT:
        raise Refused(f"a document of {len(text)} bytes is more than a repository takes", hint="give it fewer parts")
    compressed = zstandard.ZstdCompressor(level=_LEVEL).compress(text)
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
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise Damaged(f"{self._what} lacks a valid {name!r}")
        self._taken.add(name)
        return value

    def count(self, name: str) -> int:
        """A number from 0 to below 2^63."""
        value: int = self.take(name, int)
        if not 0 <= value < NUMBER_LIMIT:
            raise Damaged(f"{self._what} lacks a valid {name!r}")
        return value

    def time(self, name: str) -> datetime:
        """A moment that exists in every time zone."""
        return self._convert(name, parse_moment)

    def end(self, name: str) -> datetime:
        """A moment that may be the last of the calendar, as the end of what has none."""
        return self._convert(name, lambda text: parse_moment(text, latest=LAST_MOMENT))

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
