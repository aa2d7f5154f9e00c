"""The index: where each chunk is, over all the packs that may be relied on.

Held as sorted arrays, 28 bytes an entry; what a session adds stands beside them in a dictionary. One object serves many threads.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.repo.map import REFERENCE
from engine.repo.pack import RAW_BIT, PackKind, PackName
from engine.repo.segment import PackFacts

_HIGH: Final = np.dtype(">u8")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a chunk's record is. `length` is the sealed length in bytes."""

    pack: PackName
    offset: int
    length: int
    raw: bool


class Index:
    """The facts of the given packs. A chunk that stands in several is found in one of them.

    `packs` are those that may be relied on; facts about others must not be passed.
    """

    def __init__(self, facts: Iterable[PackFacts]) -> None:
        unique = {pack.name: pack for pack in facts}
        self.packs: Mapping[PackName, PackFacts] = unique
        self._names = list(unique)
        packs = list(unique.values())
        entries = sum(pack.entries for pack in packs)
        keys = np.frombuffer(b"".join(pack.prefixes for pack in packs), dtype=_HIGH).reshape(entries, 2)
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        high, low = keys[order, 0].astype(np.uint64), keys[order, 1].astype(np.uint64)
        numbers = np.repeat(np.arange(len(packs), dtype=np.uint32), [pack.entries for pack in packs])[order]
        empty = [np.empty(0, np.uint32)]
        offsets = np.concatenate([pack.offsets() for pack in packs] or empty)[order]
        lengths = np.concatenate([pack.lengths for pack in packs] or empty)[order]
        # memoryviews: indexing and bisecting them from Python is several times faster than numpy scalars
        self._high, self._low = _view(high), _view(low)
        self._numbers, self._offsets, self._lengths = _view(numbers), _view(offsets), _view(lengths)
        self._added: dict[bytes, Location] = {}
        self._claimed: set[bytes] = set()
        self._lock = threading.Lock()

    @property
    def entries(self) -> int:
        """How many facts it was made from."""
        return len(self._high)

    @property
    def chunks(self) -> int:
        """How many facts are about chunks of content, not maps."""
        return sum(pack.entries for pack in self.packs.values() if pack.kind is PackKind.CHUNKS)

    def find(self, prefix: bytes) -> Location | None:
        """Where the chunk or map of this 16-byte prefix is; None when no pack is known to hold it."""
        at = self._search(prefix)
        if at is None:
            return self._added.get(prefix)
        length = self._lengths[at]
        name = self._names[self._numbers[at]]
        return Location(name, self._offsets[at], length & (RAW_BIT - 1), bool(length & RAW_BIT))

    def find_all(self, prefix: bytes) -> list[Location]:
        """Every place where the chunk is."""
        at = self._search(prefix)
        found = [self._added[prefix]] if prefix in self._added else []
        high, low = int.from_bytes(prefix[:8], "big"), int.from_bytes(prefix[8:], "big")
        while at is not None and at < len(self._high) and (self._high[at], self._low[at]) == (high, low):
            length = self._lengths[at]
            name = self._names[self._numbers[at]]
            found.append(Location(name, self._offsets[at], length & (RAW_BIT - 1), bool(length & RAW_BIT)))
            at += 1
        return found

    def _search(self, prefix: bytes) -> int | None:
        assert len(prefix) == REFERENCE
        high, low = int.from_bytes(prefix[:8], "big"), int.from_bytes(prefix[8:], "big")
        at = bisect_left(self._high, high)
        while at < len(self._high) and self._high[at] == high:
            if self._low[at] == low:
                return at
            at += 1
        return None

    def claim(self, prefix: bytes) -> bool:
        """True for the one caller who must store this chunk; False when it is stored, or someone else has claimed it."""
        if self._search(prefix) is not None:
            return False
        with self._lock:
            if prefix in self._claimed:
                return False
            self._claimed.add(prefix)
            return True

    def add(self, prefix: bytes, location: Location) -> None:
        """A claimed chunk has been uploaded."""
        with self._lock:
            self._added[prefix] = location


def _view(array: npt.NDArray[np.uint64] | npt.NDArray[np.uint32]) -> memoryview:
    return memoryview(np.ascontiguousarray(array))  # type: ignore[arg-type] # numpy arrays are buffers
