"""Processes of rokctl without the half second that each takes to import it: a server that has imported it all, and forks.

A process that is had from it is a process of its own in all else: its memory, environment, signals and exit code. What a
start costs and imports, and how the interpreter ends, is tested on real ones, which `Node.start` starts.
"""

import atexit
import functools
import gc
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_SERVER = [sys.executable, "-m", "tests.readymade"]
_REQUEST_LIMIT = 1 << 17


def run(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_seconds: float
) -> tuple[int, str, str]:
    """Run `rokctl WORDS` there; its exit code, and what it wrote to stdout and stderr. Raises TimeoutError."""
    out, err = os.memfd_create("out"), os.memfd_create("err")
    told, tell = os.pipe()
    try:
        request = json.dumps([words, str(folder), dict(environment)]).encode()
        try:
            socket.send_fds(_requests(), [request], [out, err, tell])
        finally:
            os.close(tell)
        if not select.select([told], [], [], timeout_seconds)[0]:
            raise TimeoutError(f"rokctl {' '.join(words)} did not end within {timeout_seconds:g} s")
        code = os.read(told, 16)
        assert code, "the server of processes has died"
        return int(code), _text(out), _text(err)
    finally:
        for one in (out, err, told):
            os.close(one)


def _text(file: int) -> str:
    return os.pread(file, os.fstat(file).st_size, 0).decode()


@functools.cache
def _requests() -> socket.socket:
    """The connection to the server of this process, which is started when first needed, and ends with it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        root = Path(__file__).parents[1]
        server = subprocess.Popen(
            [*_SERVER, str(its.fileno())],
            cwd=root,
            env={"PATH": os.environ["PATH"], "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
        )

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> Sequence[str] | None:
    """Answer requests until their end; in a process of rokctl, its words."""
    while True:
        request, files, _, _ = socket.recv_fds(requests, _REQUEST_LIMIT, 3)
        if not request:
            return None
        if os.fork() == 0:
            requests.close()
            words, folder, environment = json.loads(request)
            return _process(words, folder, environment, files)
        for one in files:
            os.close(one)
        _reap()


def _reap() -> None:
    """Bury those who have told how a process ended."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def _process(words: list[str], folder: str, environment: Mapping[str, str], files: Sequence[int]) -> list[str]:
    """Become a process of rokctl: return in it, and stay behind to tell how it ends."""
    out, err, tell = files
    child = os.fork()
    if child:
        os.close(out)
        os.close(err)
        _, status = os.waitpid(child, 0)
        os.write(tell, str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for one in files:
        os.close(one)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return words


def _import_everything() -> None:
    import importlib
    import pkgutil

    import boto3  # noqa: F401 # which only the S3 store imports, when it is opened

    import engine
    import rokctl

    for package in (engine, rokctl):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


if __name__ == "__main__":
    _import_everything()
    gc.freeze()  # a collection would write to every object, and so copy all that is shared
    words = _serve(socket.socket(fileno=int(sys.argv[1])))
    if words is not None:
        from rokctl.__main__ import main

        sys.argv = ["rokctl", *words]
        main()
