"""Getting restic and borg: restic from Debian, borg from the package index into an environment of its own (.venv-peers).

Who is root gets what is missing installed. A peer that cannot be had is named, and everything else goes on without it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.measure import ROOT, say

PEERS: Final = ("restic", "borg")
BORG: Final = "borgbackup==1.4.5"
PLOT: Final = "matplotlib>=3.9"
ENVIRONMENT: Final = ROOT / ".venv-peers"
# What borg is built with: it has no wheel.
BORG_NEEDS: Final = (
    "gcc",
    "libacl1-dev",
    "liblz4-dev",
    "libssl-dev",
    "libxxhash-dev",
    "libzstd-dev",
    "pkg-config",
    "python3-dev",
)


def find_peers(names: Sequence[str], *, install: bool) -> dict[str, str]:
    """Where the programs of those peers are that can be had."""
    finders = {"restic": find_restic, "borg": find_borg}
    found = {}
    for name in names:
        executable = finders[name](install)
        if executable is None:
            say(f"{name} is not installed: its rows are left out")
        else:
            found[name] = executable
    return found


def find_restic(install: bool) -> str | None:
    """Of PATH, else by apt-get."""
    if shutil.which("restic") is None and install:
        install_debian(["restic"])
    return shutil.which("restic")


def find_borg(install: bool) -> str | None:
    """Of .venv-peers, else made there, else of PATH."""
    executable = ENVIRONMENT / "bin" / "borg"
    if not executable.exists() and install:
        install_debian(BORG_NEEDS)
        install_python(BORG)
    return str(executable) if executable.exists() else shutil.which("borg")


def plotting_python(*, install: bool) -> Path | None:
    """A Python with matplotlib, if it can be had."""
    python = ENVIRONMENT / "bin" / "python"
    known = (
        python.exists()
        and subprocess.run([python, "-c", "import matplotlib"], stderr=subprocess.DEVNULL).returncode == 0
    )
    if known or (install and install_python(PLOT)):
        return python
    say("matplotlib is not installed: nothing is drawn")
    return None


def draw(python: Path, kind: str, record: str, target: Path) -> None:
    """Have a record drawn, by the Python that `plotting_python` found."""
    command = [str(python), str(Path(__file__).with_name("plot.py")), kind, str(target)]
    subprocess.run(command, input=record, text=True, check=True)


def install_debian(packages: Sequence[str]) -> None:
    """By apt-get, as root. Who is not root has them or does without."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    say(f"installing {', '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-q", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode != 0:
            say(f"`apt-get {' '.join(words)}` ended with {done.returncode}: {last_line(done.stdout)}")


def install_python(requirement: str) -> bool:
    """Into .venv-peers. Did it go well?"""
    say(f"installing {requirement} into {ENVIRONMENT.name}")
    python = ENVIRONMENT / "bin" / "python"
    commands: list[list[str]] = [
        [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement]
    ]
    if not python.exists():
        commands.insert(0, [sys.executable, "-m", "venv", str(ENVIRONMENT)])
    for command in commands:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            say(f"`{' '.join(command)}` ended with {done.returncode}: {last_line(done.stdout)}")
            return False
    return True


def last_line(output: bytes) -> str:
    """What a program said last."""
    return (output.decode(errors="replace").strip().splitlines() or [""])[-1]
