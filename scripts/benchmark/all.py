"""All parts of the benchmark in turn, each in a process of its own."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from benchmark.measure import ROOT, say

ALL: Final = ("compare", "image", "s3", "size", "volume", "node", "kalec")


def main(words: Sequence[str]) -> int:
    """Run every part, whatever became of those before it; 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="scripts/bench all", description="Run every part of the benchmark in turn")
    parser.add_argument("--check", action="store_true", help="exit 1 when a target of any part is missed")
    options = parser.parse_args(words)
    failed = [part for part in ALL if run_part(part, ["--check"] if options.check else []) != 0]
    if failed:
        say(f"scripts/bench: failed: {', '.join(failed)}")
    return 1 if failed else 0


def run_part(part: str, words: Sequence[str]) -> int:
    """How it ended."""
    print(f"# scripts/bench {part}", flush=True)
    return subprocess.run([sys.executable, str(ROOT / "scripts" / "bench"), part, *words]).returncode
