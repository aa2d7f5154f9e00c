"""What every store promises.

A store keeps named immutable bytes, *blobs*, under keys such as `pack/0f3c…-0`. A key is ASCII: letters, digits, `-`, `.`, `_`
and `/`, at most 200 characters, no empty, `.` or `..` component.

Promises, which the contract suite `tests/contract/test_store.py` holds every implementation to:

- *Atomic*: after any crash a key holds all of one body or does not exist. What `put` or `create` acknowledged survives
  a power cut.
- *Read after write, and strong listing*: what was acknowledged before a call began is seen by that call.
- *Create if absent*: of any number of concurrent `create` calls on one key exactly one succeeds.
- *Times*: `Blob.modified` and `now()` come from one clock, the store's own. It may be wrong; it is the same for all nodes.
- *Threads*: one store object serves any number of threads.
- *Bodies* are taken as they are at the call; the caller may reuse the buffer once the call has returned.

A store retries nothing (that is `retry.Retrying`) and knows nothing of what it keeps.

Errors: NoSuchBlob, BlobExists; Unreachable where a later try may succeed; Refused where credentials do not permit it;
OutOfSpace; Failed for the rest. Each names the store and the key.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from engine.errors import Failed, NotFound

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Blob:
    """What a listing says of a blob: its key, its size, and when the store's clock says it was written."""

    key: str
    size: int
    modified: datetime


class NoSuchBlob(NotFound):
    """Nothing is stored under the key."""


class BlobExists(Failed):
    """`create` found the key taken: by someone else, or by an earlier try of the caller whose answer was lost."""


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

    def list(self, prefix: str) -> Iterator[Blob]:
        """The blobs whose key starts with `prefix` (which ends in `/`, or is empty for all), sorted by key."""
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
