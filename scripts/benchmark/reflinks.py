"""A filesystem with reflinks, where the machine lets us have one; and a volume in it that changes as a disk does, in place."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmark.measure import MIB, data_extents, say

ROOM: Final = 512 * MIB  # beyond what the image and its change take
STEP: Final = MIB
BLOCK: Final = 4096


@contextmanager
def reflinks(folder: Path, size: int) -> Iterator[Path | None]:
    """A mounted XFS with room for `size` bytes below a folder; None, and a word about why, where that cannot be."""
    disk, place = folder / "xfs", folder / "reflinks"
    if os.geteuid() != 0 or not shutil.which("mkfs.xfs"):
        say("no filesystem with reflinks: that takes root, and mkfs.xfs of xfsprogs")
        yield None
        return
    with disk.open("wb") as file:
        file.truncate(size + ROOM)
    place.mkdir()
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", disk], check=True)
    mounted = subprocess.run(["mount", "-o", "loop", disk, place], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        say(f"no filesystem with reflinks: {mounted.stderr.strip()}")
        yield None
    else:
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)
    disk.unlink()
    place.rmdir()


def change_in_place(head: Path, later: Path) -> None:
    """Write to a volume's file the blocks in which a later image differs, and nothing else."""
    with later.open("rb", buffering=0) as image, head.open("r+b", buffering=0) as volume:
        starts = {start for file in (image, volume) for start in _steps(file.fileno())}
        for start in sorted(starts):
            wanted, present = os.pread(image.fileno(), STEP, start), os.pread(volume.fileno(), STEP, start)
            if wanted != present:
                for at in range(0, len(wanted), BLOCK):
                    if wanted[at : at + BLOCK] != present[at : at + BLOCK]:
                        os.pwrite(volume.fileno(), wanted[at : at + BLOCK], start + at)
        os.fsync(volume.fileno())


def _steps(file: int) -> Iterator[int]:
    for start, end in data_extents(file):
        yield from range(start // STEP * STEP, end, STEP)
