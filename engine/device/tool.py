"""Running the programs that LVM, thin-provisioning-tools and util-linux bring."""

import os
import shutil
import subprocess  # noqa: TID251 - this is the border that may run programs
from contextlib import ExitStack
from typing import IO, BinaryIO, Final

from engine.errors import Failed
from engine.hand import shielded
from engine.values import dataclass

# Debian's name of the package that holds a program, for the hint of an error.
_PACKAGES: Final = {
    **dict.fromkeys(
        ("lvs", "pvs", "vgs", "lvcreate", "lvchange", "lvremove", "lvextend", "vgcreate", "pvcreate"), "lvm2"
    ),
    **dict.fromkeys(("thin_delta", "thin_dump"), "thin-provisioning-tools"),
    **dict.fromkeys(("blkid", "wipefs"), "util-linux"),
}
_SYSTEM_FOLDERS: Final = "/usr/sbin:/sbin"  # cron's PATH has neither, and the tools live there


@dataclass(frozen=True, slots=True)
class Output:
    """How a program ended, and what it said."""

    status: int  # negative: the number of the signal that killed it
    stdout: str
    stderr: str


def attempt(*argv: str) -> Output:
    """Run a program to its end. Raises Failed when it is not installed.

    It is shielded from Ctrl-C and SIGTERM, and finishes before an interruption goes on: an lvcreate that dies half way may
    leave a device suspended. What it says goes to memory, never to a file, for the same reason: the file could lie on the
    very filesystem that it has just frozen.
    """

    def run_to_the_end() -> Output:
        with _memory("stdout") as stdout, _memory("stderr") as stderr:
            status = _start(argv, stdout, stderr).wait()
            return Output(status, _text(stdout), _text(stderr))

    return shielded(run_to_the_end)


def run(*argv: str) -> str:
    """What a program writes to its standard output. Raises Failed, with what it said, when it does not exit with 0."""
    output = attempt(*argv)
    if output.status != 0:
        raise Failed(complaint(argv, output.status, output.stderr))
    return output.stdout


def spool(*argv: str) -> BinaryIO:
    """The whole standard output of a program that has exited with 0, in an unlinked temporary file, at its start.

    Raises Failed, with what the program said, when it did not exit with 0. An interrupt kills the program.
    """
    import tempfile  # and with it half a dozen modules, which most of what runs a program has no need of

    with ExitStack() as on_failure:
        stdout = on_failure.enter_context(tempfile.TemporaryFile(prefix="rokctl-"))
        with _memory("stderr") as stderr:
            process = _start(argv, stdout, stderr)
            try:
                status = process.wait()
            finally:
                process.kill()
                process.wait()
            if status != 0:
                raise Failed(complaint(argv, status, _text(stderr)))
        stdout.seek(0)
        on_failure.pop_all()
        return stdout


def is_installed(program: str) -> bool:
    """Whether the program is found where `run` looks for it."""
    return shutil.which(program, path=_environment()["PATH"]) is not None


def complaint(argv: tuple[str, ...], status: int, stderr: str) -> str:
    """One sentence on a program that failed: what it was to do, how it ended, and what it said, warnings left out."""
    import shlex

    ended = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
    lines = [line.strip().rstrip(".") for line in stderr.splitlines()]
    said = [line for line in lines if line and not line.startswith("WARNING:")] or [line for line in lines if line]
    return f"`{shlex.join(argv)}` {ended}" + (f": {'; '.join(said)}" if said else "")


def _start(argv: tuple[str, ...], stdout: IO[bytes], stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(  # noqa: S603 - an argument list, never a shell; names are checked at the edge
            argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=_environment(), start_new_session=True
        )
    except FileNotFoundError:
        package = _PACKAGES.get(argv[0], argv[0])
        raise Failed(f"{argv[0]} is not installed", hint=f"install it: apt-get install {package}") from None


def _environment() -> dict[str, str]:
    """What every child inherits, in the one language whose messages we know. No value of it is read here but PATH."""
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": f"{path}:{_SYSTEM_FOLDERS}", "LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"}


def _memory(name: str) -> BinaryIO:
    return os.fdopen(os.memfd_create(name, os.MFD_CLOEXEC), "w+b")


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
