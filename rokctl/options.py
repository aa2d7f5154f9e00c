"""The options and arguments that several commands share, each declared once; and how a command is declared.

A command is a function of a `Session` and of its own parameters. `command` and `noun` add the options that stand
everywhere, before or after any word of the command line, and make the session out of them.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from engine.errors import Refused
from engine.units import parse_size
from rokctl.names import (
    SnapshotName,
    VolumeName,
    parse_new_snapshot,
    parse_pool,
    parse_pool_or_volume,
    parse_snapshot,
    parse_volume,
)
from rokctl.wiring import Flags, Session, World

Function = TypeVar("Function", bound=Callable[..., None])


def _limit(text: str) -> int:
    """Bytes per second. Raises Refused."""
    limit = parse_size(text.removesuffix("/s"))
    if limit <= 0:
        raise Refused("a limit must be more than 0", hint="leave the option out for no limit")
    return limit


def parse_labels(texts: Sequence[str] | None) -> dict[str, str]:
    """The labels of repeated `--label k=v`. Raises Refused."""
    labels: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Refused(f"{text!r} is not a label", hint="write it as --label KEY=VALUE")
        if labels.get(key, value) != value:
            raise Refused(f"the label {key!r} is given twice", hint="give each label once")
        labels[key] = value
    return labels


PoolArgument = Annotated[str, typer.Argument(parser=parse_pool, metavar="POOL", help="The pool.")]
VolumeArgument = Annotated[VolumeName, typer.Argument(parser=parse_volume, metavar="POOL/VOL", help="The volume.")]
SnapshotArgument = Annotated[
    SnapshotName, typer.Argument(parser=parse_snapshot, metavar="POOL/VOL@SNAP", help="The snapshot.")
]
SnapshotsArgument = Annotated[
    list[SnapshotName], typer.Argument(parser=parse_snapshot, metavar="POOL/VOL@SNAP", help="The snapshots.")
]
NewSnapshotsArgument = Annotated[
    list[Any],
    typer.Argument(
        parser=parse_new_snapshot,
        metavar="POOL/VOL[@NAME]",
        help="The volumes, and what each snapshot is to be called: without a name, by the time in UTC.",
    ),
]
PoolOrVolumeArgument = Annotated[
    Any | None,
    typer.Argument(parser=parse_pool_or_volume, metavar="[POOL[/VOL]]", help="Only of this pool or volume."),
]
SizeOption = Annotated[
    int, typer.Option("--size", parser=parse_size, metavar="SIZE", help="Bytes, or as 64KiB, 10G, 1.5T.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")]
LabelsOption = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label; may be given again.")
]
MessageOption = Annotated[str, typer.Option("--message", metavar="TEXT", help="A note that the version keeps.")]
CompressionOption = Annotated[
    int | None, typer.Option("--compression", metavar="LEVEL", min=1, max=19, help="The zstd level, 1 to 19.")
]
FullOption = Annotated[bool, typer.Option("--full", help="Read all of the volume, and trust no earlier version.")]
ReadLimitOption = Annotated[
    int | None, typer.Option("--limit-read", parser=_limit, metavar="RATE", help="Bytes per second read, as 200MiB.")
]
UploadLimitOption = Annotated[
    int | None, typer.Option("--limit-upload", parser=_limit, metavar="RATE", help="Bytes per second sent, as 50MiB.")
]


def noun(help_text: str) -> typer.Typer:
    """A noun of the command line, to which `command` adds verbs."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, help=help_text)

    @app.callback(invoke_without_command=True)
    @with_flags
    def group(context: typer.Context) -> None:
        require_command(context)

    return app


def command(app: typer.Typer, name: str, **settings: Any) -> Callable[[Function], Function]:
    """Make a function of a session (first) and of its own parameters a command of `app`."""

    def add(function: Function) -> Function:
        @functools.wraps(function)
        def run(context: typer.Context, **values: object) -> None:
            function(Session(context.obj[0], context.obj[1]), **values)

        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        _declare(run, [_CONTEXT, *own])
        app.command(name, **settings)(with_flags(run))
        return function

    return add


def optional_value(option: str) -> type[TyperCommand]:
    """A command whose option may stand without a value: at the end of the line, or before another option."""

    class OptionalValue(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            """Give the bare option the empty value."""
            following = [*args[1:], "--"][: len(args)]
            bare = [word == option and after.startswith("-") for word, after in zip(args, following, strict=True)]
            given = [f"{option}=" if alone else word for word, alone in zip(args, bare, strict=True)]
            return super().parse_args(ctx, given)

    return OptionalValue


def require_command(context: typer.Context) -> None:
    """Where a noun stands alone: show what it offers, as talk, and end as for any wrong use."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def with_world(world: World) -> tuple[World, Flags]:
    """What the commands find in their context: the world, and the flags given so far."""
    return world, Flags()


def with_flags(function: Callable[..., None]) -> Callable[..., None]:
    """`function`, taking the global options too, which it leaves in its context for the words that follow."""

    @functools.wraps(function)
    def run(context: typer.Context, **values: Any) -> None:
        flags = Flags(**{name: values.pop(name) for name in _FLAGS})
        world, outer = context.obj
        context.obj = (world, flags.over(outer))
        function(context, **values)

    _declare(run, [*inspect.signature(function, eval_str=True).parameters.values(), *_FLAGS.values()])
    return run


def _flags_template(
    repo: Annotated[str | None, typer.Option("--repo", metavar="URL", help="The repository.")] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="The file that holds its passphrase.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="FILE", help="The key file that opens it.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Read this configuration instead of the usual ones.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Results as JSON, one object a line.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing when all is well.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Leave with 11 where another run would be waited for.")
    ] = False,
) -> None:
    """The options that stand everywhere; only its signature is used."""


_FLAGS = {
    name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    for name, parameter in inspect.signature(_flags_template, eval_str=True).parameters.items()
}
_CONTEXT = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)


def _declare(function: Any, parameters: Sequence[inspect.Parameter]) -> None:
    """Give a wrapper the parameters that typer is to see."""
    function.__signature__ = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del function.__wrapped__  # else typer would look up the types in the inner function
