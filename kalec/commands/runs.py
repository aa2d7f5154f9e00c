"""`kalec runs`: what earlier runs did, and away with them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from kalec.running.history import list_runs, open_folder, remove_runs, show_log, show_run

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

JsonOption = Annotated[bool, typer.Option("--json", help="One object a line.")]
NotebookOption = Annotated[Path, typer.Option("--notebook", metavar="FILE", help="The notebook, or its folder.")]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="FOLDER", help="Where runs are kept, in place of .kalec beside the notebook."),
]


@app.callback(invoke_without_command=True)
def runs(context: typer.Context) -> None:
    """Earlier runs: what they did, and away with them."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


@app.command("list")
def list_command(
    place: Annotated[Path, typer.Argument(metavar="[NOTEBOOK]", help="A notebook, or a folder of some.")] = Path(),
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs, the oldest first."""
    list_runs(open_folder(place, state, os.environ), place, as_json=as_json)


@app.command("show")
def show_command(
    number: Annotated[int, typer.Argument(metavar="RUN", min=1, help="The number of the run.")],
    log: Annotated[str, typer.Option(metavar="STEP", help="Print what this step wrote, and nothing else.")] = "",
    place: NotebookOption = Path(),
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run: its steps, their metrics and values, and what went wrong."""
    folder = open_folder(place, state, os.environ)
    if log:
        show_log(folder, number, log)
    else:
        show_run(folder, number, as_json=as_json)


@app.command("rm")
def remove_command(
    numbers: Annotated[list[int] | None, typer.Argument(metavar="RUN...", help="The numbers of the runs.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    place: NotebookOption = Path(),
    state: StateOption = None,
) -> None:
    """Remove runs, and the results that no other run has."""
    remove_runs(open_folder(place, state, os.environ), numbers or [], every=every, dry_run=dry_run)
