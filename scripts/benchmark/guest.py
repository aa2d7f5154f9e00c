"""What runs inside User Mode Linux for `scripts/bench node`: snapshots, groups and daily pushes on a real kernel.

    python -m benchmark.guest OPTIONS.json RESULT.json

It is process after process, as a person or a timer would start them. Its disks: /dev/ubda for LVM, /dev/ubdb for
repositories, /dev/ubdc with XFS for files that share their bytes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmark.measure import PASSPHRASE, Cost, clean_environment, leave, rokctl, rokctl_state, run

LVM_DISK: Final = "/dev/ubda"
REPOSITORY_DISK: Final = "/dev/ubdb"
FILES_DISK: Final = "/dev/ubdc"
PLACE: Final = Path("/run/bench")


@dataclass(frozen=True, slots=True)
class Guest:
    """Where the processes of a measurement find what they need."""

    folder: Path
    environment: Mapping[str, str]

    def rokctl(self, *words: str) -> tuple[Any, Cost]:
        """A command: the last object that it printed, and what it took."""
        said, cost = run(rokctl(*words), self.environment, self.folder)
        lines = said.splitlines()
        return json.loads(lines[-1]) if lines else None, cost

    def run(self, *words: str) -> Cost:
        """Any program, and what it took."""
        return run(words, self.environment, self.folder)[1]


def main(words: Sequence[str]) -> None:
    """All measurements, and the file with what they gave."""
    options = json.loads(Path(words[0]).read_text())
    guest = make_guest()
    from benchmark import guest_push, guest_snapshot  # the parts, which need this module

    result = {"snapshot": guest_snapshot.measure(guest, options["runs"])}
    if options["push"]:
        result |= guest_push.measure(guest, options)
    Path(words[1]).write_text(json.dumps(result))


def make_guest() -> Guest:
    """Mount the disks, and let bytecode be kept: users have it."""
    for place, kind, disk in (("repositories", "ext4", REPOSITORY_DISK), ("files", "xfs", FILES_DISK)):
        (PLACE / place).mkdir(parents=True)
        sh("mount", "-t", kind, disk, str(PLACE / place))
    (PLACE / "passphrase").write_text(f"{PASSPHRASE}\n")
    environment = {
        **clean_environment(),
        **rokctl_state(PLACE),
        "PYTHONPYCACHEPREFIX": str(PLACE / "bytecode"),
        "RESTIC_PASSWORD_FILE": str(PLACE / "passphrase"),
        "RESTIC_CACHE_DIR": str(PLACE / "restic-cache"),
        "ROKCTL_REPOSITORY": str(PLACE / "repositories" / "rokctl"),
        "RESTIC_REPOSITORY": str(PLACE / "repositories" / "restic"),
    }
    return Guest(PLACE, environment)


def sh(*argv: str) -> str:
    """Run a program that is not measured; leaves when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        leave(f"`{' '.join(argv)}` failed in the guest: {done.stderr.strip()}", code=1)
    return done.stdout


def drop_caches() -> None:
    """Write all out and forget it, so that a device is read again."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


if __name__ == "__main__":
    main(sys.argv[1:])
