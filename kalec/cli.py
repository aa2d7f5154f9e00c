"""The command line of kalec, by itself and as `rokctl kalec`: the border where all errors end, with an exit code."""

import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from kalec import VERSION
from kalec.commands.words import read_plainly
from kalec.errors import Failed, KalecError, OutOfSpace, exit_code
from kalec.stdout import ROOM_HINT, flush_stdout, has_no_room

DONE: Final = 0
USAGE: Final = 2
INTERRUPTED: Final = 130

# Each command is a function `command`, or several are an `app`, in a module that is imported when it is used.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "lint": ("kalec.commands.lint", "Say what is wrong with notebooks, all in one go."),
    "graph": ("kalec.commands.graph", "Draw the steps, and the variables that travel between them."),
    "explain": ("kalec.commands.explain", "Say where a variable is made, who changes it, and who reads it."),
    "compile": ("kalec.commands.compile", "Compile notebooks into pipelines for Kubeflow Pipelines."),
    "run": ("kalec.commands.run", "Run a pipeline here, without a cluster, and nothing twice."),
    "runs": ("kalec.commands.runs", "Earlier runs: what they did, and away with them."),
    "tune": ("kalec.commands.tune", "Write an Experiment of Katib whose trials are runs of the pipeline."),
    "serve": ("kalec.commands.serve", "Write an InferenceService of KServe for a model."),
    "init": ("kalec.commands.init", "Propose tags for an untagged notebook, and write them on request."),
}


class Commands(TyperGroup):
    """The words that may follow `kalec`. Errors of ours end here, so they do in `rokctl kalec` too."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All commands, in the order of the manual."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load the command."""
        if cmd_name not in COMMANDS:
            return None
        name, help_text = COMMANDS[cmd_name]
        module = importlib.import_module(name)
        if hasattr(module, "app"):
            own = module.app
        else:
            own = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            own.command(cmd_name, help=help_text)(module.command)
        loaded = typer.main.get_command(own)
        read_plainly(loaded)
        return loaded

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before the command."""
        read_plainly(self)
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list in the help, which loads no command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Let a word that is no command be answered with the near ones."""
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]  # only its keys are compared with the word
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; its errors become a sentence on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except KalecError as error:
            report(error.message, error.hint)
            raise typer.Exit(exit_code(error)) from None
        except RecursionError:
            report("the code of this source is nested too deeply to be analysed")
            raise typer.Exit(exit_code(Failed(""))) from None


app = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


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
        raise typer.Exit(USAGE)


def run(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Run one command line, and return the exit code. Raises nothing."""
    try:
        code = int(app(list(argv), prog_name="kalec", standalone_mode=False) or DONE)
        flush_stdout()
        return _interrupted() if code == INTERRUPTED else code
    except typer.exceptions.TyperException as error:
        text = " ".join(error.format_message().split()).rstrip(".")
        context = getattr(error, "ctx", None)
        report(text[:1].lower() + text[1:], f"see `{context.command_path if context else 'kalec'} --help`")
        return USAGE
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except BrokenPipeError:  # nobody reads the results any more
        _close_output()
        return exit_code(Failed(""))
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else exit_code(Failed(""))
    except Exception as error:  # noqa: BLE001 - the last border: a person gets a sentence, and the trace on request
        if isinstance(error, OSError) and has_no_room(error):
            report(f"cannot write the output: {error.strerror}", ROOM_HINT)
            _close_output()
            return exit_code(OutOfSpace(""))
        if environment.get("KALEC_DEBUG"):
            sys.stderr.write("".join(traceback.format_exception(error)))
        hint = "run it again with KALEC_DEBUG=1 to see the trace, and report it"
        report(f"a fault in kalec: {type(error).__name__}: {error}", hint)
        return exit_code(Failed(""))


def report(message: str, hint: str = "") -> None:
    """The last words on stderr."""
    with suppress(BrokenPipeError):
        sys.stderr.write(f"kalec: {message}\n" + (f"hint: {hint}\n" if hint else ""))
        sys.stderr.flush()


def _interrupted() -> int:
    report("interrupted")
    return INTERRUPTED


def _close_output() -> None:
    """Keep Python from flushing into the broken pipe once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
