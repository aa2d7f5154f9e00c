"""What lies on a block device or in a file: the filesystem, or whatever else would be lost."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Final

from engine.device.base import Filesystem
from engine.device.tool import attempt, complaint, run
from engine.errors import Failed

_NOTHING_FOUND: Final = 2
_SEVERAL_FOUND: Final = 8  # blkid will not choose between two filesystems, and neither will we
_PLAIN_WORDS: Final = {
    "LVM2_member": "an LVM physical volume",
    "crypto_LUKS": "a LUKS encrypted volume",
    "linux_raid_member": "a member of a RAID array",
    "swap": "swap space",
    "zfs_member": "a member of a ZFS pool",
    "dos": "a partition table (MBR)",
    "PMBR": "a partition table (the protective MBR of a GPT)",
    "gpt": "a partition table (GPT)",
}


def probe(path: str) -> Filesystem | None:
    """The filesystem at the start of a device or file; None when there is none, or more than one.

    It looks at the device itself, not at a cache. Raises Failed when the device cannot be read.
    """
    argv = ("blkid", "--probe", "--usages", "filesystem", "--output", "export", path)
    output = attempt(*argv)
    if output.status in (_NOTHING_FOUND, _SEVERAL_FOUND):
        _check_readable(path)
        return None
    if output.status != 0:
        raise Failed(complaint(argv, output.status, output.stderr))
    found = dict(line.split("=", 1) for line in output.stdout.splitlines() if "=" in line)
    if "TYPE" not in found:
        return None
    return Filesystem(found["TYPE"], _unescaped(found.get("LABEL", "")), _unescaped(found.get("UUID", "")))


def signatures(path: str) -> list[str]:
    """All that `wipefs` recognises on a device, in plain words: `a filesystem (ext4) labelled 'photos'`.

    Empty when nothing is recognised; that is no promise that the device is empty.
    """
    return parse_signatures(run("wipefs", "--json", "--output", "TYPE,USAGE,LABEL", path) or "{}")


def parse_signatures(report: str) -> list[str]:
    """What the JSON of `wipefs` tells, in plain words. Raises Failed when it is none."""
    try:
        found = json.loads(report).get("signatures", [])
        words = [_described(*(str(entry.get(name) or "") for name in ("type", "usage", "label"))) for entry in found]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Failed(f"wipefs wrote a report that cannot be read: {error}") from error
    return list(dict.fromkeys(words))  # a GPT has two copies


def is_held(path: str) -> bool:
    """Whether a block device is mounted, or under another device, in any namespace: then an exclusive open fails."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise Failed(f"cannot open {path}: {error.strerror}") from error
    return False


def _described(kind: str, usage: str, label: str) -> str:
    if kind in _PLAIN_WORDS:
        described = _PLAIN_WORDS[kind]
    elif usage == "filesystem":
        described = f"a filesystem ({kind})"
    elif usage == "partition-table":
        described = f"a partition table ({kind})"
    else:
        described = f"a signature of {kind}"
    return f"{described} labelled {label!r}" if label else described


def _check_readable(path: str) -> None:
    """Tell an empty device from one that blkid could not open: it gives 2 for both."""
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise Failed(f"cannot read {path}: {error.strerror}") from error


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
