"""The directory store: crashes, full disks, foreign files, and what a filesystem may do to it."""

import errno
import os
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from engine.errors import Failed, NotFound, OutOfSpace, Refused, RokError, Unreachable
from engine.store.base import BlobExists, NoSuchBlob
from engine.store.directory import DirectoryStore


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(path):
    opened = DirectoryStore(path, create=True)
    yield opened
    opened.close()


def keys(store):
    return [blob.key for blob in store.list("")]


def leftovers(path: Path) -> list[str]:
    return sorted(file.name for file in (path / ".tmp").iterdir())


@pytest.fixture
def synced(monkeypatch):
    """The paths that fsync was called for, in order."""
    paths, fsync = [], os.fsync

    def record(file):
        paths.append(Path(f"/proc/self/fd/{file}").readlink())
        fsync(file)

    monkeypatch.setattr(os, "fsync", record)
    return paths


def failing(code: int):
    def fail(*args, **options):
        raise OSError(code, os.strerror(code))

    return fail


def test_a_missing_directory_is_not_made_unless_asked(path):
    with pytest.raises(NotFound, match="does not exist"):
        DirectoryStore(path)
    assert not path.exists()


def test_a_directory_is_made_with_all_above_it_and_only_for_its_owner(path):
    DirectoryStore(path / "a" / "b", create=True).close()
    assert (path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_file_is_no_store(path):
    path.write_bytes(b"")
    for create in (False, True):
        with pytest.raises(Refused):
            DirectoryStore(path, create=create)


def test_a_blob_is_a_file_under_its_key_and_nothing_else_is_left(store, path):
    store.put("pack/0f", b"body")
    store.create("pack/1f", b"body")
    assert (path / "pack" / "0f").read_bytes() == b"body"
    assert leftovers(path) == []
    assert (path / "pack" / "1f").stat().st_nlink == 1


def test_a_listing_shows_no_temporary_and_no_foreign_file(store, path):
    store.put("pack/0f", b"1")
    (path / ".tmp" / "left").write_bytes(b"half")
    (path / "lost+found").mkdir()
    (path / "lost+found" / "x").write_bytes(b"")
    (path / "pack" / ".nfs0001").write_bytes(b"")
    (path / "pack" / "broken").symlink_to("nowhere")
    os.mkfifo(path / "pack" / "pipe")
    assert keys(store) == ["pack/0f"]
    assert [*store.keys("")] == ["pack/0f"]


def test_what_a_crashed_writer_left_is_swept_a_day_later_by_the_first_write(store, path):
    store.put("a", b"1")
    for name, age in (("fresh", timedelta(hours=23)), ("old", timedelta(hours=25))):
        file = path / ".tmp" / name
        file.write_bytes(b"half a bo")
        then = file.stat().st_mtime - age.total_seconds()
        os.utime(file, (then, then))
    assert keys(store) == ["a"]
    successor = DirectoryStore(path)
    assert leftovers(path) == ["fresh", "old"]
    successor.create("b", b"2")
    successor.close()
    assert leftovers(path) == ["fresh"]


class PowerCut(BaseException):
    """The machine stops here."""


@pytest.mark.parametrize("write", ["put", "create"])
@pytest.mark.parametrize("call", ["write", "fsync", "link", "rename", "mkdir", "unlink"])
def test_a_crash_at_any_step_leaves_the_old_body_or_the_new(store, path, monkeypatch, write, call):
    key = "pack/new" if write == "create" else "pack/old"
    store.put("pack/old", b"old body")
    successor = DirectoryStore(path)

    def stop(*args, **options):
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(os, call, stop)
        with suppress(PowerCut):
            getattr(successor, write)(key, b"new body")
    successor.close()
    found = {blob.key: store.get(blob.key) for blob in store.list("")}
    assert found in ({"pack/old": b"old body"}, {"pack/old": b"old body"} | {key: b"new body"})


def test_a_body_is_synced_before_it_has_its_name_and_the_name_before_it_is_acknowledged(
    store, path, synced, monkeypatch
):
    store.put("first", b"")
    steps = synced
    link, mkdir = os.link, os.mkdir
    monkeypatch.setattr(os, "link", lambda source, key, **at: steps.append(f"link {key}") or link(source, key, **at))
    monkeypatch.setattr(os, "mkdir", lambda name, mode, **at: steps.append(f"mkdir {name}") or mkdir(name, mode, **at))
    steps.clear()
    store.create("a/b/1", b"body")
    assert steps[0].parent == path / ".tmp"
    assert steps[1:] == ["mkdir a", path, "mkdir a/b", path / "a", "link a/b/1", path / "a" / "b"]


def test_a_folder_that_another_node_made_is_synced_before_it_is_relied_on(store, path, synced):
    store.put("pack/1", b"1")
    synced.clear()
    successor = DirectoryStore(path)
    successor.put("pack/2", b"2")
    assert path in synced
    synced.clear()
    successor.put("pack/3", b"3")
    assert path not in synced
    successor.close()


def test_a_deletion_is_synced_even_when_the_blob_is_already_gone(store, path, synced):
    store.put("pack/1", b"1")
    for _ in range(2):
        synced.clear()
        store.delete("pack/1")
        assert synced == [path / "pack"]


def test_what_a_listing_shows_has_been_synced(store, path, synced):
    store.put("pack/1", b"1")
    for listing in (keys, lambda store: [*store.keys("")]):
        synced.clear()
        assert listing(store) == ["pack/1"]
        assert {path, path / "pack"} <= set(synced)


ERRORS = [
    (errno.ENOSPC, OutOfSpace),
    (errno.EDQUOT, OutOfSpace),
    (errno.EACCES, Refused),
    (errno.EROFS, Refused),
    (errno.ESTALE, Unreachable),
    (errno.ENOTCONN, Unreachable),
    (errno.ETIMEDOUT, Unreachable),
    (errno.EIO, Failed),
]


@pytest.mark.parametrize(("code", "expected"), ERRORS)
@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_an_error_of_the_filesystem_says_what_to_do_and_leaves_nothing(store, path, monkeypatch, call, code, expected):
    store.put("a", b"1")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing(code))
        with pytest.raises(RokError) as caught:
            store.create("b", b"2")
    assert type(caught.value) is expected
    assert "cannot create b in" in caught.value.message
    assert os.strerror(code) in caught.value.message
    assert caught.value.hint
    assert leftovers(path) == []
    assert keys(store) == ["a"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_filesystem_without_hard_links_is_refused_at_the_first_create(store, path, monkeypatch, code):
    store.put("a", b"1")
    monkeypatch.setattr(os, "link", failing(code))
    with pytest.raises(Refused, match="hard links") as caught:
        store.create("b", b"2")
    assert "ext4" in caught.value.hint
    assert keys(store) == ["a"]


def test_a_create_whose_answer_an_nfs_client_lost_is_a_success(store, path, monkeypatch):
    link = os.link

    def link_twice(*args, **options):
        link(*args, **options)
        link(*args, **options)

    monkeypatch.setattr(os, "link", link_twice)
    store.create("a", b"1")
    assert store.get("a") == b"1"


def test_a_put_whose_answer_an_nfs_client_lost_is_a_success(store, monkeypatch):
    rename = os.rename

    def rename_twice(*args, **options):
        rename(*args, **options)
        rename(*args, **options)

    store.put("a", b"0")
    monkeypatch.setattr(os, "rename", rename_twice)
    store.put("a", b"1")
    assert store.get("a") == b"1"


@pytest.mark.parametrize("write", ["put", "create"])
def test_a_temporary_file_that_was_swept_meanwhile_makes_the_write_worth_another_try(store, path, monkeypatch, write):
    store.put("a", b"0")

    def sweep(opened):
        for name in leftovers(path):
            (path / ".tmp" / name).unlink()

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", sweep)
        with pytest.raises(Unreachable):
            getattr(store, write)("b", b"1")
    getattr(store, write)("b", b"1")
    assert store.get("b") == b"1"


def test_a_key_below_a_blob_is_refused(store):
    store.put("a", b"1")
    for call in (store.put, store.create):
        with pytest.raises(Refused, match="folder of another"):
            call("a/b", b"2")
    with pytest.raises(NoSuchBlob):
        store.get("a/b")
    store.delete("a/b")
    assert store.get("a") == b"1"


def test_a_key_above_a_blob_is_never_taken(store):
    store.put("a/b", b"1")
    with pytest.raises(Refused, match="folder of another"):
        store.put("a", b"2")
    with pytest.raises(BlobExists):
        store.create("a", b"2")
    assert keys(store) == ["a/b"]


def test_a_read_that_the_kernel_answers_in_pieces_fills_the_memory(store, monkeypatch):
    store.put("a", b"0123456789")
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, targets, *rest: preadv(file, [targets[0][:3]], *rest))
    target = memoryview(bytearray(12))
    assert store.read_into("a", 1, target) == 9
    assert target.tobytes() == b"123456789\0\0\0"


