"""`kalec run` and `kalec runs`."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

runs_app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)

# What the commands do is imported when they run: `kalec compile` has no need of it.

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
State = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Where runs are kept, in place of .kalec beside the notebook.")
]


def run_command(
    notebook: Annotated[Path, typer.Argument(help="A notebook, or a script with steps.")],
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="The value of a parameter.")] = None,
    from_: Annotated[str, typer.Option("--from", metavar="STEP", help="Run this step and what comes after it.")] = "",
    to: Annotated[str, typer.Option(metavar="STEP", help="Run this step and what it needs, and no more.")] = "",
    jobs: Annotated[int, typer.Option(min=0, help="How many steps at once; 0 is one for each CPU.")] = 0,
    volume: Annotated[list[str] | None, typer.Option(metavar="NAME=FOLDER", help="What stands for a volume.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run also what is known already.")] = False,
    python: Annotated[str, typer.Option(metavar="PROGRAM", help="The Python that runs the steps.")] = "",
    state: State = None,
    as_json: Json = False,
) -> None:
    """Run a notebook's pipeline here, without a cluster: each step in a process of its own, and nothing done twice."""
    from kalec.running.command import Options, World, run_notebook

    options = Options(param or (), from_, to, jobs, volume or (), not no_cache, python, state, as_json)
    run_notebook(notebook, options, World(os.environ, lambda: datetime.now(UTC), time.monotonic))


@runs_app.callback()
def runs() -> None:
    """Earlier runs: what they did, and away with them."""


@runs_app.command("list")
def list_command(
    place: Annotated[Path, typer.Argument(metavar="[NOTEBOOK]", help="A notebook, or a folder of some.")] = Path(),
    state: State = None,
    as_json: Json = False,
) -> None:
    """List the runs, the oldest first."""
    from kalec.running.history import list_runs, open_folder

    list_runs(open_folder(place, state, os.environ), place, as_json=as_json)


@runs_app.command("show")
def show_command(
    number: Annotated[int, typer.Argument(metavar="RUN", min=1, help="The number of the run.")],
    log: Annotated[str, typer.Option(metavar="STEP", help="Print what this step wrote, and nothing else.")] = "",
    place: Annotated[Path, typer.Option("--notebook", help="The notebook, or its folder.")] = Path(),
    state: State = None,
    as_json: Json = False,
) -> None:
    """Show a run: its steps, their metrics and values, and what went wrong."""
    from kalec.running.history import open_folder, show_log, show_run

    folder = open_folder(place, state, os.environ)
    if log:
        show_log(folder, number, log)
    else:
        show_run(folder, number, as_json=as_json)


@runs_app.command("rm")
def remove_command(
    numbers: Annotated[list[int] | None, typer.Argument(metavar="RUN...", help="The numbers of the runs.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    place: Annotated[Path, typer.Option("--notebook", help="The notebook, or its folder.")] = Path(),
    state: State = None,
) -> None:
    """Remove runs, and the results that no other run has."""
    from kalec.running.history import open_folder, remove_runs

    remove_runs(open_folder(place, state, os.environ), numbers or [], every=every, dry_run=dry_run)
