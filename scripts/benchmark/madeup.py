"""Repositories that are made up: of any size, in a fraction of the time and the room that pushing so much would take.

Packs of chunks are empty files of the right size, whose prefixes and lengths are drawn. Segments, maps and manifests are real
and encrypted: an index is loaded from them, checks that read no content and collections go through them, and a push takes
such a version as its base.
"""

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmark.measure import MIB, key_file, rokctl_state

CHUNKS_IN_PACK: Final = 270  # 16 MiB of chunks of 60 KiB, which is half of 120 KiB
PACKS_IN_SEGMENT: Final = 64
CHUNKS_IN_SEGMENT: Final = CHUNKS_IN_PACK * PACKS_IN_SEGMENT
CHUNKS_IN_REGION: Final = 512
PACK_SIZE: Final = 16 * MIB
SAMPLE: Final = 200_000  # prefixes that are kept in a file, to be looked up
BYTES_A_CHUNK: Final = 90  # that a repository takes on the disk, and then its cache

_opened: dict[Path, Any] = {}


def environment(folder: Path) -> dict[str, str]:
    """What makes rokctl use the repository in a folder."""
    return {**rokctl_state(folder), "ROKCTL_REPOSITORY": str(folder / "repository")}


def create_repository(folder: Path) -> None:
    """An empty one, encrypted; its key, by which chunks are cut, is the same each time."""
    from engine.clock import SystemClock
    from engine.repo.keyblob import key_file_secret
    from engine.repo.repository import initialise
    from engine.store.directory import DirectoryStore

    folder.mkdir(exist_ok=True)
    with closing(DirectoryStore(folder / "repository", create=True)) as store:
        initialise(store, key_file_secret(key_file()), clock=SystemClock(), entropy=Random(2026).randbytes)
    for name in ("pack", "index", "versions"):
        (folder / "repository" / name).mkdir()


def opened(folder: Path) -> Any:
    """The repository in a folder, with the node's caches beside it; opened once by a process."""
    from engine.clock import SystemClock
    from engine.repo.keyblob import key_file_secret
    from engine.repo.repository import open_repository
    from engine.store.directory import DirectoryStore

    if folder not in _opened:
        _opened[folder] = open_repository(
            DirectoryStore(folder / "repository"),
            lambda: key_file_secret(key_file()),
            clock=SystemClock(),
            entropy=os.urandom,
            caches=folder / "state" / "cache",
        )
    return _opened[folder]


def reopened(folder: Path) -> Any:
    """The same, with nothing read of it yet; without the time to unlock it."""
    from engine.repo.repository import Repository

    known = opened(folder)
    caches = folder / "state" / "cache" / known.id
    return Repository(known.store, known.descriptor, known.keyring, known.clock, known.entropy, cache=caches)


def make_chunks(folder: Path, chunks: int) -> None:
    """A repository of so many chunks, all of them of one version, `bucket/volume`."""
    create_repository(folder)
    make_volume(folder, chunks, {}, manifest_of(1, "volume"))


def make_volume(folder: Path, chunks: int, known: Mapping[int, bytes], like: Any) -> None:
    """A version that is like a manifest, but has so many chunks, and in its `known` regions these maps, which are there.

    Some of the prefixes are kept in the file `sample`.
    """
    import numpy as np

    maps = _Maps(opened(folder), known)
    share = SAMPLE / max(chunks, SAMPLE)
    with (folder / "sample").open("wb") as sample:
        for number, start in enumerate(range(0, chunks, CHUNKS_IN_SEGMENT)):
            prefixes = add_segment(folder, number, min(CHUNKS_IN_SEGMENT, chunks - start))
            count = len(prefixes) // 16
            for at in np.random.default_rng(number).integers(0, count, int(share * count)).tolist():
                sample.write(prefixes[16 * at : 16 * at + 16])
            maps.add(prefixes)
    root, size = maps.finish()
    member = replace(like.members[0], root=root, size=size, data=size, chunks=chunks)
    commit(folder, replace(like, members=(member,)))


