"""What a small push, a check and a collection take in a repository of some size: whole commands, as a node runs them."""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmark.madeup import environment
from benchmark.measure import MIB, Cost, clean_environment, in_another_process, leave, rokctl, run, say

COMMANDS: Final = ("push", "check", "first gc", "gc")
PUSH: Final = ("snapshot", "push")
CHECK: Final = ("repo", "check")
FORGET: Final = ("version", "forget", "bench/small", "--keep-last", "1")
COLLECT: Final = ("repo", "gc", "--grace", "0")
VOLUME: Final = 8 * MIB
CHANGE: Final = MIB


def measure_commands(folder: Path) -> dict[str, Any]:
    """Each command, and its cost. Beside what is there, a small volume is pushed, changed, pushed again and forgotten."""
    node = _Node(folder)
    node.change("first")
    node.prepare((*PUSH, "bench/small@first"))
    node.change("second")
    node.measure("push", *PUSH, "bench/small@second")
    node.measure("check", *CHECK)
    node.prepare(FORGET)
    # The first one on a node makes its marks from all maps; the others know what they were of.
    node.measure("first gc", *COLLECT)
    node.change("third")
    node.prepare((*PUSH, "bench/small@third"), FORGET)
    node.measure("gc", *COLLECT)
    return {name: asdict(cost) for name, cost in node.costs.items()}


def seconds_of_commands(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table for people: whole commands, by the clock and of the processor, and the most memory."""
    line = ("{:>10}" + "{:>22}" * len(COMMANDS)).format
    yield line("chunks", *COMMANDS)
    for row in rows:
        costs = (row["commands"][name] for name in COMMANDS)
        yield line(row["chunks"], *(f"{c['wall']:.2f}/{c['cpu']:.2f} {c['peak'] / MIB:.0f}" for c in costs))
    yield "whole commands: seconds by the clock and of the processor, MiB of memory; a collection that makes marks, and the next"


class _Node:
    """A node with a small volume in a directory pool."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = {**clean_environment(), **environment(folder)}
        self._chosen = random.Random(2026)  # the same each time
        self.costs: dict[str, Cost] = {}
        image = folder / "image"
        image.write_bytes(self._chosen.randbytes(VOLUME))
        made = ("pool", "create", "bench", "--dir", str(folder / "pool"))
        self.prepare(made, ("volume", "import", "bench/small", str(image)))

    def change(self, snapshot: str) -> None:
        """Write to the volume, and take a snapshot."""
        with (self._folder / "pool" / "volumes" / "small" / "head.raw").open("r+b") as file:
            file.seek(self._chosen.randrange(VOLUME - CHANGE) // 4096 * 4096)
            file.write(self._chosen.randbytes(CHANGE))
        self.prepare(("snapshot", "create", f"bench/small@{snapshot}"))

    def prepare(self, *commands: Sequence[str]) -> None:
        """Run commands that are not measured, in one process: the start of each would take longer than itself."""

        def work() -> None:
            from rokctl.cli import run as run_command

            for words in commands:
                if run_command([*words, "--quiet"], self._environment) != 0:
                    leave(f"`rokctl {' '.join(words)}` failed", code=1)

        in_another_process(work)

    def measure(self, name: str, *words: str) -> None:
        """Run one, and note what it took."""
        os.sync()  # nobody pays for what another wrote
        _, self.costs[name] = run(rokctl(*words), self._environment, self._folder)
        say(f"  {name}: {self.costs[name].wall:.3f} s")
