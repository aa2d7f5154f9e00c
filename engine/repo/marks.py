"""Marks: how many live parents name each chunk and map (rok-repository(5), COLLECTION).

A version names the tops of its members, a top its pages, a page its regions, a region its chunks. A thing is *live* while
something live names it. The marks are counts by reference, so that when versions come and go only those maps are read that
come to life or die by it: the cost of keeping them up to date follows the change, not what is stored.

Marks are a cache. They are kept in a blob with a checksum; lost or damaged they are made anew, from all maps.
Memory: 20 bytes a reference, and as much again while they change.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from engine.errors import Damaged
from engine.repo.map import REFERENCE, references

# shape (references, 2): the halves of each as numbers, the first byte the highest. In Fortran's order where they are searched.
Keys = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.uint32]
Sums = npt.NDArray[np.int64]
ReadMaps = Callable[[Sequence[bytes]], Iterable[bytes]]  # the encoded maps of these references, in order

_MAGIC: Final = b"ROKMARK\x01"
_DIGEST: Final = 32
_MAP_LEVELS: Final = 3  # tops, pages, regions; below them are chunks
_RUN: Final = 1 << 20
_BATCH: Final = 256


def as_keys(joined: bytes) -> Keys:
    """Joined references as numbers."""
    return np.frombuffer(joined, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def as_references(keys: Keys) -> list[bytes]:
    """The opposite of `as_keys`, one by one."""
    joined = keys.astype(">u8").tobytes()
    return [joined[at : at + REFERENCE] for at in range(0, len(joined), REFERENCE)]


class Stale(Damaged):
    """The marks cannot be brought up to date: they are to be made anew."""


class Marks:
    """The marks of a set of versions. One thread at a time."""

    def __init__(self) -> None:
        self.versions: dict[str, tuple[bytes, ...]] = {}  # id -> the roots of its members
        self.updates = 0  # since they were made from nothing
        self._keys: Keys = np.empty((0, 2), np.uint64, order="F")
        self._counts: Counts = np.empty(0, np.uint32)

    def __len__(self) -> int:
        """How many chunks and maps are live."""
        return len(self._keys)

    def update(self, versions: Mapping[str, tuple[bytes, ...]], read_maps: ReadMaps) -> None:
        """Make these the marks of exactly these versions (id -> roots; sixteen zero bytes name nothing).

        Raises Stale when a map that died cannot be read any more; what `read_maps` raises for one that lives, and Damaged for
        one that is none. After an error the marks are of no use.
        """
        come = [root for version, roots in versions.items() if version not in self.versions for root in roots]
        gone = [root for version, roots in self.versions.items() if version not in versions for root in roots]
        changes = Tally()
        changes.add(_without_zeros(come), 1)
        changes.add(_without_zeros(gone), -1)
        for _ in range(_MAP_LEVELS):
            born, dead = self._apply(changes)
            changes = Tally()
            self._add_children(changes, born, 1, read_maps)
            try:
                self._add_children(changes, dead, -1, read_maps)
            except Damaged as error:
                raise Stale(f"a map that no version needs any more is gone: {error.message}") from error
        self._apply(changes)
        self.versions = dict(versions)
        self.updates += 1

    def _add_children(self, changes: "Tally", parents: Keys, sign: int, read_maps: ReadMaps) -> None:
        for start in range(0, len(parents), _BATCH):
            batch = as_references(parents[start : start + _BATCH])
            for encoded in read_maps(batch):
                changes.add(references(encoded), sign)

    def _apply(self, changes: "Tally") -> tuple[Keys, Keys]:
        """Change the counts; give the references that came to life, and those that died."""
        keys, sums = changes.total()
        places, found = search(self._keys, keys)
        before = np.zeros(len(keys), np.int64)
        before[found] = self._counts[places[found]]
        after = before + sums
        if (after < 0).any():
            raise Stale("the marks do not fit the versions that they are of")
        self._counts[places[found]] = after[found]
        born, dead = keys[(before == 0) & (after > 0)], keys[(before > 0) & (after == 0)]
        if len(dead):
            alive = self._counts > 0
            self._keys, self._counts = np.asfortranarray(self._keys[alive]), self._counts[alive]
        if len(born):
            places, _ = search(self._keys, born)
            self._keys = np.asfortranarray(np.insert(self._keys, places, born, axis=0))
            self._counts = np.insert(self._counts, places, after[(before == 0) & (after > 0)].astype(np.uint32))
        return born, dead

    def find(self, keys: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """For each reference its place among the live ones, and whether it is there at all."""
        return search(self._keys, keys)

    def to_blob(self, repository_id: str) -> bytes:
        """The marks of that repository as a blob for a cache."""
        versions = {version: [root.hex() for root in roots] for version, roots in self.versions.items()}
        header = json.dumps({"repository": repository_id, "updates": self.updates, "versions": versions}).encode()
        body = b"".join(
            (
                len(header).to_bytes(8, "little"),
                header,
                np.ascontiguousarray(self._keys, dtype="<u8").tobytes(),
                np.ascontiguousarray(self._counts, dtype="<u4").tobytes(),
            )
        )
        return _MAGIC + blake3(body).digest() + body

    @classmethod
    def from_blob(cls, blob: bytes, repository_id: str) -> "Marks":
        """The marks in a blob. Raises Damaged when it is damaged, or of another repository."""
        view, start = memoryview(blob), len(_MAGIC) + _DIGEST
        if bytes(view[: len(_MAGIC)]) != _MAGIC or blake3(view[start:]).digest() != view[len(_MAGIC) : start]:
            raise Damaged("the marks are damaged")
        header_end = start + 8 + int.from_bytes(view[start : start + 8], "little")
        header = json.loads(bytes(view[start + 8 : header_end]))
        if header["repository"] != repository_id:
            raise Damaged("the marks are of another repository")
        marks, body = cls(), view[header_end:]
        entries = len(body) // (REFERENCE + 4)
        marks._keys = np.frombuffer(body[: entries * REFERENCE], "<u8").reshape(-1, 2).astype(np.uint64, order="F")
        marks._counts = np.frombuffer(body[entries * REFERENCE :], "<u4").astype(np.uint32)
        marks.versions = {
            version: tuple(bytes.fromhex(root) for root in roots) for version, roots in header["versions"].items()
        }
        marks.updates = header["updates"]
        return marks


class Tally:
    """Adds up changes of counts, by reference: in sorted runs of doubling sizes, so that memory follows what is distinct."""

    def __init__(self) -> None:
        self._waiting: list[tuple[bytes, int]] = []
        self._waiting_length = 0
        self._runs: list[tuple[Keys, Sums]] = []

    def add(self, joined: bytes, sign: int) -> None:
        """Each of the joined references counts `sign` more."""
        self._waiting.append((joined, sign))
        self._waiting_length += len(joined)
        if self._waiting_length >= _RUN * REFERENCE:
            self._fold()

    def total(self) -> tuple[Keys, Sums]:
        """The references in order, and how much each changed; those left out that did not."""
        self._fold()
        while len(self._runs) > 1:
            self._join()
        keys, sums = self._runs.pop()
        changed = sums != 0
        return keys[changed], sums[changed]

    def _fold(self) -> None:
        keys = as_keys(b"".join(joined for joined, _ in self._waiting))
        lengths = [len(joined) // REFERENCE for joined, _ in self._waiting]
        sums = np.repeat(np.array([sign for _, sign in self._waiting], np.int64), lengths)
        self._waiting, self._waiting_length = [], 0
        self._runs.append(_summed(keys, sums))
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            self._join()

    def _join(self) -> None:
        (keys, sums), (more_keys, more_sums) = self._runs.pop(), self._runs.pop()
        self._runs.append(_summed(np.concatenate([keys, more_keys]), np.concatenate([sums, more_sums])))


def _summed(keys: Keys, sums: Sums) -> tuple[Keys, Sums]:
    """The distinct keys in order, each with the sum of what it had."""
    if not len(keys):
        return keys, sums
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    keys, sums = keys[order], sums[order]
    first = np.ones(len(keys), np.bool_)
    first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return keys[first], np.add.reduceat(sums, np.flatnonzero(first))


def search(keys: Keys, wanted: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Where each wanted key is in the sorted distinct keys, or would be inserted; and whether it is there."""
    places = np.searchsorted(keys[:, 0], wanted[:, 0]).astype(np.int64)
    while len(keys):  # among keys of one upper half, of which there is hardly ever more than one
        inside = np.minimum(places, len(keys) - 1)
        before = (places < len(keys)) & (keys[inside, 0] == wanted[:, 0]) & (keys[inside, 1] < wanted[:, 1])
        if not before.any():
            return places, (places < len(keys)) & (keys[inside] == wanted).all(axis=1)
        places[before] += 1
    return places, np.zeros(len(wanted), np.bool_)


def _without_zeros(roots: Iterable[bytes]) -> bytes:
    return b"".join(root for root in roots if any(root))
