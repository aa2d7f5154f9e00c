"""A writer that notices when I/O stands still: it writes to devices in turn, past the page cache, and notes each moment.

    python -m benchmark.standstill FILE DEVICE...

On SIGTERM it leaves in FILE the monotonic time at which each write had finished, as array of doubles. It is preferred to
other processes, and rests a little between its writes, since there may be one processor for all: a gap between two moments
is then time that the device took, and not time in which the writer had no processor, or left none to others.
"""

import mmap
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Final

from benchmark.measure import ROOT

BLOCK: Final = 4096
REST: Final = 0.001


def main(words: Sequence[str]) -> None:
    """Write until SIGTERM."""
    moments = array("d")
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    with suppress(PermissionError):
        os.nice(-20)
    files = [os.open(name, os.O_RDWR | os.O_DIRECT) for name in words[1:]]
    page = mmap.mmap(-1, BLOCK)
    while not stopped:
        page[:8] = len(moments).to_bytes(8, "little")
        os.pwrite(files[len(moments) % len(files)], page, 0)
        moments.append(time.monotonic())
        time.sleep(REST)
    Path(words[0]).write_bytes(moments.tobytes())


@contextmanager
def writing(devices: Sequence[str], folder: Path) -> Iterator["array[float]"]:
    """The writer at work inside; afterwards the array holds the moments."""
    moments: array[float] = array("d")
    report = folder / "moments"
    report.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}"}
    command = [sys.executable, "-m", "benchmark.standstill", str(report), *devices]
    process = subprocess.Popen(command, env=environment)
    try:
        time.sleep(2)  # until it is well under way
        yield moments
    finally:
        process.terminate()
        process.wait()
    moments.frombytes(report.read_bytes())


def longest_gap(moments: Sequence[float], begun: float, ended: float) -> float:
    """The longest time, in seconds, that no write finished in, of the gaps that touch a stretch of time."""
    return max((after - before for before, after in pairwise(moments) if after > begun and before < ended), default=0.0)


if __name__ == "__main__":
    main(sys.argv[1:])
