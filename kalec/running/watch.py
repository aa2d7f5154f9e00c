"""What people see of a run: a table that changes, on a terminal; a line for each change, elsewhere."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from kalec.running.schedule import Progress, State

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

COLOURS: Final = {State.RUNNING: "cyan", State.DONE: "green", State.KNOWN: "green", State.FAILED: "red"}


class Lines:
    """A line on stderr for each step that starts or ends; for logs."""

    def __init__(self) -> None:
        self._told: dict[str, State] = {}

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, steps: Mapping[str, Progress]) -> None:
        """Tell what has changed since the last call."""
        for name, progress in steps.items():
            if progress.state is not self._told.get(name, State.WAITING):
                self._told[name] = progress.state
                sys.stderr.write(f"{name}: {_sentence(progress)}\n")
                sys.stderr.flush()


class LiveTable:
    """A table of all steps on the terminal, which stays there when the run has ended."""

    def __init__(self) -> None:
        self._live: Live | None = None

    def __enter__(self) -> "LiveTable":
        from rich.console import Console
        from rich.live import Live

        self._live = Live(
            console=Console(stderr=True), auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._live.__enter__()
        return self

    def __exit__(self, *cause: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*cause)

    def show(self, steps: Mapping[str, Progress]) -> None:
        """Draw the table anew."""
        if self._live is not None:
            self._live.update(_table(steps), refresh=True)


def on_terminal() -> bool:
    """Whether the table can be drawn."""
    return sys.stderr.isatty()


def size(amount: int) -> str:
    """Bytes for a person."""
    value = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"


def number_text(value: float | None) -> str:
    """A metric for a person; None is one that is no finite number."""
    return "nan" if value is None else f"{value:.6g}"


def failure_text(name: str, failure: Mapping[str, Any]) -> str:
    """What a person is told of a failed step: where, what, the way there through the cells, and what came in."""
    place = f"{failure['place']}: " if failure["place"] else ""
    text = f"step {name} failed: {place}{failure['error']}\n"
    text += "".join(f"  {line}\n" for line in failure["traceback"].splitlines())
    if failure["values"]:
        text += "the values that came in:\n"
        text += "".join(f"  {variable} = {summary}\n" for variable, summary in failure["values"].items())
    return text


def _sentence(progress: Progress) -> str:
    match progress.state:
        case State.DONE:
            used = f" in {progress.seconds:.1f} s, {size(progress.memory)}"
            numbers = "".join(f", {name}={value:.6g}" for name, value in progress.metrics.items())
            return f"done{used}{numbers}"
        case State.WAITING if progress.attempts:
            return f"failed, and is tried again (attempt {progress.attempts + 1})"
        case State.FAILED:
            return f"failed after {progress.seconds:.1f} s"
        case _:
            return str(progress.state)


def _table(steps: Mapping[str, Progress]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("STEP", "STATE"):
        table.add_column(heading)
    for heading in ("TIME", "MEMORY"):
        table.add_column(heading, justify="right")
    table.add_column("METRICS")
    for name, progress in steps.items():
        ran = progress.attempts > 0
        table.add_row(
            name,
            str(progress.state),
            f"{progress.seconds:.1f} s" if ran else "",
            size(progress.memory) if ran else "",
            "  ".join(f"{metric}={value:.6g}" for metric, value in progress.metrics.items()),
            style=COLOURS.get(progress.state, "dim"),
        )
    return table
