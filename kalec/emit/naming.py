"""The names of a pipeline's parts in Kubernetes: of its tasks, and of the arguments that a step's program takes."""

import re
from collections.abc import Iterable


def task_names(steps: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """The KFP task of each step: its name with dashes, unlike all others and those reserved."""
    taken = set(reserved)
    return {step: unique(re.sub(r"[^a-z0-9]+", "-", step.lower()).strip("-") or "step", taken, "-") for step in steps}


def unique(name: str, taken: set[str], separator: str = "_") -> str:
    """`name`, or `name` with the first number that nobody has; it is taken from now on."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name}{separator}{number}", number + 1
    taken.add(found)
    return found