def add_segment(folder: Path, number: int, chunks: int) -> bytes:
    """One more segment, number `number`, and its packs; the prefixes that it states, joined."""
    import numpy as np

    from engine.repo.pack import PackKind, PackName
    from engine.repo.segment import PackFacts

    chosen = np.random.default_rng(number)  # the same each time
    packs, name = [], f"{number:032x}"
    for at, start in enumerate(range(0, chunks, CHUNKS_IN_PACK)):
        entries = min(CHUNKS_IN_PACK, chunks - start)
        lengths = chosen.integers(40_000, 62_000, entries, dtype=np.uint32)
        pack = PackName(name, at)
        packs.append(PackFacts(pack, PackKind.CHUNKS, PACK_SIZE, chosen.bytes(16 * entries), lengths))
        descriptor = os.open(folder / "repository" / pack.key, os.O_WRONLY | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, PACK_SIZE)
        os.close(descriptor)
    _state(opened(folder), name, packs)
    return b"".join(pack.prefixes for pack in packs)


def _state(repository: Any, name: str, packs: Any) -> None:
    from engine.repo.segment import encode_segment

    repository.store.create(f"index/{name}", encode_segment(name, packs, repository.keyring, os.urandom))


class _Maps:
    """Makes the maps of a volume of chunks that come in order."""

    def __init__(self, repository: Any, known: Mapping[int, bytes]) -> None:
        from engine.repo.filler import PackFiller

        self._repository, self._known = repository, known
        self._owner = os.urandom(16).hex()
        self._filler = PackFiller(repository, self._owner)
        self._key = repository.keyring.subkey("map id")
        self._regions: list[bytes] = []
        self._rest = b""

    def add(self, prefixes: bytes) -> None:
        """The next chunks."""
        step = 16 * CHUNKS_IN_REGION
        joined = self._rest + prefixes
        whole = len(joined) // step * step
        for at in range(0, whole, step):
            self._add_region(joined[at : at + step])
        self._rest = joined[whole:]

    def _add_region(self, prefixes: bytes) -> None:
        from engine.repo.map import REGION_BLOCKS, ZEROS, RegionBuilder

        number = len(self._regions)
        if number in self._known:
            self._regions.append(self._known[number])
            return
        builder, blocks = RegionBuilder(), REGION_BLOCKS // CHUNKS_IN_REGION
        for at in range(0, len(prefixes), 16):
            builder.add(blocks, prefixes[at : at + 16])
        if builder.blocks < REGION_BLOCKS:
            builder.add(REGION_BLOCKS - builder.blocks, ZEROS)
        self._regions.append(self._put(builder.encode()))

    def _put(self, encoded: bytes | None) -> bytes:
        from blake3 import blake3

        from engine.repo.pack import ChunkId, PackKind

        if encoded is None:
            return bytes(16)
        chunk = ChunkId(blake3(encoded, key=self._key).digest())
        self._filler.add(PackKind.MAPS, chunk, encoded, raw=True, blocks=0)
        return chunk[:16]

    def finish(self) -> tuple[bytes, int]:
        """The root, and the size of the volume."""
        from engine.repo.map import PAGE_REGIONS, REGION, encode_page, encode_top

        if self._rest:
            self._add_region(self._rest)
        regions = self._regions
        pages = [regions[at : at + PAGE_REGIONS] for at in range(0, len(regions), PAGE_REGIONS)]
        root = self._put(encode_top([self._put(encode_page(page)) for page in pages]))
        self._filler.finish()
        _state(self._repository, self._owner, self._filler.facts)
        return root, len(regions) * REGION


def make_versions(folder: Path, versions: int, objects: int) -> None:
    """A repository with so many versions of so many objects, in turn."""
    create_repository(folder)
    for number in range(versions):
        commit(folder, manifest_of(number, f"object-{number % objects}"))


def manifest_of(number: int, name: str) -> Any:
    """The manifest of a version by its number, of a volume that nothing is stored of."""
    from engine.repo.manifest import Manifest, Member, Origin, Totals
    from engine.repo.naming import ObjectName

    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    version = f"{number:032x}"
    origin = Origin("pool", name, f"snapshot-{number}", "0" * 32, version, version, moment)
    member = Member(name, os.urandom(16), 1 << 30, 512, "ext4", "", "0" * 32, True, 1 << 29, 4096, origin)
    totals = Totals(1 << 30, 1 << 29, 1 << 25, 1 << 24, 4096, 256, 1.0)
    target = ObjectName("bucket", name)
    return Manifest(version, target, moment, moment, "node", "bench", "", {}, None, (member,), totals)


def commit(folder: Path, manifest: Any) -> None:
    """Let a version exist. What is written so fast is not synced."""
    from engine.repo.manifest import seal_manifest

    sealed = seal_manifest(manifest, opened(folder).keyring, os.urandom)
    (folder / "repository" / "versions" / manifest.version).write_bytes(sealed)
