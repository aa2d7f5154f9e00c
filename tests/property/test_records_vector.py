"""What sessions, collections, tags and copies write in format 1 is read for ever, and so are manifests with all their fields.

`tests/golden/records-v1.json` holds a blob of each kind that `repository-v1.json` lacks. It was written by `make`, which is
kept to show how; running it anew where the file exists is refused.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.errors import NotFound
from engine.extent import Extent
from engine.repo.condemnation import (
    open_awaited,
    read_condemnations,
    seal_awaited,
    seal_condemnation,
)
from engine.repo.hurt import open_mark, seal_mark
from engine.repo.manifest import (
    Manifest,
    Member,
    Origin,
    Totals,
    VersionIdentity,
    open_manifest,
    seal_manifest,
)
from engine.repo.naming import ObjectName
from engine.repo.pack import PackName
from engine.repo.session import LEASE_SECONDS, Purpose, SessionRecord, open_record
from engine.repo.tags import Tags, open_tags, seal_tags
from engine.store.memory import MemoryStore
from tests.manual_clock import ManualClock
from tests.repositories import new_repository, reopen

GOLDEN = Path(__file__).parent.parent / "golden" / "records-v1.json"
TIME = datetime(2026, 11, 24, 9, 15, 0, 250000, tzinfo=UTC)
VERSION, OTHER = "ab" * 16, "cd" * 16
PACKS = frozenset({PackName(VERSION, 0), PackName(OTHER, 0x2A)})
TAGS = Tags(frozenset({"релиз", "v1.2", "🏷"}), pinned=True, pinned_until=TIME, extra={"later": {"x": 1}})
LOSSES = {"data": (Extent(4096, 8192), Extent(1 << 33, 4096)), "root": (Extent(0, 512),)}


def member(name, *, filesystem=""):
    origin = Origin("pool0", name, "s1", f"{name}-uuid", f"{name}-snapshot-uuid", "group-uuid", TIME)
    kind = (filesystem, "étiquette", "fs-uuid") if filesystem else ("", "", "")
    return Member(name, bytes(range(16)), 5 << 30, 4096, *kind, bool(filesystem), 123, 45, origin, {"later": [1, None]})


MANIFEST = Manifest(
    version=VERSION,
    object=ObjectName("ведро", "📦 объект"),
    created=TIME,
    store_time=TIME + timedelta(seconds=1),
    node="node1",
    tool="rokctl 0.1.0",
    message="why\nand how",
    labels={"ключ": "значение"},
    base=OTHER,
    members=(member("root", filesystem="ext4"), member("data")),
    totals=Totals(10 << 30, 246, 200, 100, 90, 12, 1.5),
    copied_from=VersionIdentity("ef" * 16, OTHER),
    extra={"from_the_future": {"список": ["x", 1, True]}},
)


def written(encrypted: bool) -> dict[str, str]:
    """A repository with an open session of two records, two condemnations and what they wait for, tags and a copy."""
    clock = ManualClock()
    store = MemoryStore(clock)
    repository = new_repository(store, encrypted=encrypted, clock=clock)
    keyring, entropy = repository.keyring, repository.entropy
    manager = repository.session(Purpose(ObjectName("b", "o"), OTHER, "node1"), threads=1, writers=1)
    session = manager.__enter__()
    clock.advance(LEASE_SECONDS / 2)
    session.keep_alive()
    store.create("gc/" + VERSION, seal_condemnation(VERSION, PACKS, keyring, entropy))
    store.create("gc/" + OTHER, seal_condemnation(OTHER, PACKS, keyring, entropy, damaged=True))
    store.create("s0/" + VERSION, seal_awaited(VERSION, [session.version], keyring, entropy))
    store.create("tags/" + VERSION, seal_tags(VERSION, TAGS, keyring, entropy))
    store.create("hurt/" + VERSION, seal_mark(VERSION, LOSSES, keyring, entropy))
    store.create("versions/" + VERSION, seal_manifest(MANIFEST, keyring, entropy))
    store.create("versions/" + OTHER, b"forgotten")
    store.create("versions/" + "ef" * 16, b"broken")
    return {blob.key: store.get(blob.key).hex() for blob in store.list("")}


if __name__ == "__main__":
    with GOLDEN.open("x", encoding="ascii") as file:
        json.dump({"encrypted": written(True), "clear": written(False)}, file, indent=1)


@pytest.fixture(params=["encrypted", "clear"])
def repository(request):
    store = MemoryStore(ManualClock())
    for key, body in json.loads(GOLDEN.read_text(encoding="ascii"))[request.param].items():
        store.put(key, bytes.fromhex(body))
    return reopen(store)


def test_records_of_format_1_are_read(repository):
    store, keyring = repository.store, repository.keyring
    first, second = read_condemnations(repository)
    assert (first.name, first.packs, first.damaged) == (VERSION, PACKS, False)
    assert (second.name, second.packs, second.damaged) == (OTHER, PACKS, True)
    pending = [blob.key.removeprefix("pending/") for blob in store.list("pending/")]
    [session] = repository.open_sessions()
    assert pending == [session, f"{session}-00000001"]
    assert open_awaited(VERSION, store.get(f"s0/{VERSION}"), keyring) == {session}
    for name in pending:
        record = open_record(name, store.get(f"pending/{name}"), keyring)
        assert record == SessionRecord(session, OTHER, "node1")


def test_tags_marks_and_manifests_of_format_1_are_read_with_all_their_fields(repository):
    store, keyring = repository.store, repository.keyring
    assert open_tags(VERSION, store.get(f"tags/{VERSION}"), keyring) == TAGS
    assert open_mark(VERSION, store.get(f"hurt/{VERSION}"), keyring) == LOSSES
    assert open_manifest(VERSION, store.get(f"versions/{VERSION}"), keyring) == MANIFEST
    assert repository.survey().manifests == (MANIFEST,)
    for gone in (OTHER, "ef" * 16):
        with pytest.raises(NotFound):
            repository.manifest(gone)


def test_every_folder_of_the_format_has_a_vector(repository):
    """What `repository-v1.json` holds, and what this file adds, is all that a repository keeps."""
    whole = json.loads(GOLDEN.with_name("repository-v1.json").read_text(encoding="ascii"))["encrypted"]
    folders = {key.partition("/")[0] for key in [*whole, *(blob.key for blob in repository.store.list(""))]}
    assert folders == {"repository", "keys", "pack", "index", "pending", "versions", "gc", "s0", "tags", "hurt"}
