"""A store that keeps to rates."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from engine.rate import RateLimit
from engine.store.base import Blob, Buffer, Store


class Throttled:
    """Passes everything on to `store`, bodies no faster than the limits. None is no limit.

    A body waits for its time as a whole, then goes at full speed: the limit holds over bodies, not inside one.
    """

    def __init__(self, store: Store, upload: RateLimit | None, download: RateLimit | None) -> None:
        self._store = store
        self._upload = upload
        self._download = download

    @property
    def url(self) -> str:
        """That of the store inside."""
        return self._store.url

    def put(self, key: str, body: Buffer) -> None:
        """Wait, then put."""
        self._wait_to_send(body)
        self._store.put(key, body)

    def create(self, key: str, body: Buffer) -> None:
        """Wait, then create."""
        self._wait_to_send(body)
        self._store.create(key, body)

    def get(self, key: str) -> bytes:
        """Get, then wait."""
        body = self._store.get(key)
        self._received(len(body))
        return body

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Get, then wait."""
        body = self._store.get_range(key, offset, length)
        self._received(len(body))
        return body

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """Read, then wait."""
        count = self._store.read_into(key, offset, target)
        self._received(count)
        return count

    def list(self, prefix: str) -> Iterator[Blob]:
        """Unlimited: listings are small."""
        return self._store.list(prefix)

    def keys(self, prefix: str) -> Mapping[str, int | None]:
        """Unlimited."""
        return self._store.keys(prefix)

    def stat(self, key: str) -> Blob:
        """Unlimited."""
        return self._store.stat(key)

    def delete(self, key: str) -> None:
        """Unlimited."""
        self._store.delete(key)

    def now(self) -> datetime:
        """Unlimited."""
        return self._store.now()

    def close(self) -> None:
        """Close the store inside."""
        self._store.close()

    def _wait_to_send(self, body: Buffer) -> None:
        if self._upload is not None:
            self._upload.take(memoryview(body).nbytes)

    def _received(self, length: int) -> None:
        if self._download is not None:
            self._download.take(length)
