"""A store in memory, for tests and simulations."""

import threading
from collections.abc import Iterator, Mapping
from datetime import datetime

from engine.clock import Clock
from engine.store.base import Blob, BlobExists, Buffer, NoSuchBlob, check_key, check_prefix


class MemoryStore:
    """Keeps every promise of a store but to survive the process. Its time is that of `clock`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._blobs: dict[str, tuple[bytes, datetime]] = {}

    @property
    def url(self) -> str:
        """`memory:`."""
        return "memory:"

    def put(self, key: str, body: Buffer) -> None:
        """Keep a copy of `body`."""
        check_key(key)
        kept = bytes(body)
        with self._lock:
            self._blobs[key] = (kept, self._clock.now())

    def create(self, key: str, body: Buffer) -> None:
        """Keep a copy of `body` if nothing is there."""
        check_key(key)
        kept = bytes(body)
        with self._lock:
            if key in self._blobs:
                raise BlobExists(f"{self.url} already holds {key}")
            self._blobs[key] = (kept, self._clock.now())

    def get(self, key: str) -> bytes:
        """The whole blob."""
        return self._find(key)[0]

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """A part of the blob."""
        return self._find(key)[0][offset : offset + length]

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """Copy a part of the blob."""
        part = self.get_range(key, offset, len(target))
        target[: len(part)] = part
        return len(part)

    def list(self, prefix: str) -> Iterator[Blob]:
        """The blobs as they are at the call."""
        check_prefix(prefix)
        with self._lock:
            found = [(key, *blob) for key, blob in self._blobs.items() if key.startswith(prefix)]
        return (Blob(key, len(body), modified.timestamp()) for key, body, modified in sorted(found))

    def keys(self, prefix: str) -> Mapping[str, int | None]:
        """The same, with all sizes."""
        return {blob.key: blob.size for blob in self.list(prefix)}

    def stat(self, key: str) -> Blob:
        """Size and time of one blob."""
        body, modified = self._find(key)
        return Blob(key, len(body), modified.timestamp())

    def delete(self, key: str) -> None:
        """Forget the blob."""
        check_key(key)
        with self._lock:
            self._blobs.pop(key, None)

    def now(self) -> datetime:
        """The time of the clock it was given."""
        return self._clock.now()

    def close(self) -> None:
        """Nothing to release."""

    def _find(self, key: str) -> tuple[bytes, datetime]:
        check_key(key)
        with self._lock:
            try:
                return self._blobs[key]
            except KeyError:
                raise NoSuchBlob(f"{self.url} holds no {key}") from None
