"""What every store promises.

A store keeps named immutable bytes, *blobs*, under keys such as `pack/0f3c…-0`. A key is ASCII: letters, digits, `-`, `.`, `_`
and `/`, at most 200 characters; no component of it is empty or starts with `.`. What else lies in a store is not listed, so
that a directory store may keep its temporary files, and a file server its own, under names that begin with a dot. No key may
be the folder of another: where `a` is a blob, `a/b` is not.

Promises, which the contract suite `tests/contract/test_store.py` holds every implementation to:

- *Atomic*: a reader finds all of one body under a key or nothing, while it is written and after any crash.
- *Durable*: what `put`, `create` or `delete` acknowledged, and what `list` or `keys` showed, survives a power cut.
- *Read after write, and strong listing*: what was acknowledged before a call began is seen by that call.
- *Create if absent*: of any number of concurrent `create` calls on one key exactly one succeeds.
- *Times*: `Blob.modified` and `now()` come from one clock, the store's own. It may be wrong; it is the same for all nodes.
- *Threads*: one store object serves any number of threads.
- *Bodies* are taken as they are at the call; the caller may reuse the buffer once the call has returned.

A store retries nothing (that is `retry.Retrying`) and knows nothing of what it keeps. A write that raised Unreachable may
have happened, or may still happen when it arrives late.

Errors: NoSuchBlob, BlobExists; Unreachable where a later try may succeed; Refused where credentials do not permit it or the
key is none; NotFound where the bucket is missing; OutOfSpace; Failed for the rest. Each names the store and the key.
"""

import re
import string
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from engine.errors import Failed, NotFound, Refused, Unreachable

KEY_LIMIT: Final = 200

_KEY: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")

_CHARACTERS: Final = (string.ascii_letters + string.digits + "-._/").encode()

Buffer = bytes | bytearray | memoryview


class Blob(NamedTuple):  # half as long in the making as a frozen dataclass: there may be many thousands in a listing
    """What a listing says of a blob: its key, its size, and when the store's clock says it was written."""

    key: str
    size: int
    written: float  # seconds since 1970; of many that are listed, few are asked for their time of day

    @property
    def modified(self) -> datetime:
        """The same, as a time of day."""
        return datetime.fromtimestamp(self.written, UTC)


class NoSuchBlob(NotFound):
    """Nothing is stored under the key."""


class BlobExists(Failed):
    """`create` found the key taken: by someone else, or by an earlier try of the caller whose answer was lost."""


class Unknown(Unreachable):
    """A `create` got no answer that settles it: the blob may be there, or may yet arrive."""


class Store(Protocol):
    """A place for blobs. See the module for the promises."""

    @property
    def url(self) -> str:
        """Where it is, fit to be shown: no credentials."""
        ...

    def put(self, key: str, body: Buffer) -> None:
        """Keep `body` under `key`, replacing what was there."""
        ...

    def create(self, key: str, body: Buffer) -> None:
        """Keep `body` under `key` if nothing is there. Raises BlobExists otherwise, having changed nothing."""
        ...

    def get(self, key: str) -> bytes:
        """The whole blob. Raises NoSuchBlob."""
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """The bytes [offset, offset + length) of the blob, fewer where the blob ends before. Raises NoSuchBlob."""
        ...

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """Fill `target` with the bytes of the blob from `offset` on, and tell how many there were: fewer where it ends before.

        What is beyond them in `target` may be anything. For large reads: memory that is used again is cheaper than new one.
        Raises NoSuchBlob.
        """
        ...

    def list(self, prefix: str) -> Iterator[Blob]:
        """The blobs whose key starts with `prefix` (which ends in `/`, or is empty for all), sorted by key."""
        ...

    def keys(self, prefix: str) -> Mapping[str, int | None]:
        """The keys that `list` would give, each with its size; None where that would take a look at each blob: see `stat`."""
        ...

    def stat(self, key: str) -> Blob:
        """What a listing would say of one key. Raises NoSuchBlob."""
        ...

    def delete(self, key: str) -> None:
        """Remove the blob; a key that does not exist is no error."""
        ...

    def now(self) -> datetime:
        """The time of day by the store's own clock."""
        ...

    def close(self) -> None:
        """Release connections. The store must not be used afterwards."""
        ...


def is_key(text: str) -> bool:
    """Whether `text` may be the key of a blob."""
    return len(text) <= KEY_LIMIT and _KEY.fullmatch(text) is not None


def are_keys(names: Iterable[str]) -> bool:
    """Whether each of many names without `/` may be a key, but for its length: tens of times as fast as one by one."""
    joined = "/" + "/".join(names)
    return joined.isascii() and not joined.encode().translate(None, _CHARACTERS) and "/." not in joined


def check_key(key: str) -> str:
    """Return `key` if it is one. Raises Refused."""
    if not is_key(key):
        raise Refused(
            f"{key!r} cannot be the key of a blob",
            hint=f"use at most {KEY_LIMIT} letters, digits, '-', '_', '.' and '/', no part empty or starting with '.'",
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` if a listing may be asked for it. Raises Refused."""
    if prefix and not (prefix.endswith("/") and is_key(prefix[:-1])):
        raise Refused(f"{prefix!r} cannot be the prefix of a listing", hint="end it in '/', or leave it empty for all")
    return prefix
