"""What engine/store/base.py promises, of every kind of store."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from itertools import product

import pytest

from engine.errors import Refused
from engine.store.base import BlobExists, NoSuchBlob, Store
from engine.store.directory import DirectoryStore
from engine.store.memory import MemoryStore
from engine.units import KIB, MIB


def keys(store: Store, prefix: str = "") -> list[str]:
    return [blob.key for blob in store.list(prefix)]


BODIES = {"empty": b"", "one byte": b"\0", "five MiB": bytes(range(256)) * (5 * MIB // 256)}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_what_was_written_is_read(store, other, body):
    for kind, write in product([bytes, bytearray, memoryview], ["put", "create"]):
        key = f"pack/{kind.__name__}-{write}"
        getattr(store, write)(key, kind(body))
        assert other.get(key) == body
        assert other.stat(key).size == len(body)


@pytest.mark.parametrize("write", ["put", "create"])
def test_a_buffer_may_be_reused_once_the_call_has_returned(store, write):
    buffer = bytearray(b"first")
    getattr(store, write)("a", memoryview(buffer))
    buffer[:] = b"later"
    assert store.get("a") == b"first"


def test_a_part_of_a_buffer_may_be_written(store):
    store.put("a", memoryview(bytearray(b"0123456789"))[2:5])
    assert store.get("a") == b"234"


def test_a_put_replaces_what_was_there(store, other):
    store.put("a", b"a long body")
    store.put("a", b"short")
    assert other.get("a") == b"short"
    assert other.stat("a").size == 5


def test_create_refuses_a_key_that_is_taken_and_changes_nothing(store, other):
    store.create("versions/1", b"mine")
    with pytest.raises(BlobExists, match="versions/1"):
        other.create("versions/1", b"yours")
    assert store.get("versions/1") == b"mine"


def test_create_sees_what_was_put(store, other):
    store.put("a", b"")
    with pytest.raises(BlobExists):
        other.create("a", b"")


def test_a_deleted_key_can_be_created_again(store):
    store.create("a", b"1")
    store.delete("a")
    store.create("a", b"2")
    assert store.get("a") == b"2"


@pytest.mark.timeout(120)
def test_of_concurrent_creates_exactly_one_succeeds(store, other):
    contenders = 8

    def contend(number: int, key: str, start: threading.Barrier) -> bool:
        start.wait()
        try:
            (store, other)[number % 2].create(key, b"%d" % number * 1000)
        except BlobExists:
            return False
        return True

    with ThreadPoolExecutor(contenders) as threads:
        for key in ("versions/1", "versions/2", "deep/er/3"):
            start = threading.Barrier(contenders)
            won = [*threads.map(contend, range(contenders), [key] * contenders, [start] * contenders)]
            assert won.count(True) == 1
            assert store.get(key) == b"%d" % won.index(True) * 1000


@pytest.mark.timeout(120)
def test_a_reader_sees_the_old_or_the_new_body_and_never_a_mix(store, other):
    size = 256 * KIB
    bodies = {bytes([letter]) * (size + letter) for letter in b"abc"}
    store.put("a", next(iter(bodies)))
    done = threading.Event()

    def read() -> int:
        reads = 0
        while not done.is_set():
            assert other.get("a") in bodies
            reads += 1
        return reads

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read) for _ in range(2)]
        try:
            for _ in range(5):
                for body in bodies:
                    store.put("a", body)
        finally:
            done.set()
        assert all(reader.result() > 0 for reader in readers)


@pytest.mark.parametrize("operation", ["get", "stat"])
def test_a_missing_blob_is_named(store, operation):
    with pytest.raises(NoSuchBlob, match="pack/nowhere"):
        getattr(store, operation)("pack/nowhere")


def test_a_range_of_a_missing_blob_is_an_error_too(store):
    for offset, length in [(0, 0), (0, 1), (7, 100)]:
        with pytest.raises(NoSuchBlob):
            store.get_range("pack/nowhere", offset, length)
        with pytest.raises(NoSuchBlob):
            store.read_into("pack/nowhere", offset, memoryview(bytearray(length)))


def test_a_folder_of_blobs_is_no_blob(store):
    def into_one_byte(key):
        return store.read_into(key, 0, memoryview(bytearray(1)))

    store.put("pack/0/1", b"1")
    for call in (store.get, store.stat, lambda key: store.get_range(key, 0, 1), into_one_byte):
        with pytest.raises(NoSuchBlob):
            call("pack/0")
    store.delete("pack/0")
    assert keys(store) == ["pack/0/1"]


def test_a_range_ends_where_the_blob_ends(store):
    store.put("a", b"0123456789")
    for offset, length in product([0, 1, 5, 9, 10, 11, 1000], [0, 1, 5, 10, 1000]):
        assert store.get_range("a", offset, length) == b"0123456789"[offset : offset + length], (offset, length)


def test_a_range_of_an_empty_blob_is_empty(store):
    store.put("a", b"")
    assert store.get_range("a", 0, 10) == b""
    assert store.read_into("a", 0, memoryview(bytearray(10))) == 0


def test_a_read_into_memory_touches_nothing_around_it_and_tells_how_much_there_was(store):
    store.put("a", b"0123456789")
    for offset, length in product([0, 1, 5, 9, 10, 11, 1000], [0, 1, 5, 10, 1000]):
        memory, expected = bytearray(b"?" * (length + 20)), b"0123456789"[offset : offset + length]
        assert store.read_into("a", offset, memoryview(memory)[10 : 10 + length]) == len(expected), (offset, length)
        assert memory[:10] == memory[10 + length :] == b"?" * 10
        assert memory[10 : 10 + len(expected)] == expected


def test_a_long_read_into_memory_is_whole(store):
    body = bytes(range(251)) * (3 * MIB // 251)
    store.put("a", body)
    memory = memoryview(bytearray(len(body)))
    assert store.read_into("a", 0, memory) == len(body)
    assert memory == body


def test_a_listing_is_sorted_by_key_and_holds_what_is_below_the_prefix(store):
    written = ["a-b/1", "a.b", "a/b", "a/b-c", "a/b.c/x", "a/c", "a0", "b", "A/b", "_/1", "-x", "a_b/c/d/e/f"]
    for key in written:
        store.put(key, key.encode())
    assert keys(store) == sorted(written)
    assert keys(store, "a/") == ["a/b", "a/b-c", "a/b.c/x", "a/c"]
    assert keys(store, "a/b.c/") == ["a/b.c/x"]
    assert keys(store, "none/") == []
    assert keys(store, "b/") == []


def test_an_empty_store_lists_nothing(store):
    assert keys(store) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_long_listing_is_whole(store):
    # More than the thousand keys of one page; the S3 store under test has pages of five.
    count = 1100 if isinstance(store, MemoryStore | DirectoryStore) else 23
    written = [f"pack/{number * 7919 % 100003:06d}" for number in range(count)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put(key, b"x"), written))
    assert keys(store, "pack/") == sorted(written)
    assert store.keys("pack/").keys() == {*written}


def test_a_listing_says_what_stat_says(store):
    store.put("a/1", b"12345")
    store.create("a/2", b"")
    listed = [*store.list("a/")]
    assert listed == [store.stat("a/1"), store.stat("a/2")]
    assert [blob.size for blob in listed] == [5, 0]


def test_keys_are_those_that_are_listed_and_come_with_their_sizes_or_without(store):
    for key in ["a-b/1", "a.b", "a/b-c", "a/b.c/x", "a/b.c/y/z", "b"]:
        store.put(key, key.encode())
    for prefix in ("", "a/", "a/b.c/", "none/", "b/"):
        sizes = {blob.key: blob.size for blob in store.list(prefix)}
        assert store.keys(prefix) in (sizes, dict.fromkeys(sizes))


def test_a_write_is_seen_by_the_next_call_of_another_node(store, other):
    for number in range(10):
        key = f"versions/{number}"
        assert key not in keys(other, "versions/")
        store.create(key, b"1")
        assert key in keys(other, "versions/")
        assert key in other.keys("versions/")
        assert other.get(key) == b"1"
        store.delete(key)
        assert key not in keys(other, "versions/")
        with pytest.raises(NoSuchBlob):
            other.get(key)


def test_a_deletion_is_idempotent(store):
    store.put("a/1", b"1")
    store.delete("a/1")
    store.delete("a/1")
    store.delete("never/was")
    assert keys(store) == []


def test_times_come_from_the_clock_of_the_store(store, other):
    before = other.now()
    store.put("a", b"1")
    modified = store.stat("a").modified
    after = other.now()
    assert before.tzinfo is UTC
    assert modified.tzinfo is UTC
    second = timedelta(seconds=1)  # S3 tells no fraction of it
    assert before - second <= modified <= after + second


def test_a_blob_that_is_replaced_looks_younger(store, wait_for_a_later_time):
    store.put("a", b"1")
    first = store.stat("a").modified
    wait_for_a_later_time(store, first)
    store.put("a", b"2")
    assert store.stat("a").modified > first


@pytest.fixture
def wait_for_a_later_time() -> Callable[[Store, object], None]:
    def wait(store, moment):
        tick = threading.Event()
        while store.now() <= moment:
            tick.wait(0.05)

    return wait


NO_KEYS = [
    "",
    "/",
    "a/",
    "/a",
    "a//b",
    "../x",
    "a/../b",
    ".",
    "a/.",
    ".tmp/x",
    "a/.b",
    "ä",
    "a b",
    "a\n",
    "a\\b",
    "x" * 201,
]


def test_what_cannot_be_a_key_is_refused_by_every_call(store):
    calls = {
        "put": lambda key: store.put(key, b""),
        "create": lambda key: store.create(key, b""),
        "get": store.get,
        "get_range": lambda key: store.get_range(key, 0, 1),
        "empty range": lambda key: store.get_range(key, 0, 0),
        "stat": store.stat,
        "delete": store.delete,
    }
    for key, call in product(NO_KEYS, calls):
        with pytest.raises(Refused):
            calls[call](key)
    assert keys(store) == []


def test_what_cannot_be_a_prefix_is_refused_at_the_call(store):
    for prefix in ["a", "/", "../", "a//", ".tmp/", "ä/"]:
        for listing in (store.list, store.keys):
            with pytest.raises(Refused):
                listing(prefix)


def test_the_longest_key_is_kept(store):
    key = "x/" + "y" * 198
    store.put(key, b"1")
    assert keys(store) == [key]
    assert store.get(key) == b"1"


def test_threads_share_a_store(store):
    def work(number: int) -> bytes:
        key = f"pack/{number}"
        store.put(key, b"%d" % number * 1000)
        return store.get(key)

    with ThreadPoolExecutor(8) as threads:
        assert [*threads.map(work, range(40))] == [b"%d" % number * 1000 for number in range(40)]
