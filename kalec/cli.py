"""The command line of kalec, by itself and as `rokctl kalec`."""

from typing import Annotated

import typer

from kalec import VERSION
from kalec.commands.compile import compile_command
from kalec.commands.run import run_command, runs_app
from kalec.commands.serve import serve_command
from kalec.commands.tune import tune_command

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version of the program, and leave.")] = False,
) -> None:
    """Compile a notebook into a pipeline whose steps run in the environment that the notebook had."""
    if version:
        typer.echo(f"kalec {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


app.command("compile")(compile_command)
app.command("tune")(tune_command)
app.command("serve")(serve_command)
app.command("run")(run_command)
app.add_typer(runs_app, name="runs")
