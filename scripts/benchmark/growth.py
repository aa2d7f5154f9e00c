"""What a small push, a check and a collection take in a repository of some size: whole commands, as a node runs them."""

import json
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmark.madeup import environment
from benchmark.measure import MIB, ROOT, Cost, clean_environment, run, say

COMMANDS: Final = ("push", "check", "first gc", "gc")
VOLUME: Final = 8 * MIB
CHANGE: Final = MIB


def measure_commands(folder: Path) -> dict[str, Any]:
    """Each command, and its cost. Beside what is there, a small volume is pushed, changed, pushed again and forgotten."""
    node = Node(folder)
    node.push("first")
    row = {"push": node.push("second"), "check": node.rokctl("repo", "check")[1]}
    node.forget()
    # The first one on a node makes its marks from all maps; the others know what they were of.
    row["first gc"] = node.collect()
    node.push("third")
    node.forget()
    row["gc"] = node.collect()
    for name, cost in row.items():
        say(f"  {name}: {cost.wall:.3f} s")
    return {name: asdict(cost) for name, cost in row.items()}


def seconds_of_commands(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table for people: whole commands, by the clock and of the processor, and the most memory."""
    line = ("{:>10}" + "{:>22}" * len(COMMANDS)).format
    yield line("chunks", *COMMANDS)
    for row in rows:
        costs = (row["commands"][name] for name in COMMANDS)
        yield line(row["chunks"], *(f"{c['wall']:.2f}/{c['cpu']:.2f} {c['peak'] / MIB:.0f}" for c in costs))
    yield "whole commands: seconds by the clock and of the processor, MiB of memory; a collection that makes marks, and the next"


class Node:
    """A node with a small volume in a directory pool."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**clean_environment(), "PYTHONPATH": str(ROOT), **environment(folder)}
        self._chosen = random.Random(2026)  # the same each time
        image = folder / "image"
        image.write_bytes(self._chosen.randbytes(VOLUME))
        self.rokctl("pool", "create", "bench", "--dir", str(folder / "pool"))
        self.rokctl("volume", "import", "bench/small", str(image))
        self._path = Path(self.rokctl("volume", "show", "bench/small")[0]["path"])

    def push(self, snapshot: str) -> Cost:
        """Change the volume, and push it."""
        with self._path.open("r+b") as file:
            file.seek(self._chosen.randrange(VOLUME - CHANGE) // 4096 * 4096)
            file.write(self._chosen.randbytes(CHANGE))
        self.rokctl("snapshot", "create", f"bench/small@{snapshot}")
        return self.rokctl("snapshot", "push", f"bench/small@{snapshot}")[1]

    def forget(self) -> None:
        """Leave no version of it but the newest."""
        self.rokctl("version", "forget", "bench/small", "--keep-last", "1")

    def collect(self) -> Cost:
        """Condemn what is dead, and delete it."""
        return self.rokctl("repo", "gc", "--grace", "0")[1]

    def rokctl(self, *words: str) -> tuple[Mapping[str, Any], Cost]:
        """The last line of JSON, and what it took."""
        os.sync()  # nobody pays for what another wrote
        output, cost = run([sys.executable, "-m", "rokctl", "--json", *words], self._environment, self._folder)
        lines = output.splitlines()
        return json.loads(lines[-1]) if lines else {}, cost