def test_a_blob_that_is_cut_short_while_it_is_read_is_an_error(store, path, monkeypatch):
    store.put("a", b"0123456789")
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, length, offset: pread(file, 4, offset) if offset < 8 else b"")
    assert store.get_range("a", 0, 8) == b"01234567"
    with pytest.raises(Failed, match="shorter"):
        store.get("a")


def test_a_body_that_the_kernel_takes_in_pieces_is_written_whole(store, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, body: write(file, bytes(body[:3])))
    store.put("a", b"0123456789")
    assert store.get("a") == b"0123456789"


@pytest.mark.parametrize(
    ("reading", "listing"),
    [("os.listdir", keys), ("engine.store.directory._tell_kinds", lambda store: [*store.keys("")])],
)
def test_a_listing_sees_a_blob_that_one_reading_of_its_folder_misses(store, monkeypatch, reading, listing):
    # btrfs overlooks a name while its file is replaced, which changes the folder.
    for key in ("1", "2"):
        store.put(key, b"")
    listdir, readings = os.listdir, []

    def overlooking(folder):
        readings.append(folder)
        missing = "2" if len(readings) == 1 else "1"
        return [name for name in listdir(folder) if name != missing]

    monkeypatch.setattr(reading, overlooking)
    assert listing(store) == ["1", "2"]


