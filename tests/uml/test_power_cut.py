"""The power fails while snapshots are taken: every process of a guest is killed, and it boots again from the same disk."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.units import MIB

REPOSITORY = Path(__file__).parents[2]
UML = REPOSITORY / "scripts" / "uml"
WRITER = Path(__file__).with_name("writer_in_guest.py")
CUTS = 2

pytestmark = [
    pytest.mark.kernel_host,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.environ.get("ROKCTL_TEST_KERNEL") != "uml-host" or shutil.which("linux.uml") is None,
        reason="run it by scripts/test-kernel",
    ),
]


def guest(disk: Path, share: Path, *arguments: str | Path) -> list[str]:
    python = ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, str(WRITER), *map(str, arguments)]
    return [str(UML), "--seconds", "120", "--disk", str(disk), "--share", str(share), "--", *python]


def test_snapshots_that_were_acknowledged_survive_power_cuts_and_none_is_half_there(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    disk, share = tmp_path / "disk", tmp_path / "share"
    with disk.open("wb") as file:
        file.truncate(2048 * MIB)  # all snapshots fit, though every byte is written anew between them
    share.mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # a guest that is killed leaves its files there
    log = share / "log"
    log.touch()

    for cut in range(CUTS):
        enough = len(log.read_text().splitlines()) + chance.randrange(3, 8)
        running = subprocess.Popen(
            guest(disk, share, log), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        while len(log.read_text().splitlines()) < enough and running.poll() is None:
            time.sleep(0.05)
        time.sleep(chance.random() * 1.5)
        running.kill()
        output, _ = running.communicate()
        assert len(log.read_text().splitlines()) >= enough, f"the guest died by itself: {output}"

        checked = subprocess.run(guest(disk, share, "--check", log), capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"after cut {cut} with seed {seed}: {checked.stdout}{checked.stderr}"


def test_the_exit_code_of_the_command_passes_through(tmp_path: Path) -> None:
    for command, code in ((["true"], 0), (["sh", "-c", "exit 7"], 7)):
        assert (
            subprocess.run([UML, "--seconds", "60", "--", *command], capture_output=True, check=False).returncode
            == code
        )


def test_a_guest_that_takes_too_long_is_killed_whole_and_writes_to_its_share_alone(tmp_path: Path) -> None:
    script = f"echo here >{tmp_path}/seen; echo gone >{REPOSITORY}/not-written; sleep 100"
    command = [UML, "--seconds", "12", "--share", tmp_path, "--", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 99
    assert "killed after 12 s" in done.stderr
    assert (tmp_path / "seen").read_text() == "here\n"
    assert not (REPOSITORY / "not-written").exists()
