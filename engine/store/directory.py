"""A store in a directory of any POSIX filesystem with hard links, NFS included.

`pack/0f3c` is the file `pack/0f3c`. A body is written to `.tmp/`, synced, and only then given its name: by rename(2) to
replace, by link(2) to create if absent, which is atomic between the nodes of an NFS mount too. The store's clock is the
filesystem's, so all nodes of an NFS mount see one. There, mount with `lookupcache=positive`: otherwise a node that has
looked for a blob in vain may overlook it for another minute.

The store holds its root folder open while it lives. It cannot be unmounted meanwhile, which would else show an empty store.
"""

import errno
import fcntl
import mmap
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from engine.errors import Failed, NotFound, OutOfSpace, Refused, RokError, Unreachable
from engine.pagecache import QuietReader
from engine.pages import begins_a_page
from engine.store.base import KEY_LIMIT, Blob, BlobExists, Buffer, NoSuchBlob, are_keys, check_key, check_prefix, is_key
from engine.units import MIB

_TEMPORARY: Final = ".tmp"
_LEFT_OVER_AFTER: Final = timedelta(days=1)
_SCANS: Final = 5
_PAGE: Final = mmap.PAGESIZE
_LONG: Final = MIB

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN: Final = {errno.EACCES, errno.EPERM, errno.EROFS}
_AWAY: Final = {
    errno.ENOENT, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EAGAIN, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.ENETDOWN, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ENODEV, errno.ENXIO,
}  # fmt: skip
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_FOLDER_SYNC: Final = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}

_Blobs = list[Blob]  # named here, because in the class `list` is a method
_Names = list[str]


