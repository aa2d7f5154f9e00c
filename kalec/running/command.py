"""What `kalec run` does: a notebook's pipeline, here."""

import json
import math
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

from kalec.errors import Failed, KalecError, Refused
from kalec.load import require
from kalec.model import Loaded, Pipeline, Severity
from kalec.running.folder import NAME, RunsFolder, write_record
from kalec.running.process import find_interpreter
from kalec.running.request import Request, check_secrets, choose_steps, map_volumes, read_parameters, volume_variables
from kalec.running.schedule import NoPort, Place, Progress, Run, State, StepPort
from kalec.running.watch import Lines, LiveTable, failure_text, number_text, on_terminal


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. "" is: not said."""

    parameters: Sequence[str] = ()  # NAME=VALUE
    first: str = ""
    last: str = ""
    jobs: int = 0  # 0: one for each CPU
    volumes: Sequence[str] = ()  # NAME=FOLDER
    cache: bool = True
    python: str = ""
    state: Path | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """What a run takes from outside."""

    environment: Mapping[str, str]
    now: Callable[[], datetime]  # aware
    monotonic: Callable[[], float]  # seconds


def run_pipeline(source: Path, loaded: Loaded, options: Options, world: World, port: StepPort | None = None) -> None:
    """Run what was loaded from `source`, show it, and print its metrics, or its record as JSON.

    Raises Refused or NotFound before anything runs, Failed when a step has failed.
    """
    pipeline = _pipeline(loaded)
    folder = source.resolve().parent
    runs = RunsFolder(state_folder(options.state, folder, world.environment))
    parameters = read_parameters(pipeline, options.parameters)
    chosen = choose_steps(pipeline, options.first, options.last)
    paths = map_volumes(pipeline, options.volumes, runs.path / "volumes")
    check_secrets(pipeline, chosen, world.environment)
    fresh = frozenset([options.first]) if options.cache else chosen
    mounted = {mount: str(path) for mount, path in paths.items()}
    request = Request(parameters, chosen, fresh, mounted, volume_variables(pipeline, paths))
    interpreter = find_interpreter(options.python)
    with runs.start() as run_folder:
        place = Place(runs, run_folder, folder, interpreter, world.environment, world.monotonic)
        record = _run(pipeline, request, place, world, port or NoPort(), options.jobs or _cpus())
    _print(record, as_json=options.as_json)
    _report_failures(record, run_folder)


def state_folder(given: Path | None, folder: Path, environment: Mapping[str, str]) -> Path:
    """Where the runs of the notebooks in a folder are kept. Raises Refused."""
    named = given or Path(environment.get("KALEC_STATE") or folder / NAME)
    if named.exists() and not named.is_dir():
        raise Refused(f"{named} is not a folder, and runs cannot be kept in it")
    return named.resolve()


def _pipeline(loaded: Loaded) -> Pipeline:
    """The pipeline, when it has no errors; those it has are told."""
    for finding in loaded.diagnostics:
        if finding.severity is Severity.ERROR:
            sys.stderr.write(f"{finding}\n")
    return require(loaded)


def _run(pipeline: Pipeline, request: Request, place: Place, world: World, port: StepPort, jobs: int) -> dict[str, Any]:
    """Run, show it, and keep a record of it as it goes; return the record."""
    record = _new_record(pipeline, request, place, world)
    written: dict[str, State] = {}
    with LiveTable() if on_terminal() else Lines() as watch:

        def changed() -> None:
            watch.show(run.steps)
            states = {name: progress.state for name, progress in run.steps.items()}
            if states != written:
                written.update(states)
                record["steps"] = {name: _step_record(progress) for name, progress in run.steps.items()}
                write_record(place.run, record)

        run = Run(pipeline, request, place, changed, port, jobs)
        ended = "interrupted"
        previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            write_record(place.run, record)
            run.execute()
            ended = "failed" if any(one.state is State.FAILED for one in run.steps.values()) else "done"
        except KalecError:
            ended = "failed"
            raise
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            record.update(state=ended, ended=world.now().isoformat(timespec="seconds"))
            record["steps"] = {name: _step_record(progress) for name, progress in run.steps.items()}
            write_record(place.run, record)
    return record


def _print(record: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(record) + "\n")
    else:
        for name, step in record["steps"].items():
            for metric, value in step["metrics"].items():
                sys.stdout.write(f"{name} {metric} {number_text(value)}\n")
    sys.stdout.flush()


def _new_record(pipeline: Pipeline, request: Request, place: Place, world: World) -> dict[str, Any]:
    return {
        "format": 1,
        "number": int(place.run.name),
        "notebook": pipeline.source,
        "folder": str(place.notebook_folder),
        "pipeline": pipeline.name,
        "state": "running",
        "started": world.now().isoformat(timespec="seconds"),
        "ended": "",
        "parameters": dict(request.parameters),
        "steps": {},
    }


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does: the steps are ended, and the record says so."""
    raise KeyboardInterrupt


def _step_record(progress: Progress) -> dict[str, Any]:
    return {
        "state": str(progress.state),
        "result": progress.result,
        "attempts": progress.attempts,
        "seconds": round(progress.seconds, 3),
        "cpu_seconds": round(progress.cpu_seconds, 3),
        "memory": progress.memory,
        "metrics": {name: value if math.isfinite(value) else None for name, value in progress.metrics.items()},
        "failure": progress.failure,
    }


def _report_failures(record: Mapping[str, Any], place: Path) -> None:
    failed = {name: step for name, step in record["steps"].items() if step["state"] == State.FAILED}
    for name, step in failed.items():
        sys.stderr.write("\n" + failure_text(name, step["failure"]) + f"its log: {place / 'logs' / name}.log\n")
    if failed:
        first = next(iter(failed))
        raise Failed(
            f"run {record['number']}: {', '.join(failed)} failed",
            hint=f"mend it and run again: what is done is not done again. `kalec runs show {record['number']} --log {first}`"
            " has all that it wrote",
        )


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
