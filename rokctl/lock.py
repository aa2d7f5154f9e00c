"""One push of this node to one object at a time, and one copy to one repository: a lock that ends with its process.

It is a file lock, let go of by the kernel. The repository itself needs none (any number of nodes may push at once); it spares
a node the double work when a timer fires again while the last run still goes on.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from engine.errors import Busy


@contextmanager
def exclusive(
    directory: Path, name: str, *, wait: bool, talk: Callable[[str], object], work: str = "push"
) -> Iterator[None]:
    """Hold the lock called `name`. When another process has it: wait, saying so once through `talk`; or raise Busy.

    `name` may be any text; `work` is what is done to it. The lock's file is left in place: to remove it would let two
    processes hold two files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / blake3(name.encode("utf-8", "surrogateescape")).hexdigest(length=16)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, f"{work} to {name}", wait=wait, talk=talk)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, work: str, *, wait: bool, talk: Callable[[str], object]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
    busy = f"another {work} is running on this node (process {holder})"
    if not wait:
        raise Busy(busy, hint="try again later, or leave out --no-wait to wait for it")
    talk(f"{busy}; waiting for it")
    fcntl.flock(descriptor, fcntl.LOCK_EX)
