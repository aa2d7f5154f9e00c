"""The bar that a person at a terminal sees while bytes move: how much, how fast, how long still."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


@contextmanager
def progress_bar(*, wanted: bool) -> Iterator[Progress]:
    """A bar on stderr; nothing at all when it is not wanted, or stderr is no terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield Silent()
        return
    bar = _make_bar()
    try:
        yield Bar(bar)
    finally:
        bar.stop()


class Bar:
    """A `Progress` that draws each phase as a line. Its calls come from any thread, and only add up numbers.

    Between phases nothing is drawn, so that results which are printed there come out as they are, and are not folded.
    """

    def __init__(self, bar: "RichProgress") -> None:
        self._bar = bar
        self._lock = threading.Lock()
        self._phases: list[TaskID] = []

    def begin(self, activity: str, total: int | None) -> None:
        """Add a line; a total that is not known is drawn as such."""
        with self._lock:
            if not self._phases:
                self._bar.start()
            self._phases.append(self._bar.add_task(activity, total=total))

    def advance(self, amount: int) -> None:
        """Count for the phase that began last."""
        with self._lock:
            if self._phases:
                self._bar.advance(self._phases[-1], amount)

    def end(self) -> None:
        """Take the line of the phase that began last away."""
        with self._lock:
            if self._phases:
                self._bar.remove_task(self._phases.pop())
            if not self._phases:
                self._bar.stop()


def _make_bar() -> "RichProgress":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return RichProgress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=5)
