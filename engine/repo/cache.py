"""What a node keeps of a repository that it has read or written: files that may be deleted at any time.

The manual describes them: rok-repository(5), THE CACHE.

Blobs of some kinds never change, so what was read of them once need not be read again. It is kept in *layers*: files that
never change either, each made of many blobs, checksummed, written under another name and renamed. New blobs make a layer of
their own; layers of like size are folded into one, so that each next one is several times larger than those after it.

Nothing here is ever an error: what cannot be read is read from the store again, and what cannot be written is kept in
memory, if it is asked for. Any number of processes may use a folder: one of them writes at a time, and the others keep what
they have mapped.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from engine.errors import Damaged
from engine.heap import trim_heap
from engine.values import dataclass

Mask = npt.NDArray[np.bool_]
Fill = Callable[[int], None]  # writes a layer into an empty file, given its descriptor. Raises OSError.

_GROWTH: Final = 8
_TRIES: Final = 3
_MOST_LEFT: Final = 64
_DRAFT: Final = "draft-"
_PRIVATE: Final = "private-"  # files in memory


class Layer(Protocol):
    """What was read of some blobs."""

    @property
    def names(self) -> Sequence[str]:
        """Which blobs."""
        ...

    def weigh(self, chosen: Mask) -> int:
        """How much there is of the chosen ones of them."""
        ...


L = TypeVar("L", bound=Layer)


@dataclass(frozen=True, slots=True)
class Part(Generic[L]):
    """A layer, and which of its blobs count: they are still there, and no other layer has them."""

    layer: L
    chosen: Mask

    @property
    def weight(self) -> int:
        """How much of it counts."""
        return self.layer.weigh(self.chosen)

    @property
    def is_mostly_dead(self) -> bool:
        """Does less than half of it count?"""
        return 2 * self.weight < self.layer.weigh(np.ones_like(self.chosen))


class Layers(Generic[L]):
    """The layers of one kind of blob. One object serves many threads."""

    def __init__(
        self,
        folder: "CacheFolder",
        kind: str,
        load: Callable[[int], L],
        fold: Callable[[int, Sequence[Part[L]]], None],
    ) -> None:
        """`load` takes a layer from a file and raises Damaged; `fold` writes a file of several."""
        self._folder, self._kind, self._load, self._fold = folder, kind, load, fold
        self._kept: dict[str, L] = {}  # by file; those that are in memory have a name too
        self._in_memory = 0
        self._left = 0  # by `add`
        self._lock = threading.Lock()

    def parts(self, listed: Collection[str], read: Callable[[Sequence[str]], Iterator[Fill]]) -> list[Part[L]]:
        """What is known of the listed blobs. Of those that no layer has, `read` gives new layers."""
        with self._lock:
            self._load_new()
            parts = self._choose(listed)
            if self._missing(listed) or _due(parts):
                with self._folder.writing() as writer:
                    if writer.keeps:
                        self._load_new()  # who wrote last may have done it all meanwhile
                    for fill in read(self._missing(listed)):
                        self._add(writer, fill)
                    if writer.may_fold:
                        self._tidy(writer, listed)
                    parts = self._choose(listed)
                trim_heap()  # a layer is made of much that was read, and what comes next needs the room
            return list(parts.values())

    def add(self, fill: Fill) -> None:
        """Leave a layer of blobs in the folder, if there is one that nobody else writes in now.

        It is loaded when they are asked for. Not so many of them are left that the folder is slow to look at: what a long push or
        copy writes after that is read from the store.
        """
        with self._lock:
            self._left += 1
            if self._left > _MOST_LEFT:
                return
            with self._folder.writing() as writer:
                if not writer.keeps:
                    return
                with suppress(OSError, Damaged, MemoryError):
                    writer.publish(self._kind, fill, self._load)

    def forget(self, blobs: Collection[str]) -> None:
        """Have blobs read anew, when they are next asked for: they were found to be damaged."""
        with self._lock:
            self._load_new()
            known = [file for file, layer in self._kept.items() if not set(blobs).isdisjoint(layer.names)]
            if known:
                with self._folder.writing() as writer:
                    for file in known:
                        self._remove(writer, file)

    def _load_new(self) -> None:
        for _ in range(_TRIES):
            files = self._folder.files(self._kind)
            # A layer that is gone from the folder was folded into another one there, or deleted by a person.
            self._kept = {file: layer for file, layer in self._kept.items() if file in files or _is_private(file)}
            vanished = [file for file in files - self._kept.keys() if not self._load_file(file)]
            if not vanished:
                return

    def _load_file(self, file: str) -> bool:
        """Load one layer, or remove its file if it is none; False when it had gone meanwhile."""
        try:
            with self._folder.opened(file) as descriptor:
                self._kept[file] = self._load(descriptor)
        except FileNotFoundError:
            return False
        except Damaged:
            self._folder.remove(file)
        except OSError:
            return True  # it cannot be read now: do without it
        return True

    def _choose(self, listed: Collection[str]) -> dict[str, Part[L]]:
        left, parts = set(listed), dict[str, Part[L]]()
        for file, layer in sorted(self._kept.items(), key=lambda entry: (-len(entry[1].names), entry[0])):
            parts[file] = Part(layer, np.array([name in left for name in layer.names], dtype=np.bool_))
            left.difference_update(layer.names)
        return parts

    def _missing(self, listed: Collection[str]) -> list[str]:
        known = {name for layer in self._kept.values() for name in layer.names}
        return [name for name in listed if name not in known]

    def _add(self, writer: "Writer", fill: Fill) -> None:
        try:
            self._add_kept(writer, fill)
        except (OSError, Damaged):  # no room, or the disk gives back something else
            self._add_in_memory(fill)

    def _add_kept(self, writer: "Writer", fill: Fill) -> None:
        file, layer = writer.publish(self._kind, fill, self._load)
        self._kept[file] = layer

    def _add_in_memory(self, fill: Fill) -> None:
        descriptor = os.memfd_create(self._kind)
        try:
            fill(descriptor)
            self._in_memory += 1
            self._kept[f"{_PRIVATE}{self._in_memory}"] = self._load(descriptor)
        finally:
            os.close(descriptor)

    def _tidy(self, writer: "Writer", listed: Collection[str]) -> None:
        parts = self._choose(listed)
        due = _due(parts)
        folded = [parts[file] for file in due if parts[file].chosen.any()]
        if folded:
            try:
                if writer.keeps:
                    self._add_kept(writer, lambda file: self._fold(file, folded))
                else:
                    self._add_in_memory(lambda file: self._fold(file, folded))
            except (OSError, Damaged):
                return  # they stay as they are
        for file in due:
            self._remove(writer, file)

    def _remove(self, writer: "Writer", file: str) -> None:
        del self._kept[file]
        writer.remove(file)


def _due(parts: dict[str, Part[L]]) -> list[str]:
    """The files that should become one: from the largest on that is not several times as large as all smaller ones
    together; and what is mostly dead.
    """
    order = sorted(parts, key=lambda file: (-parts[file].weight, file))
    first, total = len(order), 0
    for at in reversed(range(len(order))):
        weight = parts[order[at]].weight + 1
        if at + 1 < len(order) and weight < _GROWTH * total:
            first = at
        total += weight
    return [file for at, file in enumerate(order) if at >= first or parts[file].is_mostly_dead]


class CacheFolder:
    """The folder of one repository, or none: then everything is kept in memory, as it is when the folder cannot be used."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def files(self, kind: str) -> set[str]:
        """The names of the layers of a kind."""
        if self._path is None:
            return set()
        try:
            _check(self._path)
            return {file.name for file in self._path.iterdir() if file.name.startswith(f"{kind}-")}
        except OSError:
            return set()

    @contextmanager
    def opened(self, file: str) -> Iterator[int]:
        """A descriptor to read a file. Raises OSError."""
        assert self._path is not None
        descriptor = os.open(self._path / file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def remove(self, file: str) -> None:
        """Delete a file."""
        if self._path is not None:
            with suppress(OSError):
                (self._path / file).unlink()

    @contextmanager
    def writing(self) -> "Iterator[Writer]":
        """Be the one who writes here; while someone else is, or where nobody can be, what is written is kept in memory."""
        lock = None if self._path is None else _acquire(self._path)
        try:
            yield Writer(self._path if lock is not None else None, may_fold=self._path is None or lock is not None)
        finally:
            if lock is not None:
                os.close(lock)


class Writer:
    """Writes files in a folder, if it is given one."""

    def __init__(self, path: Path | None, *, may_fold: bool) -> None:
        self._path = path
        self.keeps = path is not None
        self.may_fold = may_fold

    def publish(self, kind: str, fill: Fill, load: Callable[[int], L]) -> tuple[str, L]:
        """Write a file of a kind, load it, and give it its name. Raises OSError, and what `load` does.

        Nothing is synced: after a power cut the checksums tell.
        """
        if self._path is None:
            raise FileNotFoundError("there is no folder to write in")
        token = os.urandom(16).hex()
        draft, name = self._path / f"{_DRAFT}{token}", f"{kind}-{token}"
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fill(descriptor)
            layer = load(descriptor)
            draft.rename(self._path / name)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise
        finally:
            os.close(descriptor)
        return name, layer

    def remove(self, file: str) -> None:
        """Delete a file, if it is ours to delete."""
        if self._path is not None and not _is_private(file):
            with suppress(OSError):
                (self._path / file).unlink()


def _check(path: Path) -> None:
    """What another user could have written must not be believed."""
    status = path.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError(f"{path} is not ours alone")


def _acquire(path: Path) -> int | None:
    """The folder's lock, as a descriptor to be closed; None when it cannot be had."""
    try:
        for folder in (path.parent, path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check(path)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for draft in path.glob(f"{_DRAFT}*"):
            draft.unlink()  # its writer has died: no one else writes now
    except OSError:
        os.close(lock)
        return None
    return lock


def _is_private(file: str) -> bool:
    return file.startswith(_PRIVATE)
