"""Marks: how many live parents name each chunk and map (rok-repository(5), COLLECTION).

A version names the tops of its members, a top its pages, a page its regions, a region its chunks. A thing is *live* while
something live names it. The marks are counts by reference, so that when versions come and go only those maps are read that
come to life or die by it: the cost of keeping them up to date follows the change, not what is stored.

Marks are a cache. They are kept with checksums; lost or damaged they are made anew, from all maps.
Memory: 20 bytes a reference. They are changed, read and kept piece by piece and where they stand, because a copy of one
column is as large as a collection's other needs together.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from engine.errors import Damaged
from engine.repo.document import Fields, canonical, parse_object
from engine.repo.keys import all_halves
from engine.repo.map import REFERENCE, references
from engine.store.base import Store
from engine.units import MIB
from engine.values import dataclass

Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.uint32]
Sums = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Column = TypeVar("Column", Words, Counts)
ReadMaps = Callable[[Sequence[bytes]], Iterable[bytes]]  # the encoded maps of these references, in any order

_FOLDER: Final = "marks"
_DIGEST: Final = 32
_MAP_LEVELS: Final = 3  # tops, pages, regions; below them are chunks
_RUN: Final = 1 << 18
_PIECE: Final = 1 << 16  # marks that are moved at once
_READ: Final = 4 * MIB


@dataclass(frozen=True, slots=True)
class Keys:
    """References as numbers: the upper and the lower half of each, the first byte the highest."""

    high: Words
    low: Words

    @classmethod
    def of(cls, joined: bytes) -> "Keys":
        """Those of joined references."""
        return cls(*all_halves(joined))

    def __len__(self) -> int:
        return len(self.high)

    def __getitem__(self, at: "Mask | Places | slice") -> "Keys":
        return Keys(self.high[at], self.low[at])

    def references(self) -> list[bytes]:
        """The references, one by one."""
        joined = np.stack([self.high, self.low], axis=1).astype(">u8").tobytes()
        return [joined[at : at + REFERENCE] for at in range(0, len(joined), REFERENCE)]

    def search(self, wanted: "Keys") -> tuple[Places, Mask]:
        """Of these, which are sorted and distinct: where each wanted key is or would be inserted, and whether it is there."""
        places = np.searchsorted(self.high, wanted.high).astype(np.int64)
        while len(self):  # among keys of one upper half, of which there is hardly ever more than one
            inside = np.minimum(places, len(self) - 1)
            same = (places < len(self)) & (self.high[inside] == wanted.high)
            before = same & (self.low[inside] < wanted.low)
            if not before.any():
                return places, same & (self.low[inside] == wanted.low)
            places[before] += 1
        return places, np.zeros(len(wanted), np.bool_)


class Stale(Damaged):
    """The marks cannot be brought up to date: they are to be made anew."""


class Marks:
    """The marks of a set of versions. One thread at a time; any number may `find` while none does anything else."""

    def __init__(self) -> None:
        self.versions: dict[str, tuple[bytes, ...]] = {}  # id -> the roots of its members
        self.updates = 0  # since they were made from nothing
        self._keys = Keys(np.empty(0, np.uint64), np.empty(0, np.uint64))
        self._counts: Counts = np.empty(0, np.uint32)

    def __len__(self) -> int:
        """How many chunks and maps are live."""
        return int(np.count_nonzero(self._counts))

    @property
    def places(self) -> int:
        """Places, as `find` gives them, are below this."""
        return len(self._keys)

    def find(self, keys: Keys) -> tuple[Places, Mask]:
        """For each reference its place, and whether it is live; the place of one that is not means nothing."""
        places, found = self._keys.search(keys)
        found[found] = self._counts[places[found]] > 0
        return places, found

    def update(self, versions: Mapping[str, tuple[bytes, ...]], read_maps: ReadMaps) -> None:
        """Make these the marks of exactly these versions (id -> roots; sixteen zero bytes name nothing).

        Raises Stale when a map that died cannot be read any more; what `read_maps` raises for one that lives, and Damaged for
        one that is none. After an error the marks are of no use.
        """
        come = [root for version, roots in versions.items() if version not in self.versions for root in roots]
        gone = [root for version, roots in self.versions.items() if version not in versions for root in roots]
        changes = _Changes()
        changes.add(_without_zeros(come), 1)
        changes.add(_without_zeros(gone), -1)
        for level in range(_MAP_LEVELS):
            born, dead = self._apply(changes)
            changes = _Changes()
            for parents, sign in ((born, 1), (dead, -1)):
                for named in _children(parents, read_maps, dying=sign < 0):
                    changes.add(named, sign)
                    # Chunks name nothing, so theirs need not be added up first: memory would follow all of them.
                    if level == _MAP_LEVELS - 1 and changes.length >= _RUN:
                        self._apply(changes)
                        changes = _Changes()
        self._apply(changes)
        self.versions = dict(versions)
        self.updates += 1

    def _apply(self, changes: "_Changes") -> tuple[Keys, Keys]:
        """Change the counts; give the references that came to life, and those that died."""
        keys, sums = changes.total()
        places, found = self._keys.search(keys)
        before = np.zeros(len(keys), np.int64)
        before[found] = self._counts[places[found]]
        after = before + sums
        if (after < 0).any():
            raise Stale("the marks do not fit the versions that they are of")
        self._counts[places[found]] = after[found]  # the dead keep their places, with a count of nothing
        if not found.all():
            new = ~found
            at = places[new]
            _insert(self._keys.high, at, keys.high[new])
            _insert(self._keys.low, at, keys.low[new])
            _insert(self._counts, at, after[new].astype(np.uint32))
        return keys[(before == 0) & (after > 0)], keys[(before > 0) & (after == 0)]

    def save(self, cache: Store, repository_id: str) -> None:
        """Keep the marks of that repository in a cache. What `find` gave before means nothing any more."""
        self._drop_dead()
        header = {
            "repository": repository_id,
            "updates": self.updates,
            "versions": {version: [root.hex() for root in roots] for version, roots in self.versions.items()},
            "columns": {
                "high": _write(cache, "high", self._keys.high),
                "low": _write(cache, "low", self._keys.low),
                "counts": _write(cache, "counts", self._counts),
            },
        }
        body = canonical(header)
        cache.put(f"{_FOLDER}/header", blake3(body).digest() + body)

    def _drop_dead(self) -> None:
        columns, end = (self._keys.high, self._keys.low, self._counts), 0
        for start in range(0, len(self._counts), _PIECE):
            alive = self._counts[start : start + _PIECE] > 0
            before, end = end, end + int(np.count_nonzero(alive))
            for column in columns:
                column[before:end] = column[start : start + _PIECE][alive]
        for column in columns:
            _resize(column, end)

    @classmethod
    def load(cls, cache: Store, repository_id: str) -> "Marks":
        """The marks in a cache. Raises Damaged when they are damaged, or of another repository; NoSuchBlob."""
        what, blob = "the header of the marks", cache.get(f"{_FOLDER}/header")
        if blake3(blob[_DIGEST:]).digest() != blob[:_DIGEST]:
            raise Damaged(f"{what} is damaged")
        header = Fields(parse_object(blob[_DIGEST:], what), what)
        digests = header.take("columns", dict)
        if header.take("repository", str) != repository_id:
            raise Damaged("the marks are of another repository")
        marks = cls()
        marks._keys = Keys(
            _read(cache, "high", np.dtype(np.uint64), digests), _read(cache, "low", np.dtype(np.uint64), digests)
        )
        marks._counts = _read(cache, "counts", np.dtype(np.uint32), digests)
        if not len(marks._keys.high) == len(marks._keys.low) == len(marks._counts):
            raise Damaged("the columns of the marks are not of one length")
        marks.versions = {
            version: tuple(bytes.fromhex(root) for root in roots)
            for version, roots in header.take("versions", dict).items()
        }
        marks.updates = header.count("updates")
        return marks


def _insert(column: Column, places: Places, new: Column) -> None:
    """Insert numbers before these places, which ascend: from the end on, so that what is moved has room already."""
    length = len(column)
    _resize(column, length + len(new))
    last = len(new)
    for start in reversed(range(0, length or 1, _PIECE)):
        end = min(start + _PIECE, length)
        first = int(np.searchsorted(places, start)) if start else 0
        column[start + first : end + last] = np.insert(column[start:end], places[first:last] - start, new[first:last])
        if not first:
            return  # nothing before moves
        last = first


def _resize(column: Words | Counts, length: int) -> None:
    """Make it longer or shorter without a copy: the kernel moves its pages. Nothing may look into it meanwhile."""
    column.resize(length, refcheck=False)  # by counting references numpy cannot tell a view from a name


def _write(cache: Store, name: str, column: Words | Counts) -> str:
    """Keep a column, low bytes first; the digest of what is kept."""
    body = _bytes_of(np.ascontiguousarray(column, column.dtype.newbyteorder("<")))
    cache.put(f"{_FOLDER}/{name}", body)
    return blake3(body).hexdigest()


def _read(cache: Store, name: str, kind: np.dtype[Any], digests: Mapping[str, object]) -> npt.NDArray[Any]:
    """A column that was kept. Raises Damaged, NoSuchBlob."""
    key, size = f"{_FOLDER}/{name}", cache.stat(f"{_FOLDER}/{name}").size
    column = np.empty(size // kind.itemsize, kind.newbyteorder("<"))
    room, digest = _bytes_of(column), blake3()
    for start in range(0, len(room), _READ):
        part = room[start : start + _READ]
        piece = cache.get_range(key, start, len(part))
        if len(piece) != len(part):
            raise Damaged(f"the {name} of the marks became shorter while they were read")
        digest.update(piece)
        part[:] = piece
    if size % kind.itemsize or digest.hexdigest() != digests.get(name):
        raise Damaged(f"the {name} of the marks are damaged, or another run has just written them")
    return column.astype(kind, copy=False)


def _bytes_of(column: npt.NDArray[Any]) -> memoryview:
    return memoryview(column).cast("B")  # type: ignore[arg-type] # numpy arrays are buffers


class _Changes:
    """Changes of counts, by reference."""

    def __init__(self) -> None:
        self._joined: list[bytes] = []
        self._signs: list[int] = []
        self.length = 0

    def add(self, joined: bytes, sign: int) -> None:
        """Each of the joined references counts `sign` more."""
        self._joined.append(joined)
        self._signs.append(sign)
        self.length += len(joined) // REFERENCE

    def total(self) -> tuple[Keys, Sums]:
        """The references in order, each with what it changed by."""
        keys = Keys.of(b"".join(self._joined))
        signs = np.repeat(np.array(self._signs, np.int64), [len(joined) // REFERENCE for joined in self._joined])
        if not len(keys):
            return keys, signs
        order = np.lexsort((keys.low, keys.high))
        keys, signs = keys[order], signs[order]
        first = np.ones(len(keys), np.bool_)
        first[1:] = (keys.high[1:] != keys.high[:-1]) | (keys.low[1:] != keys.low[:-1])
        return keys[first], np.add.reduceat(signs, np.flatnonzero(first))


def _children(parents: Keys, read_maps: ReadMaps, *, dying: bool) -> Iterator[bytes]:
    """What each of these maps names, joined, in any order."""

    def encoded() -> Iterator[bytes]:
        try:
            yield from read_maps(parents.references())
        except Damaged as error:
            if not dying:
                raise
            raise Stale(f"a map that no version needs any more is gone: {error.message}") from error

    return map(references, encoded())


def _without_zeros(roots: Iterable[bytes]) -> bytes:
    return b"".join(root for root in roots if any(root))
