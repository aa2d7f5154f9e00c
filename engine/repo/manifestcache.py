"""The manifests that a node has read, found by object without opening the others (see `cache`).

A layer holds manifests as the store does, sealed, so that what is taken from it is verified as what comes from the store is.
No names are in it: a number, drawn from the name by a key of the repository, tells which manifests may be of an object or a
bucket. After a header come these columns:

    keys      S48 x manifests     version and size, as the store lists them
    buckets   u64 x manifests     the number of the bucket's name
    objects   u64 x manifests     the number of the object's name
    ends      u64 x manifests     where the sealed manifest ends in what follows
    sealed    the manifests, one after the other
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xxhash
from blake3 import blake3

from engine.errors import Damaged
from engine.repo.cache import CacheFolder, Fill, Layers, Mask, Part
from engine.repo.manifest import Manifest, open_manifest
from engine.repo.naming import ObjectName
from engine.repo.seal import Keyring
from engine.store.base import Blob
from engine.values import dataclass

_MAGIC: Final = b"ROKMANI\x01"
_HEAD: Final = struct.Struct("=8s16sQQ")  # magic, repository, manifests, checksum of this and of all that follows
_ROW: Final = np.dtype([("key", "S48"), ("bucket", "u8"), ("object", "u8"), ("end", "u8")])
_ID_AT: Final = len("versions/")
_ID: Final = 32  # characters

Rows = npt.NDArray[np.void]
Read = Callable[[Sequence[str]], Iterable[tuple[str, bytes | None]]]


class ManifestCache:
    """Manifests of a repository. One object serves many threads."""

    def __init__(self, folder: CacheFolder, repository: str, keyring: Keyring) -> None:
        self._repository, self._keyring = repository, keyring
        self._key = keyring.subkey("cached name")
        self._layers: Layers[_Manifests] = Layers(folder, "manifests", self._load, self._fold)

    def manifests(
        self, listed: Sequence[Blob], bucket: str | None, name: str | None, read: Read
    ) -> tuple[list[Manifest], dict[str, Damaged]]:
        """Of the listed versions, those of an object, a bucket or all, in no order; and those that cannot be read, by id.

        `read` gives the sealed manifests of versions not known yet; None where there is none any more.
        """
        damaged: dict[str, Damaged] = {}
        keys = _keys_of(listed)
        parts = self._layers.parts(keys, lambda missing: self._fills(missing, read, damaged))
        found = []
        for part in parts:
            for version, sealed in part.layer.select(part.chosen, *self._numbers(bucket, name)):
                manifest = open_manifest(version, sealed, self._keyring)
                if bucket in (None, manifest.object.bucket) and name in (None, manifest.object.name):
                    found.append(manifest)
        return found, damaged

    def forget(self, listed: Iterable[Blob]) -> None:
        """Have versions read anew: they were found to be damaged."""
        self._layers.forget(_keys_of(listed))

    def _numbers(self, bucket: str | None, name: str | None) -> tuple[int | None, int | None]:
        of_bucket = None if bucket is None else self._number(bucket)
        return of_bucket, None if bucket is None or name is None else self._number(str(ObjectName(bucket, name)))

    def _number(self, name: str) -> int:
        return int.from_bytes(blake3(name.encode(), key=self._key).digest(length=8), "big")

    def _fills(self, keys: Sequence[str], read: Read, damaged: dict[str, Damaged]) -> Iterator[Fill]:
        rows, pieces, end = [], [], 0
        for version, sealed in read([key.partition(" ")[0] for key in keys]):
            if sealed is None:
                continue
            try:
                if len(version) != _ID:
                    raise Damaged(f"versions/{version} is named as no version is")
                name = open_manifest(version, sealed, self._keyring).object
            except Damaged as error:
                damaged[version] = error
                continue
            end += len(sealed)
            rows.append((f"{version} {len(sealed)}".encode(), self._number(name.bucket), self._number(str(name)), end))
            pieces.append(sealed)
        if rows:
            yield lambda file: _write(file, self._repository, np.array(rows, _ROW), pieces)

    def _load(self, file: int) -> "_Manifests":
        return _open(file, self._repository)

    def _fold(self, file: int, parts: Sequence[Part["_Manifests"]]) -> None:
        rows = np.concatenate([part.layer.rows[part.chosen] for part in parts])
        pieces = [piece for part in parts for piece in part.layer.sealed(part.chosen)]
        rows["end"] = np.cumsum([len(piece) for piece in pieces])
        _write(file, self._repository, rows, pieces)


@dataclass(frozen=True, slots=True)
class _Manifests:
    """A layer."""

    rows: Rows
    body: memoryview
    names: list[str]

    def weigh(self, chosen: Mask) -> int:
        return int(np.count_nonzero(chosen))

    def select(self, chosen: Mask, bucket: int | None, name: int | None) -> Iterator[tuple[str, memoryview]]:
        """Versions and sealed manifests of those that may be of a bucket and an object."""
        for column, number in (("bucket", bucket), ("object", name)):
            if number is not None:
                chosen = chosen & (self.rows[column] == np.uint64(number))
        keys: list[bytes] = self.rows["key"][chosen].tolist()
        return zip((key.decode().partition(" ")[0] for key in keys), self.sealed(chosen), strict=True)

    def sealed(self, chosen: Mask) -> list[memoryview]:
        """The sealed manifests."""
        ends = self.rows["end"]
        starts = np.concatenate([np.zeros(1, np.uint64), ends[:-1]])
        pairs = zip(starts[chosen].tolist(), ends[chosen].tolist(), strict=True)
        return [self.body[start:end] for start, end in pairs]


def _keys_of(listed: Iterable[Blob]) -> list[str]:
    return [f"{key[_ID_AT:]} {size}" for key, size, _ in listed]  # all versions of the repository, for each command


def _write(file: int, repository: str, rows: Rows, pieces: Sequence[Any]) -> None:
    body = memoryview(b"".join((rows.tobytes(), *pieces)))
    owner = bytes.fromhex(repository)
    total = xxhash.xxh3_64_intdigest(b"".join((_HEAD.pack(_MAGIC, owner, len(rows), 0), body)))
    for offset, rest in ((_HEAD.size, body), (0, memoryview(_HEAD.pack(_MAGIC, owner, len(rows), total)))):
        while rest:
            written = os.pwrite(file, rest, offset)
            offset, rest = offset + written, rest[written:]


def _open(file: int, repository: str) -> _Manifests:
    size = os.fstat(file).st_size
    whole = bytearray(size)
    if size < _HEAD.size or os.preadv(file, [whole], 0) != size:
        raise Damaged("it is cut short")
    magic, owner, count, total = _HEAD.unpack_from(whole)
    if magic != _MAGIC or owner != bytes.fromhex(repository):
        raise Damaged("it holds no manifests of this repository")
    _HEAD.pack_into(whole, 0, magic, owner, count, 0)
    if xxhash.xxh3_64_intdigest(whole) != total:
        raise Damaged("its bytes are not what was written")
    rows = np.frombuffer(whole, _ROW, count, _HEAD.size)
    sealed = memoryview(whole)[_HEAD.size + count * _ROW.itemsize :]
    return _Manifests(rows, sealed, rows["key"].astype("U48").tolist())
