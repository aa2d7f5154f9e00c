"""`rokctl repo`: make a repository, look at it, check it, copy it; its keys are in rokctl/key.py."""

from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from engine.errors import Damaged, Refused
from engine.units import format_size
from rokctl import key
from rokctl.collect import GraceOption, ShareOption, keep_tombstones, marks_store, report_collection
from rokctl.copy import CopyFlags, copy_versions
from rokctl.options import CompressionOption, ReadLimitOption, UploadLimitOption, command, noun
from rokctl.render import Amount, plain, print_line
from rokctl.space import show_growth, show_space
from rokctl.wiring import Session, settings

if TYPE_CHECKING:
    from engine.repo.check import CheckReport, Finding

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


@command(app, "check")
def check(
    session: Session,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read every pack, and verify each chunk against its id.")
    ] = False,
) -> None:
    """Check that every version can be restored."""
    from engine.repo.check import check as check_repository

    with session.repository() as repository, session.progress() as progress:
        report = check_repository(repository, read_data=read_data, progress=progress)
    _report(session, report)
    if report.findings:
        hurt = {(hurt.object, hurt.version) for finding in report.findings for hurt in finding.hurt}
        names = ", ".join(sorted(f"{name}@{version}" for name, version in hurt)) or "no version"
        raise Damaged(
            f"{len(report.findings)} blobs are damaged; hurt: {names}",
            hint="push the snapshots again that are still on a node; versions not named here are whole",
        )


@command(app, "gc")
def gc(
    session: Session,
    grace: GraceOption = None,
    repack_below: ShareOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Collect what no version needs any more: condemn it, and delete what was condemned before."""
    from engine.repo.collect import CollectOptions, collect

    with session.repository() as repository, session.progress() as progress:
        options = CollectOptions(
            **settings(grace=grace, live_share=repack_below),
            keep_tombstones=keep_tombstones(repository.url),
            dry_run=dry_run,
        )
        report = collect(repository, options, progress=progress, cache=marks_store(session, repository))
    report_collection(session, report)


def _report(session: Session, report: "CheckReport") -> None:
    output = session.output
    if output.as_json:
        for finding in report.findings:
            output.result("", plain(finding))
        output.result("", {**plain(report), "findings": len(report.findings)})
        return
    for finding in report.findings:
        _print_finding(finding)
    if not report.findings:
        read = f", {format_size(report.bytes_read)} read" if report.bytes_read else ""
        output.result(
            f"{report.versions} versions, {report.packs} packs, {report.chunks} chunks{read}: no damage", report
        )


def _print_finding(finding: "Finding") -> None:
    print_line(f"{finding.blob}: {finding.problem}")
    for hurt in finding.hurt:
        extents = ", ".join(f"{extent.start}+{extent.length}" for extent in hurt.extents)
        print_line(f"  hurts {hurt.object}@{hurt.version}, member {hurt.member}, bytes {extents}")


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
