"""The order of a run: each step when all that it waits for is done, several at once, and none that need not run."""

import json
import queue
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from kalec.errors import Damaged, Failed, NotFound
from kalec.model import JsonValue, Pipeline, Step
from kalec.running.folder import Result, RunsFolder, storage_errors
from kalec.running.key import Interpreter, file_stamp, key_of, local_modules, named_files, value_hashes
from kalec.running.process import Ended, Processes, write_runtime
from kalec.running.request import Request
from kalec.runtime import describe
from kalec.runtime.failure import DamagedValue
from kalec.runtime.marshal import read_manifest


class State(StrEnum):
    """What has become of a step."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    KNOWN = "known"  # its result was there already
    FAILED = "failed"
    LEFT_OUT = "left out"  # something that it waits for has failed
    STOPPED = "stopped"  # the run ended while it ran


@dataclass(slots=True)
class Progress:
    """One step of a run, so far. Bytes and seconds."""

    step: Step
    state: State = State.WAITING
    result: str = ""  # the name of its result
    attempts: int = 0
    started: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: Mapping[str, Any] | None = None  # place, error, traceback, values
    not_before: float = 0.0  # a retry waits

    @property
    def is_good(self) -> bool:
        """Whether what waits for it may start."""
        return self.state in (State.DONE, State.KNOWN)


class StepPort(Protocol):
    """What is done before a step starts and after it has ended, in the run's own process: snapshots, for one.

    A step that is known already does not come here. What these raise ends the run.
    """

    def before(self, step: Step) -> None:
        """All that the step waits for is done."""
        ...

    def after(self, step: Step, progress: Progress) -> None:
        """It has ended, well or not."""
        ...


class NoPort:
    """Nothing is done."""

    def before(self, step: Step) -> None:
        """Do nothing."""

    def after(self, step: Step, progress: Progress) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run takes place."""

    runs: RunsFolder
    run: Path  # its folder, named by its number
    notebook_folder: Path
    interpreter: Interpreter
    environment: Mapping[str, str]
    monotonic: Callable[[], float]

    def log(self, step: str) -> Path:
        """Where a step's output goes."""
        return self.run / "logs" / f"{step}.log"