def test_a_folder_is_read_again_while_it_changes_but_not_for_ever(store, path, monkeypatch):
    store.put("pending/1", b"")
    listdir, readings = os.listdir, []

    def changing(folder):
        readings.append(folder)
        (path / "pending" / f"n{len(readings)}").write_bytes(b"")
        os.utime(path / "pending", (len(readings), len(readings)))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", changing)
    assert "pending/1" in [blob.key for blob in store.list("pending/")]
    assert len(readings) == 5


def test_a_listing_goes_on_when_a_blob_is_deleted_meanwhile(store, path, monkeypatch):
    for number in range(3):
        store.put(f"pack/{number}", b"")
    stat = os.stat

    def deleting(name, **options):
        (path / "pack" / "1").unlink(missing_ok=True)
        return stat(name, **options)

    monkeypatch.setattr(os, "stat", deleting)
    assert [blob.key for blob in store.list("")] == ["pack/0", "pack/2"]


def test_files_whose_names_are_no_keys_are_not_listed(store, path):
    store.put(f"pack/{'a' * 195}", b"")
    for name in ("b" * 196, ".hidden", "with space", "with\nnewline", "ümlaut"):
        (path / "pack" / name).write_bytes(b"")
        assert keys(store) == [*store.keys("")] == [f"pack/{'a' * 195}"]
        (path / "pack" / name).unlink()


def test_folders_sort_among_blobs_as_their_names_with_a_slash(store):
    keys_in_order = ["a-b", "a.b", "a/b", "a/c/d", "a0", "ab"]
    for key in reversed(keys_in_order):
        store.put(key, b"")
    assert keys(store) == keys_in_order


def test_a_closed_store_touches_no_other_directory(path, tmp_path):
    store = DirectoryStore(path, create=True)
    store.close()
    store.close()
    bystander = os.open(tmp_path, os.O_RDONLY)  # takes the number that the store had
    with pytest.raises(Failed):
        store.put("a", b"1")
    os.close(bystander)
    assert not (tmp_path / "a").exists()


def test_the_store_goes_on_where_its_directory_was_moved_to(store, path):
    store.put("a", b"1")
    moved = path.rename(path.with_name("moved"))
    path.mkdir()  # as an unmounted mount point would be left: empty
    assert keys(store) == ["a"]
    store.put("b", b"2")
    assert (moved / "b").read_bytes() == b"2"
    assert list(path.iterdir()) == []


def test_threads_make_folders_together(store):
    start = threading.Barrier(8)

    def work(number):
        start.wait()
        store.put(f"a/b/c/{number}", b"")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys(store)) == 8
