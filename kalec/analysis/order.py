"""The order of steps: that of the source, as far as their edges allow it."""

import graphlib
from collections.abc import Iterable, Mapping


def sort_steps(previous: Mapping[str, Iterable[str]]) -> tuple[list[str], list[str]]:
    """The steps in the order given, moved only where an edge demands it; and the steps of a cycle, when there is one."""
    sorter = graphlib.TopologicalSorter(
        {name: [p for p in before if p in previous] for name, before in previous.items()}
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        return list(previous), list(error.args[1])
    position = {name: number for number, name in enumerate(previous)}
    result: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=position.__getitem__)
        result.append(ready.pop(0))
        sorter.done(result[-1])
    return result, []
