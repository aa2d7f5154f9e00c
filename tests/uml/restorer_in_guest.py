"""Runs inside User Mode Linux until its power is cut: restores two versions in turn onto one volume.

restorer_in_guest.py FOLDER           each line of FOLDER/log was true before it was written: `begin NAME`, `done NAME`
restorer_in_guest.py --check FOLDER
"""

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

from engine.clock import SystemClock
from engine.device.base import Pool
from engine.device.lvm import find_pools
from engine.device.lvmcreate import create_pool
from engine.ops.restore import RestoreOptions, restore_to_volume
from engine.repo.repository import Repository
from engine.store.directory import DirectoryStore
from engine.units import MIB
from tests.repositories import content, findings, new_repository, push_snapshots, reopen, restore, snapshot, write
from tests.uml.writer_in_guest import run, say

DISK = "/dev/ubda"
SIZE = 64 * MIB
NAMES = ("even", "odd")


def main() -> None:
    if sys.argv[1] == "--check":
        check(Path(sys.argv[2]))
        return
    folder = Path(sys.argv[1])
    pool, repository = prepared(folder)
    versions = dict(zip(NAMES, repository.versions(), strict=True))
    with (folder / "log").open("a") as log:
        for name in itertools.cycle(reversed(NAMES)):
            say(log, f"begin {name}")
            restore_to_volume(
                repository,
                versions[name],
                versions[name].member(None),
                pool,
                "volume",
                in_place=True,
                options=RestoreOptions(workers=2),
                progress=Slow(log, name),
            )
            say(log, f"done {name}")


class Slow:
    """Says when the first byte was written, and makes the writing last, so that there is something to interrupt."""

    def __init__(self, log: TextIO, name: str) -> None:
        self._log, self._name = log, name

    def begin(self, activity: str, total: int | None) -> None:
        pass

    def advance(self, amount: int) -> None:
        if self._name:
            say(self._log, f"writing {self._name}")
            self._name = ""
        time.sleep(0.02)

    def end(self) -> None:
        pass


def prepared(folder: Path) -> tuple[Pool, Repository]:
    """The pool and the repository, made at the first boot: two snapshots of very different content, both pushed."""
    store = DirectoryStore(folder / "repository", create=True)
    found = find_pools()
    if found:
        run("vgchange", "-ay", "rok_tank")
        return found[0], reopen(store, clock=SystemClock())
    repository = new_repository(store, clock=SystemClock())
    pool = create_pool("tank", [DISK]).item
    pool.create_volume("volume", SIZE)
    chance = random.Random(4)
    for name in NAMES:
        write(pool, "volume", *((n * 2 * MIB, chance.randbytes(MIB)) for n in range(24)))
        push_snapshots(repository, snapshot(pool, name, "volume"))
    return pool, repository


def check(folder: Path) -> None:
    """After the power came back: the volume is one version in whole, or says which one is unfinished."""
    run("vgchange", "-ay", "rok_tank")
    pool = find_pools()[0]
    repository = reopen(DirectoryStore(folder / "repository"), clock=SystemClock())
    assert findings(repository, read_data=False) == ()
    versions = dict(zip(NAMES, repository.versions(), strict=True))
    log = (folder / "log").read_text().splitlines()
    word, last = log[-1].split()
    unfinished = pool.volume("volume").restoring
    if unfinished is None:
        # Done and not yet logged, or begun and not yet marked: then it is the one before; at first, what was written last.
        before = [line.split()[1] for line in log if line.startswith("done")] or ["odd"]
        possible = {last} if word == "done" else {last, before[-1]}
        assert content(pool, "volume") in {content(pool, "volume", name) for name in possible}
    else:
        assert word in ("begin", "writing")
        assert unfinished == versions[last].version
        refused = subprocess.run(
            [sys.executable, "-m", "rokctl", "snapshot", "create", "tank/volume@half"], capture_output=True, text=True
        )
        assert refused.returncode == 2, refused.stderr
        restore(repository, versions[last], pool, "volume")
        assert content(pool, "volume") == content(pool, "volume", last)
        assert pool.volume("volume").restoring is None
    sys.stdout.write("unfinished\n" if unfinished else "whole\n")


if __name__ == "__main__":
    main()