class DirectoryStore:
    """The store in the directory `path`.

    Raises NotFound when the directory does not exist, unless `create` is given; Refused when it is no directory.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self._path = path.absolute()
        self._known_folders = {""}
        self._swept = False
        self._sweeping = threading.Lock()
        with self._errors("open"):
            if create:
                _make_durably(self._path)
            try:
                self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise NotFound(
                    f"directory {self._path} does not exist", hint="create it, or mount what holds it"
                ) from None
            except NotADirectoryError:
                raise Refused(f"{self._path} is no directory", hint="name a directory as the store") from None

    @property
    def url(self) -> str:
        """The absolute path."""
        return str(self._path)

    def put(self, key: str, body: Buffer) -> None:
        """Write a new file and rename it over the old one."""
        check_key(key)
        with self._errors("write", key):
            self._publish(key, body, self._rename)

    def create(self, key: str, body: Buffer) -> None:
        """Write a new file and link it. Refused where the filesystem has no hard links, and so no such step."""
        check_key(key)
        with self._errors("create", key):
            try:
                self._publish(key, body, self._link)
            except FileExistsError:
                raise BlobExists(f"{self.url} already holds {key}") from None

    def get(self, key: str) -> bytes:
        """Read the whole file."""
        return self._read(key, 0, None)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Read a part of the file."""
        return self._read(key, offset, length)

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """Read a part of the file, and leave the page cache as it is."""
        with self._errors("read", key), self._blob(key) as (file, size):
            reader, length = QuietReader(file), min(len(target), max(0, size - offset))
            done = 0
            while done < length:
                done += _some(reader.read_into(offset + done, target[done:length]))
            return length

    def list(self, prefix: str) -> Iterator[Blob]:
        """Walk the folders."""
        return self._walk(check_prefix(prefix))

    def keys(self, prefix: str) -> Mapping[str, int | None]:
        """Walk the folders. No size is told: stat(2) of each file takes twice as long as all the rest."""
        return dict.fromkeys(self._keys(check_prefix(prefix)))

    def stat(self, key: str) -> Blob:
        """Size and time of the file."""
        check_key(key)
        with self._errors("look at", key):
            blob = self._look(key)
        if blob is None:
            raise NoSuchBlob(f"{self.url} holds no {key}")
        return blob

    def delete(self, key: str) -> None:
        """Unlink the file. Its folder stays."""
        check_key(key)
        with self._errors("delete", key):
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                os.unlink(key, dir_fd=self._root)
            # A file that is already gone may have been unlinked by a try that failed in this very sync: sync again.
            with suppress(FileNotFoundError, NotADirectoryError):
                self._sync(_parent(key))

    def now(self) -> datetime:
        """The time that the filesystem gives to a file written now. Needs leave to write."""
        with self._errors("read the clock of"):
            name, written = self._write_temporary(b"")
            self._remove_temporary(name)
        return _modified(written)

    def close(self) -> None:
        """Let go of the directory."""
        root, self._root = self._root, -1  # no later call can reach what gets this number next
        if root >= 0:
            os.close(root)

    # Writing

    def _publish(self, key: str, body: Buffer, step: Callable[[str, str], None]) -> None:
        """Let `key` name a file that holds all of `body`, durably, by one atomic `step` from its temporary name."""
        temporary, written = self._write_temporary(body)
        try:
            self._sweep_once(written)
            folder = _parent(key)
            self._make_folder(folder)
            try:
                step(temporary, key)
            except (FileExistsError, FileNotFoundError):
                # An NFS client that lost the answer asks again, and is then told that its own success is in the way.
                if not self._is_file(key, written):
                    self._known_folders = {""}  # one of them may be gone
                    raise
            self._sync(folder)
        finally:
            self._remove_temporary(temporary)

    def _write_temporary(self, body: Buffer) -> tuple[str, os.stat_result]:
        """Write and sync a file that has no other use; its name, and what fstat says of it."""
        name = f"{_TEMPORARY}/{os.urandom(16).hex()}"  # never reused, even if ours is swept while we are suspended
        try:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._root)
        except FileNotFoundError:
            self._make_folder(_TEMPORARY)
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._root)
        try:
            rest = memoryview(body).cast("B")
            if len(rest) >= _LONG and begins_a_page(rest):
                rest = rest[_write_directly(file, rest[: len(rest) // _PAGE * _PAGE]) :]
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)  # leave the page cache to the node's applications
            return name, os.fstat(file)
        except BaseException:
            self._remove_temporary(name)
            raise
        finally:
            os.close(file)

    def _remove_temporary(self, name: str) -> None:
        with suppress(OSError):  # the write has already succeeded or failed, and what stays behind is swept some day
            os.unlink(name, dir_fd=self._root)

    def _sweep_once(self, written: os.stat_result) -> None:
        """Remove what crashed writers left, before the first write of this store, by the filesystem's own clock."""
        with self._sweeping:
            if self._swept:
                return
            self._swept = True
        oldest = written.st_mtime - _LEFT_OVER_AFTER.total_seconds()
        for name in self._scan(_TEMPORARY, os.listdir)[0]:
            with suppress(FileNotFoundError):
                if os.stat(f"{_TEMPORARY}/{name}", dir_fd=self._root).st_mtime < oldest:
                    self._remove_temporary(f"{_TEMPORARY}/{name}")

    def _make_folder(self, folder: str) -> None:
        """Make the folder and those above it, durably.

        The first use by this store syncs the parent even of a folder that is there: whoever made it may not have done so yet.
        """
        if folder in self._known_folders:
            return
        parent = _parent(folder)
        self._make_folder(parent)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700, dir_fd=self._root)
        self._sync(parent)
        self._known_folders.add(folder)

    def _rename(self, temporary: str, key: str) -> None:
        os.rename(temporary, key, src_dir_fd=self._root, dst_dir_fd=self._root)

    def _link(self, temporary: str, key: str) -> None:
        try:
            os.link(temporary, key, src_dir_fd=self._root, dst_dir_fd=self._root)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            raise Refused(
                f"the filesystem of {self.url} makes no hard links ({error.strerror}), so {key} cannot be created atomically",
                hint="keep the store on ext4, XFS, btrfs or NFS, or in S3",
            ) from error

    def _is_file(self, key: str, written: os.stat_result) -> bool:
        try:
            return os.path.samestat(os.stat(key, dir_fd=self._root), written)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _sync(self, folder: str) -> None:
        with self._folder(folder) as opened:
            _sync_folder(opened)

    # Reading

    def _read(self, key: str, offset: int, length: int | None) -> bytes:
        with self._errors("read", key), self._blob(key) as (file, size):
            end = size if length is None else min(size, offset + length)
            return _read_exactly(file, offset, max(0, end - offset))

    @contextmanager
    def _blob(self, key: str) -> Iterator[tuple[int, int]]:
        """The open file of a blob, and its size."""
        check_key(key)
        try:
            file = os.open(key, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._root)
        except (FileNotFoundError, NotADirectoryError):
            raise NoSuchBlob(f"{self.url} holds no {key}") from None
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise NoSuchBlob(f"{self.url} holds no {key}")
            yield file, status.st_size
        finally:
            os.close(file)

    def _walk(self, folder: str) -> Iterator[Blob]:
        """The blobs below `folder`, which is empty or ends in `/`, by key: a folder sorts as its name and the `/`."""
        with self._errors("list", folder):
            try:
                blobs, folders = self._entries(folder)
            except (FileNotFoundError, NotADirectoryError):
                return
        if not folders:
            yield from blobs
            return
        found = {blob.key: blob for blob in blobs}
        for key in sorted([*found, *folders]):
            yield from [found[key]] if key in found else self._walk(key)

    def _entries(self, folder: str) -> tuple[_Blobs, _Names]:
        """The files in the folder, by name, and the folders in it."""
        blobs, folders = _Blobs(), _Names()
        names, room = self._names(folder, os.listdir), KEY_LIMIT - len(folder)
        new_blob = tuple.__new__  # in half the time of Blob, which calls it from Python
        with self._folder(folder) as opened:
            # Looked at from here, and not from the root, and none in a frame of its own: there may be many thousands.
            for name in names:
                if len(name) > room:
                    continue
                try:
                    status = os.stat(name, dir_fd=opened)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    blobs.append(new_blob(Blob, (folder + name, status.st_size, status.st_mtime)))
                elif stat.S_ISDIR(status.st_mode):
                    folders.append(f"{folder}{name}/")
        return blobs, folders

    def _keys(self, folder: str) -> _Names:
        """The keys below `folder`, which is empty or ends in `/`."""
        with self._errors("list", folder):
            try:
                names = self._names(folder, _tell_kinds)
            except (FileNotFoundError, NotADirectoryError):
                return []
        room = KEY_LIMIT - len(folder)
        keys = [folder + name for name in names if name[-1] != "/" and len(name) <= room]
        for name in names if len(keys) < len(names) else ():
            if name[-1] == "/":
                keys += self._keys(folder + name)
        return keys

    def _names(self, folder: str, read: Callable[[int], _Names]) -> _Names:
        """The sorted names in the folder, without fail, as `read` gives them of its descriptor.

        btrfs moves a name to the end of its folder when the file is replaced, so one reading of the folder overlooks a
        blob that is put anew meanwhile (seen in 3 % of readings under load). Hence at least two, until nothing changes;
        a name is overlooked only if it is replaced during every one of them.
        """
        names, before = self._scan(folder, read)
        for _ in range(1, _SCANS):
            again, after = self._scan(folder, read)
            if again != names:  # the order says the same as sets would, and takes a tenth of their time
                names = list({*names, *again})
            if after == before:
                break
            before = after
        names.sort()
        return names if are_keys(names) else [name for name in names if is_key(folder + name.removesuffix("/"))]

    def _scan(self, folder: str, read: Callable[[int], _Names]) -> tuple[_Names, int]:
        """The names in the folder; and when the folder had last changed before it was read."""
        with self._folder(folder) as opened:
            changed = os.fstat(opened).st_mtime_ns
            names = read(opened)
            # Others rely on what they see listed: it must not vanish in a power cut because its writer was not done.
            _sync_folder(opened)
        return names, changed

    def _look(self, key: str) -> Blob | None:
        try:
            status = os.stat(key, dir_fd=self._root)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Blob(key, status.st_size, status.st_mtime) if stat.S_ISREG(status.st_mode) else None

    @contextmanager
    def _folder(self, folder: str) -> Iterator[int]:
        # Opened anew each time: that is what makes an NFS client ask the server whether the folder has changed.
        opened = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._root)
        try:
            yield opened
        finally:
            os.close(opened)

    @contextmanager
    def _errors(self, doing: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _translate(
                error, f"cannot {doing} {key} in {self.url}" if key else f"cannot {doing} {self.url}"
            ) from error


def _translate(error: OSError, what: str) -> RokError:
    message = f"{what}: {error.strerror}"
    if error.errno in _FULL:
        return OutOfSpace(message, hint="free space there, or forget versions and run `rokctl repo gc`")
    if error.errno in _FORBIDDEN:
        return Refused(message, hint="check the owner and mode of the directory, and that it is not mounted read-only")
    if error.errno in _AWAY:
        return Unreachable(message, hint="check that it is mounted and its server answers, then try again")
    if error.errno in (errno.EISDIR, errno.ENOTDIR):
        return Refused(f"{what}: a key cannot be the folder of another", hint="use another key")
    return Failed(message, hint="look for disk errors in the kernel's log (`dmesg`)")


def _tell_kinds(folder: int) -> _Names:
    """The names of files in an open folder, and those of folders with a `/` behind them: most filesystems tell which is which."""
    with os.scandir(folder) as entries:
        return [
            entry.name if entry.is_file() else f"{entry.name}/"
            for entry in entries
            if entry.is_file() or entry.is_dir()
        ]


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _make_durably(path: Path) -> None:
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        opened = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _sync_folder(opened)
        finally:
            os.close(opened)


def _sync_folder(opened: int) -> None:
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # some network filesystems have no such call, and need none
            raise


def _write_directly(file: int, pages: memoryview) -> int:
    """Write whole pages around the page cache, which saves a copy; how many bytes were written: 0 where that is not possible.

    Whatever else stands in the way stands in the way of an ordinary write too, which then tells it.
    """
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT)
        return os.write(file, pages)
    except OSError:
        return 0
    finally:
        fcntl.fcntl(file, fcntl.F_SETFL, flags)


def _read_exactly(file: int, offset: int, length: int) -> bytes:
    """The bytes of the range, which lay inside the file when it was opened."""
    # What the kernel would read ahead, beyond the range, would stay in the page cache.
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    parts = []
    position, end = offset, offset + length
    while position < end:
        part = os.pread(file, end - position, position)
        parts.append(part)
        position += _some(len(part))
    first = offset // _PAGE * _PAGE  # pages that are given back only in part are kept
    os.posix_fadvise(file, first, -(-end // _PAGE) * _PAGE - first, os.POSIX_FADV_DONTNEED)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _some(count: int) -> int:
    """How many bytes a read inside a blob gave: never none, because a blob never shrinks."""
    if count == 0:
        raise OSError(errno.EIO, "the file became shorter while it was read")
    return count


def _modified(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)
