"""Plots of what was measured, drawn by matplotlib in an environment of its own: nothing else here needs it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmark.measure import ROOT, leave, say

ENVIRONMENT: Final = ROOT / ".venv-peers"
PYTHON: Final = ENVIRONMENT / "bin" / "python"

# Runs in that environment: chunks, seconds and bytes by command from its input, a PNG under the name it is given.
DRAW: Final = """
import json, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as pyplot

given = json.load(sys.stdin)
figure, (time, memory) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for name, row in given["commands"].items():
    time.plot(given["chunks"], row["cpu"], marker="o", label=name)
    memory.plot(given["chunks"], [peak / (1 << 20) for peak in row["peak"]], marker="o", label=name)
time.plot(given["chunks"], [chunks / 1e6 for chunks in given["chunks"]], "--", color="gray", label="1 µs a chunk")
time.set(yscale="log", ylim=(0.1, None), ylabel="seconds of the processor, whole command")
memory.set(ylim=(0, None), ylabel="MiB of memory, at most")
for axes in (time, memory):
    axes.set(xscale="log", xlabel="chunks in the repository")
    axes.grid(alpha=0.3)
    axes.legend()
figure.savefig(sys.argv[1], format="png", dpi=110)
"""


def require_plots() -> None:
    """Have matplotlib where it is looked for, before anything is measured; leaves when it cannot be had."""
    if PYTHON.exists() and subprocess.run([PYTHON, "-c", "import matplotlib"], capture_output=True).returncode == 0:
        return
    say("installing matplotlib into .venv-peers")
    for command in (
        [sys.executable, "-m", "venv", str(ENVIRONMENT)],
        [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", "matplotlib"],
    ):
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            leave(f"matplotlib could not be installed, so nothing can be drawn: {done.stderr.strip()}", code=1)


def plot_growth(rows: Sequence[dict[str, Any]], target: Path) -> None:
    """What commands take against the size of the repository, as a PNG."""
    names = rows[0]["commands"]
    commands = {
        name: {figure: [row["commands"][name][figure] for row in rows] for figure in ("cpu", "peak")} for name in names
    }
    given = json.dumps({"chunks": [row["chunks"] for row in rows], "commands": commands})
    done = subprocess.run([PYTHON, "-c", DRAW, str(target)], input=given, text=True, stderr=subprocess.PIPE)
    if done.returncode != 0:
        leave(f"{target} could not be drawn: {done.stderr.strip()}", code=1)
    say(f"drawn: {target}")
