"""Compiling notebooks, and a step of a local run, beside Kale 2.3: the CPU that they take.

Each measurement is a process of its own, through the real command line; its user and system time is counted, that of its
children too, and the least of all runs is shown: other work on the machine only adds. Kale and its example notebooks come
from its wheel, in an environment of its own (.venv-kale, made when it is missing).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmark.measure import ROOT, exit_code

KALE: Final = "kubeflow-kale==2.3.0"
CELLS: Final = 500
STEPS: Final = 10

# The targets of --check, in CPU seconds.
SHARE_OF_KALE: Final = 0.1
ONE_NOTEBOOK: Final = 0.2
MANY_CELLS: Final = 1.0
ONE_STEP: Final = 0.3


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    kalec: float
    kale: float | None = None
    target: float | None = None  # for kalec
    share: float | None = None  # of Kale's, which kalec may take


def main(words: Sequence[str]) -> int:
    """Measure everything, and print the table."""
    options = parse(words)
    kale = options.kale or make_kale()
    notebooks = sorted(kale.parents[1].glob("lib/python3*/site-packages/kale/tests/assets/notebooks/*.ipynb"))
    if not notebooks:
        sys.exit(f"scripts/bench kalec: {kale} has no notebooks of Kale beside it")
    with tempfile.TemporaryDirectory(prefix="kalec-bench-") as name:
        rows = measure(Path(name), notebooks, kale, options.runs)
    print(json.dumps([asdict(row) for row in rows]) if options.json else table(rows))
    failures = missed(rows) if options.check else []
    return exit_code(failures, "kalec")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench kalec", description="Measure kalec beside Kale 2.3")
    parser.add_argument("--runs", type=int, default=5, help="measure everything so often (default 5)")
    parser.add_argument("--kale", type=Path, help=f"the Python of an environment with {KALE} (default: one is made)")
    parser.add_argument("--json", action="store_true", help="print one JSON array and no table")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args(words)
    if options.runs < 1:
        parser.error("--runs starts at 1")
    return options


def make_kale() -> Path:
    """The Python of an environment with Kale."""
    folder = ROOT / ".venv-kale"
    python = folder / "bin" / "python"
    if not (folder / "bin" / "kale").exists():
        print(f"scripts/bench kalec: installing {KALE} into {folder.name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", KALE], check=True)
    return python


def measure(folder: Path, notebooks: Sequence[Path], kale: Path, runs: int) -> list[Row]:
    """All rows. Both programs work on copies, in folders of their own."""
    large = folder / f"{CELLS}-cells.ipynb"
    large.write_text(notebook(CELLS // 10, 10), encoding="utf-8")
    chain = folder / "chain.ipynb"
    chain.write_text(notebook(STEPS, 1), encoding="utf-8")
    rows = []
    for source in (*notebooks, large):
        copy = folder / f"copy-{source.name}"
        copy.write_bytes(source.read_bytes())
        ours = cpu_seconds([*kalec(), "compile", str(copy), "-o", str(folder / "out.yaml")], folder, runs)
        theirs = cpu_seconds([str(kale.with_name("kale")), "--nb", str(copy)], folder, 1 if source is large else runs)
        limit = MANY_CELLS if source is large else ONE_NOTEBOOK
        share = None if source is large else SHARE_OF_KALE
        rows.append(Row(f"compile {source.stem}", ours, theirs, limit, share))
    run = cpu_seconds([*kalec(), "run", str(chain), "--no-cache", "--jobs", "1"], folder, runs)
    nothing = cpu_seconds([*kalec(), "--version"], folder, runs)
    rows.append(Row(f"run, a step of {STEPS}", (run - nothing) / STEPS, None, ONE_STEP))
    return rows


def kalec() -> list[str]:
    """The command `kalec` of this tree."""
    python = ROOT / ".venv" / "bin" / "python"
    return [str(python if python.exists() else sys.executable), "-m", "kalec"]


def cpu_seconds(command: Sequence[str], folder: Path, runs: int) -> float:
    """The least user and system time of a command, its children's too."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode on disk
    seconds = []
    for _ in range(runs):
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(
                f"scripts/bench kalec: {' '.join(command)} failed:\n{(folder / 'log').read_text(errors='replace')}"
            )
        seconds.append(usage.ru_utime + usage.ru_stime)
    return min(seconds)


def notebook(steps: int, cells: int) -> str:
    """A notebook of a chain of steps, each of so many cells."""
    made = [cell(["imports"], "import math\n")]
    for step in range(steps):
        tags = [f"step:s{step}", *([f"prev:s{step - 1}"] if step else [])]
        for number in range(cells):
            before = f"v{step}_{number - 1}" if number else f"v{step - 1}_{cells - 1}" if step else "1"
            source = f"v{step}_{number} = [math.sqrt(n) for n in range(3)] and {before}\n"
            made.append(cell(tags if number == 0 else [], source))
    metadata = {"kubeflow_notebook": {"pipeline_name": "bench", "experiment_name": "bench", "volumes": []}}
    return json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def cell(tags: list[str], source: str) -> dict[str, object]:
    """A code cell."""
    empty: dict[str, object] = {"outputs": [], "execution_count": None}
    return {"cell_type": "code", "id": f"c{hash_of(source)}", "metadata": {"tags": tags}, "source": source} | empty


def hash_of(text: str) -> str:
    """A short id that is the same every time."""
    return f"{sum(ord(character) * (place + 1) for place, character in enumerate(text)):x}"


def table(rows: Sequence[Row]) -> str:
    """The rows for a person."""
    lines = [f"{'CPU seconds':<44} {'kalec':>8} {'Kale 2.3':>9} {'ratio':>7}"]
    for row in rows:
        other = f"{row.kale:>9.2f} {row.kalec / row.kale:>7.3f}" if row.kale else f"{'':>9} {'':>7}"
        lines.append(f"{row.what:<44} {row.kalec:>8.3f} {other}")
    return "\n".join(lines)


def missed(rows: Sequence[Row]) -> list[str]:
    """The targets that were missed, in sentences."""
    found = []
    for row in rows:
        if row.target is not None and row.kalec > row.target:
            found.append(f"{row.what} took {row.kalec:.2f} CPU s, and may take {row.target}")
        if row.kale and row.share is not None and row.kalec > row.share * row.kale:
            found.append(f"{row.what} took {row.kalec / row.kale:.3f} of Kale's CPU, and may take {row.share}")
    return found
