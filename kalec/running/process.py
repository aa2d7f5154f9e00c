"""Processes of steps: each leads a process group of its own, and none of a group outlives the run, however that ends."""

import contextlib
import hashlib
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kalec.errors import Failed, Refused
from kalec.running.key import Interpreter
from kalec.runtime import source_text

PATIENCE_SECONDS: Final = 3.0  # between asking the steps to end and killing them

# A process of its own that kills the groups it was told of when the run is gone: nothing in the run itself could.
WARDEN: Final = """
import os, sys
groups = set()
for line in sys.stdin.buffer:
    (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, 9)
    except OSError:
        pass  # it ended by itself
"""

# The notebook's folder comes first on the path, as in Jupyter; the runtime's is there for its own import only.
START: Final = """
import sys
sys.path[:] = [{runtime!r}, *filter(None, sys.path)]
import kalec_runtime
sys.path[0] = {folder!r}
kalec_runtime.main()
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: an exit code, or minus the signal that killed it; and the time it used."""

    name: str
    code: int
    cpu_seconds: float


class Processes:
    """The running steps of one run."""

    def __init__(self, interpreter: Interpreter, folder: Path, runtime: Path) -> None:
        """Steps run in `folder`; `runtime` is where the runtime's module is kept."""
        self.ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()  # in C: an interruption leaves no lock behind
        self._interpreter, self._folder = interpreter, folder
        self._start = START.format(runtime=str(runtime), folder=str(folder))
        self._running: dict[str, int] = {}
        self._warden: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Processes":
        self._warden = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WARDEN],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop_all()
        finally:
            assert self._warden is not None
            if self._warden.stdin is not None:
                self._warden.stdin.close()
            self._warden.wait()

    def start(self, name: str, request: Mapping[str, Any], log: Path, environment: Mapping[str, str]) -> None:
        """Start a step; how it ends comes on `ended`. What it writes goes to the end of `log`."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                [self._interpreter.executable, "-c", self._start],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=dict(environment),
                start_new_session=True,
            )
        self._tell(f"+{process.pid}\n")
        self._running[name] = process.pid
        threading.Thread(target=self._wait, args=(name, process), daemon=True).start()
        # The step does nothing before it has read this: until here the warden may not have known of it.
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:  # it may have died at once; its code tells why
            process.stdin.write(json.dumps(request).encode())

    def kill(self, name: str) -> None:
        """End a step that is still running, and all it has started."""
        _signal(self._running[name], signal.SIGKILL)

    def forget(self, ended: Ended) -> None:
        """Take note that a step has ended. What it left running behind is killed."""
        group = self._running.pop(ended.name)
        _signal(group, signal.SIGKILL)
        self._tell(f"-{group}\n")

    def memory(self, name: str) -> int | None:
        """What the step's first process has in memory now, in bytes; None where the system does not say."""
        try:
            pages = int(Path(f"/proc/{self._running[name]}/statm").read_text().split()[1])
        except (OSError, KeyError, IndexError):
            return None
        return pages * resource.getpagesize()

    def _stop_all(self) -> None:
        for group in self._running.values():
            _signal(group, signal.SIGINT)
        with contextlib.suppress(queue.Empty):
            while self._running:
                self.forget(self.ended.get(timeout=PATIENCE_SECONDS))
        for group in self._running.values():
            _signal(group, signal.SIGKILL)
        # An interruption may have come before there was someone to wait for a step.
        with contextlib.suppress(queue.Empty):
            while self._running:
                self.forget(self.ended.get(timeout=PATIENCE_SECONDS))

    def _wait(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.ended.put(Ended(name, process.returncode, usage.ru_utime + usage.ru_stime))

    def _tell(self, line: str) -> None:
        assert self._warden is not None
        assert self._warden.stdin is not None
        try:
            self._warden.stdin.write(line.encode())
            self._warden.stdin.flush()
        except BrokenPipeError:
            raise Failed("the process that ends the steps with the run is gone", hint="run again") from None


def find_interpreter(executable: str) -> Interpreter:
    """Ask a Python what it is and where its packages are. Raises Refused."""
    if not executable:
        return Interpreter(sys.executable, sys.version, tuple(sys.path))
    question = "import sys, json; print(json.dumps([sys.executable, sys.version, sys.path]))"
    try:
        answer = subprocess.run([executable, "-c", question], capture_output=True, check=True, cwd="/")
        name, version, path = json.loads(answer.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise Refused(f"--python {executable} is no Python that runs: {error}") from None
    return Interpreter(name, version, tuple(path))


def write_runtime(folder: Path) -> Path:
    """Put the runtime below `folder` as a module, which Python compiles once, and return where that is."""
    text = source_text()
    home = folder / "runtime" / hashlib.sha256(text.encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    new = home / f"kalec_runtime.{os.getpid()}"
    if not (home / "kalec_runtime.py").exists():
        new.write_text(text)
        new.replace(home / "kalec_runtime.py")
    return home


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
