"""File systems in image files, made without a kernel or root: ext4 by mke2fs and debugfs, XFS by mkfs.xfs.

Files are written in the order in which they are named, with times, UUID and hash seed that are given: the same files make the
same ext4 image, byte by byte. In an XFS image the times of the inodes are those of its making, and nothing else differs.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePath, PurePosixPath
from typing import Final
from uuid import UUID

from benchmark.measure import leave

MADE_AT: Final = 1_760_000_000  # the time of everything in an image, in seconds since 1970
PROGRAMS: Final = {"mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "e2fsck": "e2fsprogs", "mkfs.xfs": "xfsprogs"}
ROOT_FOLDER: Final = PurePosixPath("/")
FOLDER_EXISTS: Final = "Ext2 directory already exists"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an image: its absolute path there, and the file that holds its content."""

    path: PurePosixPath
    source: Path


def require_programs() -> None:
    """Leaves when a program that makes file systems is missing."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=search_path()) is None]
    if missing:
        packages = sorted({PROGRAMS[program] for program in missing})
        leave(f"{', '.join(missing)} is missing: install the Debian package {' and '.join(packages)}")


def make_ext4(image: Path, size: int, identity: UUID, entries: Sequence[Entry]) -> None:
    """A new ext4 image of `size` bytes that holds the entries."""
    with image.open("wb") as file:
        file.truncate(size)
    fixed = f"hash_seed={identity},lazy_itable_init=1,nodiscard"
    words = ["-q", "-t", "ext4", "-b", "4096", "-U", str(identity), "-E", fixed, str(image)]
    call(["mke2fs", *words], {"E2FSPROGS_FAKE_TIME": str(MADE_AT)})
    change_ext4(image, [], entries)


def change_ext4(image: Path, removed: Iterable[PurePosixPath], written: Sequence[Entry]) -> None:
    """Remove files from an ext4 image, then write others. A file that is to be rewritten must be removed."""
    lines = [f"set_current_time @{MADE_AT}"]
    lines += [f"rm {quoted(path)}" for path in removed]
    lines += [f"mkdir {quoted(folder)}" for folder in folders(written)]
    for parent, entries in groupby(written, key=lambda entry: entry.path.parent):
        lines.append(f"cd {quoted(parent)}")
        lines += [f"write {quoted(entry.source)} {quoted(entry.path.name)}" for entry in entries]
    lines += [f"set_super_value {field} @{MADE_AT}" for field in ("mtime", "wtime")]
    with tempfile.NamedTemporaryFile("w", suffix=".debugfs") as script:
        script.write("\n".join(lines) + "\n")
        script.flush()
        talk = call(["debugfs", "-w", "-f", script.name, str(image)])
    # debugfs ends with 0 whatever happened, and says on its standard error what did, after a line with its version.
    complaints = [line for line in talk.splitlines()[1:] if FOLDER_EXISTS not in line]
    if complaints:
        leave(f"debugfs could not write {image}: {complaints[0]}", code=1)
    call(["e2fsck", "-f", "-n", str(image)])


def make_xfs(image: Path, size: int, identity: UUID, entries: Sequence[Entry]) -> None:
    """A new XFS image of `size` bytes that holds the entries; those with a space in their path are left out."""
    with image.open("wb") as file:
        file.truncate(size)
    with tempfile.NamedTemporaryFile("w", suffix=".proto") as prototype:
        # mkfs.xfs splits its prototype at spaces, and knows no quotes
        named = [entry for entry in entries if " " not in str(entry.path)]
        prototype.writelines(f"{line}\n" for line in prototype_lines(named))
        prototype.flush()
        call(["mkfs.xfs", "-q", "-m", f"uuid={identity}", "-p", prototype.name, str(image)])


def prototype_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """What mkfs.xfs is told: a tree, where `$` closes a folder. Folders hold their files in the order of the entries."""
    tree: dict[str, object] = {}
    for entry in entries:
        place = tree
        for part in entry.path.parts[1:-1]:
            place = place.setdefault(part, {})  # type: ignore[assignment]  # a tree of dicts has no finite type
        place[entry.path.name] = entry.source
    yield from ("/dev/null", "0 0", "d--755 0 0")
    yield from tree_lines(tree)


def tree_lines(tree: Mapping[str, object]) -> Iterator[str]:
    """The lines of one folder, and of those below it."""
    for name, content in tree.items():
        if isinstance(content, Mapping):
            yield f"{name} d--755 0 0"
            yield from tree_lines(content)
        else:
            yield f"{name} ---644 0 0 {content}"
    yield "$"


def folders(entries: Iterable[Entry]) -> list[PurePosixPath]:
    """All folders above the entries, each once, parents first."""
    found: dict[PurePosixPath, None] = {}
    for entry in entries:
        found.update(dict.fromkeys(reversed([above for above in entry.path.parents if above != ROOT_FOLDER])))
    return list(found)


def quoted(path: PurePath | str) -> str:
    """A word of debugfs."""
    assert not set('"\n') & set(str(path)), path
    return f'"{path}"'


def call(command: Sequence[str], more: Mapping[str, str] | None = None) -> str:
    """Run a program to its end; its standard error. Leaves when it fails."""
    environment = {**os.environ, "PATH": search_path(), "LC_ALL": "C", **(more or {})}
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        leave(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}", code=1)
    return done.stderr


def search_path() -> str:
    """PATH, with the folders where Debian keeps these programs from those who are not root."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
