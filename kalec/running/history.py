"""What `kalec runs` does: earlier runs, listed, shown and removed."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kalec.errors import Damaged, NotFound, Refused
from kalec.running.command import state_folder
from kalec.running.folder import RunsFolder
from kalec.running.request import near
from kalec.running.watch import failure_text, number_text, size
from kalec.runtime.failure import DamagedValue
from kalec.runtime.marshal import read_manifest


def open_folder(place: Path, state: Path | None, environment: Mapping[str, str]) -> RunsFolder:
    """The runs of a notebook, or of the notebooks in a folder. Raises NotFound, Refused."""
    if not place.exists():
        raise NotFound(f"there is no file {place}")
    folder = place.resolve() if place.is_dir() else place.resolve().parent
    return RunsFolder(state_folder(state, folder, environment))


def list_runs(runs: RunsFolder, place: Path, *, as_json: bool) -> None:
    """A line for each run: of one notebook where `place` is one."""
    records: list[dict[str, Any]] = []
    for number in runs.numbers():
        try:
            record = runs.record(number)
        except Damaged:
            record = {"number": number, "notebook": "", "state": "damaged", "started": "", "ended": "", "steps": {}}
        one = Path(record.get("folder", "")) / record["notebook"]
        if place.is_dir() or record["state"] == "damaged" or one == place.resolve():
            records.append(record)
    if as_json:
        _print("".join(json.dumps(record) + "\n" for record in records))
        return
    rows = [
        [str(record["number"]), record["started"], record["state"], _counts(record["steps"]), record["notebook"]]
        for record in records
    ]
    if rows:
        _print_table(["RUN", "STARTED", "STATE", "STEPS", "NOTEBOOK"], rows)


def show_run(runs: RunsFolder, number: int, *, as_json: bool) -> None:
    """A run in full. The values of a step are those that it left for later ones."""
    record = runs.record(number)
    values = {name: _values(runs, step["result"]) for name, step in record["steps"].items()}
    if as_json:
        steps = {name: {**step, "values": values[name]} for name, step in record["steps"].items()}
        _print(json.dumps({**record, "steps": steps}) + "\n")
        return
    _print(
        f"run {number} of {record['notebook']}: {record['state']}\nstarted {record['started']}, ended {record['ended']}\n"
    )
    _print("".join(f"{name} = {json.dumps(value)}\n" for name, value in record["parameters"].items()))
    rows = [
        [name, step["state"], f"{step['seconds']:.1f} s", size(step["memory"]), _metrics(step["metrics"])]
        for name, step in record["steps"].items()
    ]
    _print("\n")
    _print_table(["STEP", "STATE", "TIME", "MEMORY", "METRICS"], rows)
    for name, step in record["steps"].items():
        for value in values[name]:
            note = f" ({value['note']})" if value["note"] else ""
            _print(f"{name}: {value['name']} = {value['summary']}, {size(value['bytes'])}, {value['kind']}{note}\n")
        if step["failure"]:
            _print("\n" + failure_text(name, step["failure"]))
    _print(f"\nlogs: {runs.run_folder(number) / 'logs'}\n")


def show_log(runs: RunsFolder, number: int, step: str) -> None:
    """What a step wrote; of one whose result was known, what it wrote when that was made. Raises NotFound."""
    record = runs.record(number)
    if step not in record["steps"]:
        raise NotFound(f"run {number} has no step {step!r}", hint=near(step, record["steps"]))
    result = runs.result(record["steps"][step]["result"])
    made_in = result.run if result is not None else number
    path = runs.path / "runs" / str(made_in) / "logs" / f"{step}.log"
    try:
        with path.open("rb") as log:
            shutil.copyfileobj(log, sys.stdout.buffer)
    except FileNotFoundError:
        reason = f"run {made_in} has been removed" if made_in != number else "it did not run"
        raise NotFound(f"there is no log of step {step} in run {number}: {reason}") from None
    sys.stdout.flush()


def remove_runs(runs: RunsFolder, numbers: Sequence[int], *, every: bool, dry_run: bool) -> None:
    """Remove runs and say what became free. Raises NotFound, Refused, Busy."""
    if every == bool(numbers):
        raise Refused("name the runs to remove, or say --all", hint="`kalec runs list` shows which there are")
    doomed = runs.numbers() if every else sorted(set(numbers))
    for number in doomed:
        runs.run_folder(number)
    listed = ", ".join(map(str, doomed)) or "none"
    if dry_run:
        _print(f"would remove the runs {listed}\n")
        return
    if doomed:
        count, freed = runs.remove(doomed)
        _print(f"removed the runs {listed}, and {count} results: {size(freed)}\n")


def _values(runs: RunsFolder, name: str) -> list[dict[str, Any]]:
    result = runs.result(name)
    if result is None:
        return []
    try:
        manifest = read_manifest(result.folder)
    except DamagedValue:
        return []
    return [
        {
            "name": variable,
            "summary": value["summary"],
            "kind": manifest["groups"][value["group"]]["kind"],
            "bytes": manifest["groups"][value["group"]]["bytes"],
            "note": manifest["groups"][value["group"]]["note"],
        }
        for variable, value in manifest["values"].items()
        if "group" in value
    ]


def _counts(steps: Mapping[str, Mapping[str, Any]]) -> str:
    states = [step["state"] for step in steps.values()]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _metrics(metrics: Mapping[str, float | None]) -> str:
    return "  ".join(f"{name}={number_text(value)}" for name, value in metrics.items())


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        _print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
