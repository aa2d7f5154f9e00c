"""Filesystems that this process can see mounted, by the device below: from /proc/self/mountinfo, see proc(5)."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_TABLE: Final = Path("/proc/self/mountinfo")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def mount_point(device: str) -> str | None:
    """Where the filesystem on a device is mounted, or None. It may yet be, in another namespace, or as a part of btrfs."""
    try:
        number = Path(device).stat().st_rdev
        table = _TABLE.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return parse_mounts(table).get(f"{os.major(number)}:{os.minor(number)}")


def write_back(devices: Iterable[str]) -> None:
    """Write out what the filesystems on these devices hold in memory, as far as they are found mounted.

    What freezes them soon after has little left to write, and keeps their users waiting for so much less.
    """
    for place in filter(None, map(mount_point, devices)):
        from engine.native import sync_filesystem

        with suppress(OSError):  # the freeze will tell
            folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sync_filesystem(folder)
            finally:
                os.close(folder)


def parse_mounts(table: str) -> dict[str, str]:
    """A mount point for each device `MAJOR:MINOR` of a table; lines of another form are passed over."""
    lines = (line.split(" ") for line in table.splitlines())
    return {fields[2]: _ESCAPE.sub(_character, fields[4]) for fields in lines if len(fields) > 6}


def _character(match: "re.Match[str]") -> str:
    return chr(int(match.group(1), 8) & 0xFF)
