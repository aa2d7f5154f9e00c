"""What can go wrong in a step, told for the person who wrote the notebook."""

from __future__ import annotations

from typing import Any


class StepError(Exception):
    """A step cannot go on; the text says what, where, why, and what to do."""


class CannotMarshal(StepError):
    """A variable holds something that no other process can be given."""


class DamagedValue(StepError):
    """A stored value is not what was stored, or is not there."""


class CellFailed(StepError):
    """Code of the notebook raised an exception. The text has the whole traceback, but for the frames of the runtime."""

    def __init__(self, place: str, error: str, whole: str, traceback: str, values: dict[str, str]) -> None:
        """`place` is that of the last line in the cell, `traceback` has the frames of cells alone.

        `values` has a line for each variable that the step took in.
        """
        shown = "".join(f"\n  {name} = {summary}" for name, summary in values.items())
        super().__init__(f"{place}: {error}\n\n{whole}" + (f"\nvalues that came in:{shown}\n" if shown else ""))
        self.place, self.error, self.traceback, self.values = place, error, traceback, values


def summary(value: Any) -> str:
    """A short line about a value, for a person. Runs no code of the notebook."""
    kind = type(value)
    if kind in (type(None), bool, int, float, complex, str, bytes):
        text = repr(value) if kind is not int or value.bit_length() < 1000 else f"int of {value.bit_length()} bits"
        return text if len(text) <= 60 else text[:57] + "..."
    if kind in (list, tuple, dict, set, frozenset):
        return f"{kind.__name__} of {len(value)}"
    name = (
        kind.__qualname__ if kind.__module__ in ("__main__", "builtins") else f"{kind.__module__}.{kind.__qualname__}"
    )
    if kind.__module__.partition(".")[0] in ("numpy", "pandas", "scipy", "torch"):
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        name += f" {tuple(shape)}" if shape is not None else ""
        name += f" {dtype}" if dtype is not None else ""
    return name
