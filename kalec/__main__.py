"""The program `kalec`."""

import gc
import signal
import sys

from kalec.stdout import buffer_stdout


def main() -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(50_000)  # a short life: nearly all that is made at the start stays to the end
    # Before `run` and after it nothing is held, and a signal may simply end the process: Python would print a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    buffer_stdout()
    from kalec.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
