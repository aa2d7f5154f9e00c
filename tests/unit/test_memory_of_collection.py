"""A collection keeps little of the node's index in memory: the marks, which are as large, need the room."""

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from engine.progress import Silent
from engine.repo import collect as collect_module
from engine.repo import keys as keys_module
from engine.repo.collect import CollectOptions, collect
from engine.repo.marks import Marks
from engine.repo.repository import Repository

ROOT = Path(__file__).resolve().parents[2]
CHUNKS = 300_000
TABLE = 24 * CHUNKS  # bytes
OPTIONS = CollectOptions(grace=timedelta(0))

pytestmark = pytest.mark.slow


@pytest.fixture
def cache():
    """A folder for the node's cache in memory: on a disk the kernel maps in as much at once as it likes, up to the whole file."""
    with tempfile.TemporaryDirectory(prefix="rokctl-test-", dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def repository(scratch, cache, monkeypatch):
    """One of many chunks, of which the node knows the index."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmark.madeup import make_chunks, opened

    make_chunks(scratch, CHUNKS)
    made = opened(scratch)
    repository = Repository(made.store, made.descriptor, made.keyring, made.clock, made.entropy, cache=cache)
    repository.catalog.stated()
    yield repository
    made.store.close()


def test_maps_are_read_with_little_of_the_index_in_memory(repository, cache, monkeypatch):
    monkeypatch.setattr(collect_module, "_BATCH", 8)  # as large a part of these maps as 256 are of many
    repository.store = Watching(repository.store, cache)

    report = collect(repository, OPTIONS, progress=Silent())

    assert report.maps_read > CHUNKS / 512
    assert max(repository.store.seen) < TABLE / 4


def test_packs_are_judged_with_little_of_the_index_in_memory(repository, cache, monkeypatch):
    monkeypatch.setattr(keys_module, "_RANGE", 1 << 11)  # so that there are as many ranges as of many keys
    seen, find = [], Marks.find

    def watched(marks, keys):
        seen.append(resident(cache))
        return find(marks, keys)

    monkeypatch.setattr(Marks, "find", watched)

    report = collect(repository, OPTIONS, progress=Silent())

    assert report.live_chunks > CHUNKS
    assert len(seen) > 100
    assert max(seen) < TABLE / 4
    assert resident(cache) < TABLE / 4


class Watching:
    """A store, and what of the cache in a folder was in memory while packs were read."""

    def __init__(self, store, folder):
        self._store, self._folder, self._calls, self.seen = store, folder, 0, []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def get_range(self, key, offset, length):
        self._calls += 1
        if self._calls % 8 == 0:
            self.seen.append(resident(self._folder))
        return self._store.get_range(key, offset, length)


def resident(folder):
    """Bytes of the files in a folder that this process has mapped in, by the kernel."""
    total, is_in_folder = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if not name.endswith(":"):
            is_in_folder = f" {folder}/" in rest
        elif is_in_folder and name == "Rss:":
            total += 1024 * int(rest.split()[0])
    return total
