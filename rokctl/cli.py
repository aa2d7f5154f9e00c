"""The border of the program: words in, an exit code out. All exceptions end here, and nowhere else."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from engine import errors
from engine.errors import OutOfSpace, Remedy, RokError
from kalec.commands.words import read_plainly
from kalec.stdout import ROOM_HINT, flush_stdout, has_no_room
from rokctl import VERSION
from rokctl.options import require_command, with_flags, with_world
from rokctl.render import json_line, print_line, printable
from rokctl.signals import Terminated, interruptions
from rokctl.wiring import World, default_state_directory, this_world

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
IN_PART: Final = 3
INTERRUPTED: Final = 130
TERMINATED: Final = 143

# An error ends the program with the code of the first of its classes that stands here.
EXIT_CODES: Final[Mapping[type[RokError], int]] = {
    errors.Failed: FAILED,
    errors.Refused: USAGE,
    errors.DoneInPart: IN_PART,
    errors.NotFound: 10,
    errors.Busy: 11,
    errors.Unreachable: 12,
    errors.Damaged: 13,
    errors.WrongKey: 14,
    errors.OutOfSpace: 15,
    RokError: FAILED,
}

KALEC: Final = "kalec"

# Each noun is a module that is imported when it is used: `rokctl pool list` has no need of the rest.
NOUNS: Final[Mapping[str, tuple[str, str]]] = {
    "pool": ("rokctl.pool", "Pools: where volumes and snapshots live."),
    "volume": ("rokctl.volume", "Volumes: block devices in a pool."),
    "snapshot": ("rokctl.snapshot", "Snapshots of volumes, on this node; and their way into a repository."),
    "version": ("rokctl.version", "Versions of objects in a repository."),
    "restore": ("rokctl.restore", "Bring a version back, to a volume or to a file."),
    "repo": ("rokctl.repo", "The repository: where versions live."),
    KALEC: ("kalec.cli", "The notebook compiler, as the program kalec."),
}


class Nouns(TyperGroup):
    """The words that may follow `rokctl`, each loaded when it is used."""

    _word_after = ""  # the noun, on the command line

    def list_commands(self, ctx: Any) -> list[str]:
        """All nouns, in the order of the manual."""
        return list(NOUNS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load the noun."""
        if cmd_name not in NOUNS:
            return None
        module, help_text = NOUNS[cmd_name]
        if cmd_name != KALEC:
            _keep_numpy_to_one_thread()
        app: typer.Typer = importlib.import_module(module).app
        loaded = typer.main.get_command(_with_verb(app, self._word_after) or app)
        loaded.short_help = help_text
        read_plainly(loaded)
        return loaded

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list in the help, which loads no noun."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in NOUNS.items()])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before the noun."""
        read_plainly(self)
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Let a word that is no noun be answered with the near ones."""
        self.commands = dict.fromkeys(NOUNS)  # type: ignore[assignment]  # only its keys are compared with the word
        self._word_after = args[1] if len(args) > 1 else ""
        return super().resolve_command(ctx, args)


def _with_verb(noun: typer.Typer, verb: str) -> typer.Typer | None:
    """The noun with this verb alone: typer makes a command of each verb that a noun has. None if the word is no verb of it."""
    found = [info for info in noun.registered_commands if info.name == verb]
    if not found:
        return None
    alone = copy(noun)
    alone.registered_commands = found
    return alone


def _keep_numpy_to_one_thread() -> None:
    """OpenBLAS starts a thread for each core when it is loaded, which spin a while, and nothing here calls it.

    The steps of a notebook, which would inherit this, may well do.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


app = typer.Typer(cls=Nouns, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
@with_flags
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version of the program, and leave.")] = False,
) -> None:
    """Snapshot local volumes, push what changed to an object store, and bring any version back on any node."""
    if version:
        print_line(f"rokctl {VERSION}")
        raise typer.Exit
    require_command(context)


def run(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Run one command line, and return the exit code. Raises nothing."""
    world = this_world(environment)
    as_json = "--json" in argv[: argv.index("--")] if "--" in argv else "--json" in argv
    try:
        with interruptions(world.stop):
            code = int(app(list(argv), prog_name="rokctl", standalone_mode=False, obj=with_world(world)) or DONE)
        if code == INTERRUPTED:  # typer has turned KeyboardInterrupt into this
            raise KeyboardInterrupt
        flush_stdout()
        return code
    except RokError as error:
        return _report_error(error, as_json=as_json)
    except typer.exceptions.TyperException as error:
        _report(_sentence(error.format_message()), USAGE, Remedy.FIX_REQUEST, _help_command(error), as_json=as_json)
        return USAGE
    except (KeyboardInterrupt, typer.Abort):
        _report("interrupted", INTERRUPTED, Remedy.RETRY, "", as_json=as_json)
        return INTERRUPTED
    except Terminated:
        _report("terminated by a signal", TERMINATED, Remedy.RETRY, "", as_json=as_json)
        return TERMINATED
    except BrokenPipeError:  # nobody reads the results any more
        return FAILED
    except SystemExit as leave:  # how typer ends a completion, and what writes to a pipe that nobody reads any more
        return leave.code if isinstance(leave.code, int) else FAILED
    except Exception as error:  # noqa: BLE001 - the last border: a person gets a sentence, and the trace goes to a file
        # What rokctl itself writes says which disk is full; what is left is the output.
        if isinstance(error, OSError) and has_no_room(error):
            full = OutOfSpace(f"cannot write the output: {error.strerror}", hint=ROOM_HINT)
            return _report_error(full, as_json=as_json)
        message, hint = _unforeseen(error, world)
        _report(message, FAILED, Remedy.GIVE_UP, hint, as_json=as_json)
        return FAILED


def exit_code(error: RokError) -> int:
    """The code that an error ends the program with."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def _report_error(error: RokError, *, as_json: bool) -> int:
    """Say what was raised; the code to end with."""
    code = exit_code(error)
    _report(error.message, code, error.remedy, error.hint, as_json=as_json)
    return code


def _report(message: str, code: int, remedy: Remedy, hint: str, *, as_json: bool) -> None:
    """The last words on stderr."""
    with suppress(BrokenPipeError):
        if as_json:
            record = {"error": message, "code": code, "remedy": remedy.value, "hint": hint}
            sys.stderr.write(json_line(record) + "\n")
        else:
            sys.stderr.write(f"rokctl: {printable(message)}\n" + (f"hint: {printable(hint)}\n" if hint else ""))
        sys.stderr.flush()


def _sentence(text: str) -> str:
    """A message of the option parser in the form of ours: no capital, no full stop, one line."""
    text = " ".join(text.split()).rstrip(".")
    return text[:1].lower() + text[1:]


def _help_command(error: typer.exceptions.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"see `{context.command_path if context else 'rokctl'} --help`"


def _unforeseen(error: Exception, world: World) -> tuple[str, str]:
    """A fault of the program itself: keep the trace for whoever mends it, and say where it is."""
    import traceback

    trace = "".join(traceback.format_exception(error))
    if world.environment.get("ROKCTL_DEBUG"):
        sys.stderr.write(trace)
    message = f"a fault in rokctl: {type(error).__name__}: {error}"
    try:
        folder = default_state_directory(world) / "faults"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{world.clock.now():%Y%m%dT%H%M%S}-{os.getpid()}.txt"
        path.write_text(f"rokctl {VERSION}\n{trace}", encoding="utf-8", errors="backslashreplace")
    except OSError:
        return message, "run it again with ROKCTL_DEBUG=1 to see the trace, and report it"
    return message, f"report it, with the trace in {path}"