class Run:
    """One run of a pipeline. `changed` is called when a step's state changes, and now and then while steps run."""

    def __init__(
        self, pipeline: Pipeline, request: Request, place: Place, changed: Callable[[], None], port: StepPort, jobs: int
    ) -> None:
        self.steps = {step.name: Progress(step) for step in pipeline.steps}
        self._pipeline, self._request, self._place = pipeline, request, place
        self._changed, self._port, self._jobs = changed, port, jobs
        self._results: dict[str, Result] = {}
        self._keys: dict[str, str] = {}
        self._environment: dict[str, JsonValue] = {
            "folder": str(place.notebook_folder),  # relative paths in the code begin there
            "python": place.interpreter.version,
            "packages": list(place.interpreter.environment()),
            "paths": dict(request.paths),
        }

    def execute(self) -> None:
        """Run what was asked for. What goes wrong in a step is in its progress. Raises NotFound, Failed, Damaged."""
        self._take_earlier_results()
        with storage_errors(self._place.run):
            home = write_runtime(self._place.runs.path)
            for folder in self._request.paths.values():
                Path(folder).mkdir(parents=True, exist_ok=True)
        try:
            with Processes(self._place.interpreter, self._place.notebook_folder, home) as processes:
                self._go(processes)
        finally:
            for progress in self.steps.values():
                if progress.state is State.RUNNING:
                    progress.state = State.STOPPED
            shutil.rmtree(self._place.run / "work", ignore_errors=True)
            self._changed()

    def _take_earlier_results(self) -> None:
        """The steps that were not chosen are as an earlier run left them, where a chosen one needs them."""
        needed = {name for chosen in self._request.chosen for name in self.steps[chosen].step.after}
        for name in needed - self._request.chosen:
            result = self._earlier(name)
            if result is None:
                raise NotFound(
                    f"step {name} has no result that could be taken up",
                    hint=f"run it: `kalec run {self._pipeline.source} --to {name}`",
                )
            self._set_known(self.steps[name], result)
        for name, progress in self.steps.items():
            if name not in self._request.chosen and not progress.is_good:
                progress.state = State.LEFT_OUT

    def _earlier(self, step: str) -> Result | None:
        for number in reversed(self._place.runs.numbers()):
            try:
                record = self._place.runs.record(number)
            except (Damaged, NotFound):
                continue
            own = (record["notebook"], record["folder"]) == (self._pipeline.source, str(self._place.notebook_folder))
            result = self._place.runs.result(record["steps"].get(step, {}).get("result", "")) if own else None
            if result is not None:
                return result
        return None

    def _go(self, processes: Processes) -> None:
        begun = self._place.monotonic()
        limit = self._pipeline.settings.timeout_seconds
        while True:
            now = self._place.monotonic()
            running = [progress for progress in self.steps.values() if progress.state is State.RUNNING]
            ready = self._ready(now)
            if any(self._take_known(progress) for progress in ready):
                continue  # what waited for it may be ready now
            for progress in ready[: max(self._jobs - len(running), 0)]:
                self._start(progress, processes)
                running.append(progress)
            if not running and all(progress.state is not State.WAITING for progress in self.steps.values()):
                return
            self._end_overdue(running, processes, now)
            if limit is not None and now - begun > limit:
                raise Failed(f"the run took longer than the pipeline's timeout of {limit} s")
            try:
                self._end(processes, processes.ended.get(timeout=0.25))
            except queue.Empty:
                self._look_at_memory(running, processes)

    def _ready(self, now: float) -> list[Progress]:
        """Steps whose time has come. Those that wait for a failed one are left out on the way."""
        ready: list[Progress] = []
        for progress in self.steps.values():
            if progress.state is not State.WAITING:
                continue
            before = [self.steps[name] for name in progress.step.after]
            if any(one.state in (State.FAILED, State.LEFT_OUT) for one in before):
                progress.state = State.LEFT_OUT
                self._changed()
            elif all(one.is_good for one in before) and progress.not_before <= now:
                ready.append(progress)
        return ready

    def _take_known(self, progress: Progress) -> bool:
        """Whether the result of the step is there already; then it is taken."""
        step = progress.step
        if step.name in self._keys:
            return False  # it was looked for before
        manifests = {name: self._manifest(name) for name in step.data_from}
        modules = local_modules(step, self._place.notebook_folder)
        hashes = value_hashes(step, manifests)
        self._keys[step.name] = key_of(step, hashes, self._request.parameters, self._environment, modules)
        if step.name in self._request.fresh or self._caching(step) is False:
            return False
        for result in self._place.runs.find(self._keys[step.name]):
            try:
                files = result.read()["files"]
                read_manifest(result.folder)
            except (Damaged, DamagedValue):
                continue
            if all(file_stamp(Path(path)) == stamp for path, stamp in files.items()):
                self._set_known(progress, result)
                return True
        return False

    def _caching(self, step: Step) -> bool | None:
        own = step.settings.enable_caching
        return self._pipeline.settings.enable_caching if own is None else own

    def _manifest(self, step: str) -> dict[str, Any]:
        try:
            return read_manifest(self._results[step].folder)
        except DamagedValue as error:
            raise Damaged(str(error)) from None

    def _set_known(self, progress: Progress, result: Result) -> None:
        progress.state, progress.result, progress.metrics = State.KNOWN, result.name, result.read()["metrics"]
        self._results[progress.step.name] = result
        self._changed()

    def _start(self, progress: Progress, processes: Processes) -> None:
        step = progress.step
        self._port.before(step)
        work = self._place.run / "work" / step.name
        with storage_errors(work):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
        request = {
            "step": describe(step),
            "parameters": {name: self._request.parameters[name] for name in step.parameters},
            "inputs": {name: str(self._results[name].folder) for name in step.data_from},
            "output": str(work),
            "paths": dict(self._request.paths),
            "result": str(work / "answer.json"),
        }
        environment = {
            "PYTHONHASHSEED": "0",  # the order of sets is that of the last time, and so is what is kept of them
            "MPLBACKEND": "Agg",  # nobody closes a window
            **self._place.environment,
            "PYTHONUNBUFFERED": "1",
            **self._request.environment,
            **step.settings.environment,
        }
        progress.state, progress.started = State.RUNNING, self._place.monotonic()
        progress.attempts += 1
        processes.start(step.name, request, self._place.log(step.name), environment)
        self._changed()

    def _end_overdue(self, running: list[Progress], processes: Processes, now: float) -> None:
        for progress in running:
            limit = progress.step.settings.timeout_seconds
            if limit is not None and now - progress.started > limit and progress.failure is None:
                progress.failure = _failure(f"it took longer than its timeout of {limit} s")
                processes.kill(progress.step.name)

    def _look_at_memory(self, running: list[Progress], processes: Processes) -> None:
        now = self._place.monotonic()
        for progress in running:
            progress.seconds = now - progress.started
            progress.memory = max(progress.memory, processes.memory(progress.step.name) or 0)
        self._changed()

    def _end(self, processes: Processes, ended: Ended) -> None:
        processes.forget(ended)
        progress = self.steps[ended.name]
        progress.seconds = self._place.monotonic() - progress.started
        progress.cpu_seconds = ended.cpu_seconds
        work = self._place.run / "work" / ended.name
        answer = _read_answer(work / "answer.json", ended, progress)
        progress.memory = max(answer.get("memory", 0), progress.memory)
        if "failure" in answer:
            self._fail(progress, answer["failure"])
        else:
            self._keep(progress, answer["metrics"], work)
        self._port.after(progress.step, progress)
        self._changed()

    def _fail(self, progress: Progress, failure: Mapping[str, Any]) -> None:
        retry = progress.step.settings.retry
        progress.state, progress.failure = State.FAILED, failure
        if retry is not None and progress.attempts <= retry.times:
            wait = retry.interval_seconds * retry.factor ** (progress.attempts - 1)
            longest = retry.max_interval_seconds
            progress.not_before = self._place.monotonic() + (wait if longest is None else min(wait, longest))
            progress.state, progress.failure = State.WAITING, None

    def _keep(self, progress: Progress, metrics: Mapping[str, float], work: Path) -> None:
        step = progress.step
        files = named_files(step, self._place.notebook_folder, self._request.paths)
        with storage_errors(work):
            (work / "answer.json").unlink()
            (work / "result.json").write_text(json.dumps({"metrics": metrics, "files": files}, indent=1) + "\n")
        result = self._place.runs.keep(work, self._keys[step.name], int(self._place.run.name))
        self._results[step.name] = result
        progress.state, progress.result, progress.metrics = State.DONE, result.name, metrics


def _read_answer(path: Path, ended: Ended, progress: Progress) -> dict[str, Any]:
    """What the step's process says of itself, or what is said of it when it could not."""
    if progress.failure is not None:
        return {"failure": progress.failure}
    try:
        answer: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        how = f"was killed by signal {-ended.code}" if ended.code < 0 else f"left with code {ended.code}"
        reason = f"its process {how}" + (", perhaps for want of memory" if ended.code == -9 else "")
        return {"failure": _failure(reason)}
    return answer


def _failure(error: str) -> dict[str, Any]:
    return {"place": "", "error": error, "traceback": "", "values": {}}
