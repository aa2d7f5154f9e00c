"""The index: where each chunk is, over all packs; which of those stay; and which new chunks a session has taken on.

Held as sorted arrays: 28 bytes an entry of the index, 16 bytes a new chunk. One object serves many threads.
"""

import threading
from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.repo.map import REFERENCE
from engine.repo.pack import RAW_BIT, PackKind, PackName
from engine.repo.segment import PackFacts

_RECENT_LIMIT: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Location:
    """Where a chunk's record is. `length` is the sealed length in bytes."""

    pack: PackName
    offset: int
    length: int
    raw: bool


class Index:
    """The facts of the given packs, which must all exist; of each only one statement counts.

    What is in a pack of `condemned` may be read as long as it is there, but is no reason not to store it again.
    """

    def __init__(self, facts: Iterable[PackFacts], condemned: Container[PackName] = frozenset()) -> None:
        self.packs: Mapping[PackName, PackFacts] = {pack.name: pack for pack in facts}
        self._names = list(self.packs)
        self._condemned = frozenset(number for number, name in enumerate(self._names) if name in condemned)
        packs = list(self.packs.values())
        keys = _as_keys(b"".join(pack.prefixes for pack in packs))
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        self._keys = _SortedKeys(keys[order])
        numbers = np.repeat(np.arange(len(packs), dtype=np.uint32), [pack.entries for pack in packs])
        empty = [np.empty(0, np.uint32)]
        self._numbers = _view(numbers[order])
        self._offsets = _view(np.concatenate([pack.offsets() for pack in packs] or empty)[order])
        self._lengths = _view(np.concatenate([pack.lengths for pack in packs] or empty)[order])
        self._claims = _Claims()

    @property
    def chunks(self) -> int:
        """How many facts are about chunks of content, not maps."""
        return sum(pack.entries for pack in self.packs.values() if pack.kind is PackKind.CHUNKS)

    @property
    def distinct(self) -> int:
        """How many chunks and maps are in some pack, each counted once."""
        return self._keys.distinct()

    def find(self, prefix: bytes) -> Location | None:
        """Where the chunk or map of this 16-byte prefix can be read; None when no pack holds it."""
        at = self._keys.find(prefix)
        return None if at is None else self._location(at)

    def find_all(self, prefix: bytes) -> list[Location]:
        """Every place where the chunk is."""
        at, found = self._keys.find(prefix), []
        while at is not None and self._keys.holds(at, prefix):
            found.append(self._location(at))
            at += 1
        return found

    def _location(self, at: int) -> Location:
        length = self._lengths[at]
        name = self._names[self._numbers[at]]
        return Location(name, self._offsets[at], length & (RAW_BIT - 1), bool(length & RAW_BIT))

    def claim(self, prefix: bytes) -> bool:
        """True for the one caller who must store this chunk; False when it is stored to stay, or someone else has claimed it."""
        return not self._stays(prefix) and self._claims.take(prefix)

    def _stays(self, prefix: bytes) -> bool:
        at = self._keys.find(prefix)
        if at is None or not self._condemned:
            return at is not None
        while self._keys.holds(at, prefix):
            if self._numbers[at] not in self._condemned:
                return True
            at += 1
        return False

    def reclaim(self, prefix: bytes) -> bool:
        """True for the one caller who must store this chunk again, although some pack should hold it."""
        return self._claims.take(prefix)


class _Claims:
    """A set of prefixes that only grows: the newest in a Python set, the others in sorted runs of doubling sizes."""

    def __init__(self) -> None:
        self._recent: set[bytes] = set()
        self._runs: list[_SortedKeys] = []
        self._lock = threading.Lock()

    def take(self, prefix: bytes) -> bool:
        """Add the prefix; False when it is there already."""
        with self._lock:
            if prefix in self._recent or any(run.find(prefix) is not None for run in self._runs):
                return False
            self._recent.add(prefix)
            if len(self._recent) == _RECENT_LIMIT:
                self._fold()
            return True

    def _fold(self) -> None:
        keys = _as_keys(b"".join(self._recent))
        self._recent = set()
        while self._runs and len(self._runs[-1]) <= len(keys):
            keys = np.concatenate([self._runs.pop().keys(), keys])
        self._runs.append(_SortedKeys(keys[np.lexsort((keys[:, 1], keys[:, 0]))]))


Keys = npt.NDArray[np.uint64]  # shape (entries, 2): the halves of each prefix as numbers, the first byte the highest


def _as_keys(prefixes: bytes) -> Keys:
    return np.frombuffer(prefixes, dtype=">u8").reshape(-1, 2).astype(np.uint64)


class _SortedKeys:
    """Sorted prefixes, to be searched one at a time.

    Memoryviews of two columns: indexing and bisecting those from Python is several times faster than numpy scalars.
    """

    def __init__(self, keys: Keys) -> None:
        self._high, self._low = _view(keys[:, 0]), _view(keys[:, 1])

    def __len__(self) -> int:
        return len(self._high)

    def keys(self) -> Keys:
        return np.stack([np.asarray(self._high), np.asarray(self._low)], axis=1)

    def distinct(self) -> int:
        high, low = np.asarray(self._high), np.asarray(self._low)
        return len(high) and 1 + int(np.count_nonzero((high[1:] != high[:-1]) | (low[1:] != low[:-1])))

    def find(self, prefix: bytes) -> int | None:
        """The first place of the prefix; None when it is nowhere."""
        assert len(prefix) == REFERENCE
        high, low = int.from_bytes(prefix[:8], "big"), int.from_bytes(prefix[8:], "big")
        at = bisect_left(self._high, high)
        while at < len(self._high) and self._high[at] == high:
            if self._low[at] == low:
                return at
            at += 1
        return None

    def holds(self, at: int, prefix: bytes) -> bool:
        """Does the prefix stand at this place?"""
        high, low = int.from_bytes(prefix[:8], "big"), int.from_bytes(prefix[8:], "big")
        return at < len(self._high) and (self._high[at], self._low[at]) == (high, low)


def _view(array: npt.NDArray[np.uint64] | npt.NDArray[np.uint32]) -> memoryview:
    return memoryview(np.ascontiguousarray(array))  # type: ignore[arg-type] # numpy arrays are buffers
