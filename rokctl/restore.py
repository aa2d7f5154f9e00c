"""`rokctl restore`: bring a version back, to a volume or to a file."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import DoneInPart, Failed, Refused
from engine.units import format_size
from rokctl.names import VolumeName, parse_volume
from rokctl.options import command
from rokctl.wiring import Session

if TYPE_CHECKING:
    from engine.ops.restore import RestoreReport

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@command(app, "restore")
def restore(
    session: Session,
    reference: Annotated[
        str, typer.Argument(metavar="BUCKET/OBJECT[@VERSION]", help="The version; without one, the latest.")
    ],
    member: Annotated[
        str | None, typer.Option("--member", metavar="NAME", help="Which volume of a version that holds several.")
    ] = None,
    to: Annotated[
        VolumeName | None, typer.Option("--to", parser=parse_volume, metavar="POOL/VOL", help="The volume to write.")
    ] = None,
    to_file: Annotated[
        str | None, typer.Option("--to-file", metavar="PATH", help="The file to write; - is standard output.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Overwrite a volume that exists; what it holds now is lost.")
    ] = False,
    around_damage: Annotated[
        bool, typer.Option("--around-damage", help="Leave zeros where content is lost, and restore the rest.")
    ] = False,
) -> None:
    """Write a version to a new volume, over an existing one, or to a file."""
    from engine.repo.naming import parse_reference

    wanted = parse_reference(reference)
    if (to is None) == (to_file is None):
        raise Refused("a restore writes to one place", hint="give either --to POOL/VOL or --to-file PATH")
    if in_place and to is None:
        raise Refused("--in-place means nothing with --to-file", hint="leave --in-place out")
    pool = session.pools.open(to.pool) if to else None
    with session.repository(uses="engine.ops.restore") as repository, session.progress() as progress:
        from engine.ops import restore as ops

        workers = ops.NEAR_WORKERS if session.is_near else ops.FAR_WORKERS
        options = ops.RestoreOptions(workers=workers, around_damage=around_damage)
        manifest = repository.resolve(wanted)
        chosen = manifest.member(member)
        if to is not None and pool is not None:
            report = ops.restore_to_volume(
                repository, manifest, chosen, pool, to.volume, in_place=in_place, options=options, progress=progress
            )
        elif to_file == "-":
            report = ops.restore_to_stream(repository, manifest, chosen, _pour, options=options, progress=progress)
        else:
            assert to_file is not None
            path = Path(to_file)
            report = ops.restore_to_file(repository, manifest, chosen, path, options=options, progress=progress)
    if to_file != "-":  # else standard output holds the volume, and nothing else
        _report(session, report)
    if report.losses:
        places = ", ".join(f"{extent.start}+{extent.length}" for extent in report.losses)
        raise DoneInPart(
            f"{format_size(report.lost)} of {report.bucket}/{report.object}@{report.version}, member {report.member}, are "
            f"lost and read as zeros now: bytes {places}",
            hint="a snapshot that is still on a node can be pushed again, and brings back what it holds of that",
        )


def _report(session: Session, report: "RestoreReport") -> None:
    start = f"from {report.base}, " if report.base else ""
    sentence = (
        f"{report.target}: {report.outcome.value}, {report.bucket}/{report.object}@{report.version} ({start}"
        f"{format_size(report.written)} written, {format_size(report.discarded)} discarded, {report.seconds:.1f} s)"
    )
    session.output.result(sentence, report)


def _pour(view: memoryview) -> None:
    """Write it to standard output, whose buffer takes all. Raises Failed where what is behind that may not be waited for."""
    try:
        sys.stdout.buffer.write(view)
        sys.stdout.buffer.flush()
    except BlockingIOError:
        hint = "pass it through `cat`"
        raise Failed("the pipe has no room now, and is set not to be waited for", hint=hint) from None
