"""The power fails while a volume is restored in place: it never passes for whole when it is not."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from engine.units import MIB
from tests.uml.test_power_cut import REPOSITORY, UML
from tests.uml.test_power_cut import pytestmark as _marks

CUTS = 3
RESTORER = Path(__file__).with_name("restorer_in_guest.py")

pytestmark = _marks


def guest(disk: Path, share: Path, *arguments: str) -> list[str]:
    python = ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, str(RESTORER), *arguments]
    return [str(UML), "--seconds", "150", "--disk", str(disk), "--share", str(share), "--", *python]


def test_a_restore_that_lost_its_power_says_so_and_is_taken_up_again(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    disk, share = tmp_path / "disk", tmp_path / "share"
    with disk.open("wb") as file:
        file.truncate(1024 * MIB)
    share.mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    log = share / "log"
    log.touch()
    found = []

    for cut in range(CUTS):
        written = log.read_text().count("writing") + chance.randrange(1, 3)
        running = subprocess.Popen(
            guest(disk, share, str(share)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        while log.read_text().count("writing") < written and running.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.random() * 0.8)
        running.kill()
        output, _ = running.communicate()
        assert log.read_text().count("writing") >= written, f"the guest died by itself: {output}"

        checked = subprocess.run(guest(disk, share, "--check", str(share)), capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"after cut {cut} with seed {seed}: {checked.stdout}{checked.stderr}"
        found += [line for line in checked.stdout.splitlines() if line in ("unfinished", "whole")]
    assert len(found) == CUTS
    assert "unfinished" in found, f"no cut hit a restore, with seed {seed}"
