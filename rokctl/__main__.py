"""The program `rokctl`."""

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from kalec.stdout import buffer_stdout


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    # Before `run` and after it nothing is held, and a signal may simply end the process: Python would print a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    buffer_stdout()
    gc.disable()  # what is imported stays: no collection finds anything in it, now or later
    from rokctl.cli import run

    gc.freeze()
    gc.enable()
    _leave(run(sys.argv[1:]))


def _leave(code: int) -> NoReturn:
    """End the process, and leave its memory to the kernel: to take the interpreter apart is a tenth of a short command."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):  # `run` has flushed the results, and said what became of that
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
