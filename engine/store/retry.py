"""A store that tries again while the one inside is unreachable."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final, TypeVar

from engine.clock import Clock
from engine.errors import RokError, Unreachable
from engine.store.base import Blob, BlobExists, Buffer, Store, Unknown, check_prefix
from engine.values import dataclass

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Patience:
    """When to give up a call: after `attempts` tries, or before a pause that would end `total_seconds` after the first.

    Pauses double from `first_pause_seconds` up to `longest_pause_seconds`, each cut by up to a half at random, so that many
    nodes do not come back at the same moment.
    """

    attempts: int = 10
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 30
    total_seconds: float = 300


# Who waits at a terminal is to learn within seconds that a store does not answer; work that is under way has more patience.
FIRST_CONTACT: Final = Patience(attempts=4)
UNDER_WAY: Final = Patience()


class Retrying:
    """Passes everything on to `store`, and repeats what raised Unreachable until it runs out of patience.

    Until the store has answered once, its patience is that for the first contact, if one is given: who waits at a terminal
    is to learn soon that a store cannot be reached. It has none left when a pause is cut short, as the clock does when the
    program is to end.

    A write that was sent twice may arrive twice, the second time late. Replacing one key by different bodies in quick
    succession is therefore not safe on a store that loses answers; creating is.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        entropy: Callable[[int], bytes],
        patience: Patience = UNDER_WAY,
        first_contact: Patience | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._entropy = entropy
        self._patience = first_contact or patience
        self._later_patience = patience

    @property
    def url(self) -> str:
        """That of the store inside."""
        return self._store.url

    def put(self, key: str, body: Buffer) -> None:
        """Put, again if need be."""
        self._persist(lambda: self._store.put(key, body))

    def create(self, key: str, body: Buffer) -> None:
        """Create, and find out whether a try without an answer has succeeded, by reading the blob back.

        Equal bytes are ours: who must tell its own success from another's sends bytes that nobody else does. Raises
        BlobExists when it was another's; Unknown when it stays open whether ours is there, or may yet arrive.
        """
        unanswered = False

        def attempt() -> None:
            nonlocal unanswered
            try:
                self._store.create(key, body)
            except BlobExists:
                if not unanswered or self._store.get(key) != bytes(body):
                    raise
            except Unreachable:
                unanswered = True
                raise

        try:
            self._persist(attempt)
        except BlobExists:
            raise
        except RokError as error:
            if not unanswered:
                raise
            raise Unknown(
                f"it is unknown whether {key} was created in {self.url}: {error.message}",
                hint=f"{error.hint or 'try again when the store answers'}; what was created is then found",
            ) from error

    def get(self, key: str) -> bytes:
        """Get, again if need be."""
        return self._persist(lambda: self._store.get(key))

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Get, again if need be."""
        return self._persist(lambda: self._store.get_range(key, offset, length))

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """Read, again if need be: from the start."""
        return self._persist(lambda: self._store.read_into(key, offset, target))

    def list(self, prefix: str) -> Iterator[Blob]:
        """List. A listing that breaks off is begun anew, and goes on after the last key that was given."""
        return self._resumed(check_prefix(prefix))

    def keys(self, prefix: str) -> Mapping[str, int | None]:
        """List, again if need be."""
        return self._persist(lambda: self._store.keys(prefix))

    def stat(self, key: str) -> Blob:
        """Look, again if need be."""
        return self._persist(lambda: self._store.stat(key))

    def delete(self, key: str) -> None:
        """Delete, again if need be."""
        self._persist(lambda: self._store.delete(key))

    def now(self) -> datetime:
        """Ask, again if need be."""
        return self._persist(self._store.now)

    def close(self) -> None:
        """Close the store inside."""
        self._store.close()

    def _persist(self, call: Callable[[], Answer]) -> Answer:
        pauses = self._pauses()
        while True:
            try:
                answer = call()
            except Unreachable:
                if not next(pauses, False):
                    raise
                continue
            except RokError:
                self._patience = self._later_patience
                raise
            self._patience = self._later_patience
            return answer

    def _resumed(self, prefix: str) -> Iterator[Blob]:
        last = ""
        pauses = self._pauses()
        while True:
            before = last
            try:
                for blob in self._store.list(prefix):
                    if blob.key > last:
                        yield blob
                        last = blob.key
                        self._patience = self._later_patience
                return
            except Unreachable:
                if last > before:
                    pauses = self._pauses()  # it advances: a long listing may break off any number of times
                if not next(pauses, False):
                    raise

    def _pauses(self) -> Iterator[bool]:
        """Each step sleeps, and is true; it ends when it is time to give up."""
        patience = self._patience
        end = self._clock.monotonic() + patience.total_seconds
        for attempt in range(patience.attempts - 1):
            longest = min(patience.longest_pause_seconds, patience.first_pause_seconds * 2**attempt)
            pause = longest * (1 - int.from_bytes(self._entropy(4)) / 2**33)
            if self._clock.monotonic() + pause > end:
                return
            middle = self._clock.monotonic() + pause / 2
            self._clock.sleep(pause)
            if self._clock.monotonic() < middle:
                return  # woken: the program is to end, and must not wait for a store that does not answer
            yield True
