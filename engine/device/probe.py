"""What filesystem a device or file holds, as blkid sees it."""

import subprocess  # noqa: TID251 -- the device border may run programs
from typing import Final

from engine.device.base import Filesystem
from engine.errors import Failed

_NOTHING_FOUND: Final = 2


def probe(path: str) -> Filesystem | None:
    """The filesystem at the start of `path`, read from the disk, not from a cache; None when none is recognised.

    Raises Failed when blkid is missing, or cannot read.
    """
    command = ["blkid", "-p", "-o", "export", "--", path]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- no shell
    except FileNotFoundError as error:
        raise Failed("blkid is not installed", hint="install util-linux") from error
    if done.returncode == _NOTHING_FOUND:
        return None
    if done.returncode != 0:
        raise Failed(f"blkid failed on {path}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    fields = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if "TYPE" not in fields:
        return None  # a partition table, say
    return Filesystem(fields["TYPE"], fields.get("LABEL", ""), fields.get("UUID", ""))
