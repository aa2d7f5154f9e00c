"""`rokctl repo`: make a repository, look at it, check, repair, collect and copy it; its keys are in rokctl/key.py."""

from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from engine.errors import Refused
from rokctl import key
from rokctl.collect import GraceOption, ShareOption, keep_tombstones, marks_store, report_collection
from rokctl.copy import CopyFlags, copy_versions
from rokctl.options import CompressionOption, ReadLimitOption, UploadLimitOption, command, noun, optional_value
from rokctl.render import Amount
from rokctl.repair import (
    DryRunOption,
    FromPacksOption,
    FromPaperOption,
    ReadDataOption,
    rebuild_lost_descriptor,
    report_check,
    report_repair,
    report_step,
    sample_of,
)
from rokctl.space import show_growth, show_space
from rokctl.wiring import Session, settings

Choice = TypeVar("Choice", bound=Enum)

app = noun("The repository: where versions live.")
app.add_typer(key.app, name="key")


@command(app, "init")
def init(
    session: Session,
    no_encryption: Annotated[
        bool, typer.Option("--no-encryption", help="Let whoever can read the store read everything in it.")
    ] = False,
) -> None:
    """Make a repository in an empty store."""
    from engine.repo.repository import initialise

    secret = None if no_encryption else session.first_secret()
    with session.store(create=True) as store:
        made = initialise(store, secret, clock=session.world.clock, entropy=session.world.entropy)
    kept = "encrypted" if made.encrypted else "not encrypted"
    record = {"outcome": "created", "id": made.id, "url": made.url, "encrypted": made.encrypted}
    session.output.result(f"repository {made.id} in {made.url}: created, {kept}", record)


@command(app, "info")
def info(
    session: Session,
    space: Annotated[
        bool, typer.Option("--space", help="Show what each object takes; reads the maps of all versions.")
    ] = False,
    by: Annotated[
        str | None, typer.Option("--by", metavar="GROUP", help="With --space: by object, or by bucket.")
    ] = None,
    growth: Annotated[
        str | None, typer.Option("--growth", metavar="PERIOD", help="Show what was sent by day, week, month or year.")
    ] = None,
) -> None:
    """Show what a repository holds, where its space goes, or how it grew."""
    if space and growth is not None:
        raise Refused("--space and --growth are different tables", hint="ask for one of them")
    if by is not None and not space:
        raise Refused("--by means something for --space alone", hint="say --space --by bucket, or leave --by out")
    if space:
        from engine.ops.space import Grouping

        show_space(session, _one_of(Grouping, "--by", by or "object"))
    elif growth is not None:
        from engine.ops.growth import Period

        show_growth(session, _one_of(Period, "--growth", growth))
    else:
        _show_status(session)


def _one_of(kind: type[Choice], option: str, word: str) -> Choice:
    """The member of an enum that a word means. Raises Refused."""
    try:
        return kind(word)
    except ValueError:
        words = " or ".join(str(member.value) for member in kind)
        raise Refused(f"{word!r} means nothing for {option}", hint=f"say {words}") from None


def _show_status(session: Session) -> None:
    with session.repository() as repository:
        status = repository.status()
    lines = {entry.name: getattr(status, entry.name) for entry in fields(status)}
    session.output.sheet(status, {name.replace("_", " "): _amount(name, value) for name, value in lines.items()})


def _amount(name: str, value: object) -> object:
    """Sizes are the whole numbers whose names say so."""
    return Amount(value) if isinstance(value, int) and name.endswith(("size", "bytes", "stored", "data")) else value


@command(app, "check", cls=optional_value("--read-data"))
def check(session: Session, read_data: ReadDataOption = None) -> None:
    """Check that every version can be restored."""

    sample = sample_of(read_data)
    with session.repository(uses="engine.repo.check") as repository, session.progress() as progress:
        from engine.repo.check import check as check_repository

        report = check_repository(repository, read_data=sample or False, progress=progress)
    report_check(session, report)


@command(app, "repair", cls=optional_value("--read-data"))
def repair(
    session: Session,
    from_packs: FromPacksOption = False,
    read_data: ReadDataOption = None,
    from_paper: FromPaperOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Mend what can be mended, save what can be read, and mark the versions that lost something."""

    sample = sample_of(read_data)
    if from_paper is not None:
        rebuild_lost_descriptor(session, from_paper, dry_run=dry_run)
    with session.repository(uses="engine.repo.repair", paper=from_paper) as repository, session.progress() as progress:
        from engine.repo.repair import repair as repair_repository

        report = repair_repository(
            repository,
            from_packs=from_packs,
            read_data=sample or False,
            dry_run=dry_run,
            progress=progress,
            listen=lambda step: report_step(session, step, dry_run=dry_run),
        )
    report_repair(session, report, dry_run=dry_run)


@command(app, "gc")
def gc(
    session: Session,
    grace: GraceOption = None,
    repack_below: ShareOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Collect what no version needs any more: condemn it, and delete what was condemned before."""

    with session.repository(uses="engine.repo.collect") as repository, session.progress() as progress:
        from engine.repo.collect import CollectOptions, collect

        options = CollectOptions(
            **settings(grace=grace, live_share=repack_below),
            keep_tombstones=keep_tombstones(repository.url),
            dry_run=dry_run,
        )
        report = collect(repository, options, progress=progress, cache=marks_store(session, repository))
    report_collection(session, report)


@command(app, "copy")
def copy(
    session: Session,
    reference: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BUCKET[/OBJECT[@VERSION]]]", help="Only these buckets, objects or versions; without any, all."
        ),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="URL", help="The repository to copy to.")] = None,
    to_password_file: Annotated[
        Path | None, typer.Option("--to-password-file", metavar="FILE", help="The file that holds its passphrase.")
    ] = None,
    to_key_file: Annotated[
        Path | None, typer.Option("--to-key-file", metavar="FILE", help="The key file that opens it.")
    ] = None,
    compression: CompressionOption = None,
    limit_read: ReadLimitOption = None,
    limit_upload: UploadLimitOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which versions would be copied, and copy nothing.")
    ] = False,
) -> None:
    """Copy versions to another repository: only what is missing there."""
    flags = CopyFlags(to, to_password_file, to_key_file, compression, limit_read, limit_upload, dry_run)
    copy_versions(session, reference or (), flags)
