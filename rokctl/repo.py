"""`rokctl repo`: make a repository, look at it, check it; its keys are in rokctl/key.py."""

from collections import Counter
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import Damaged
from engine.units import format_size
from rokctl import key
from rokctl.options import command, noun, optional_value
from rokctl.render import Amount, plain, print_line
from rokctl.wiring import Session

if TYPE_CHECKING:
    from engine.repo.check import CheckReport, Finding
    from engine.repo.sample import Sample

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
def info(session: Session) -> None:
    """Show what a repository holds."""
    with session.repository() as repository:
        status = repository.status()
    lines = {entry.name: getattr(status, entry.name) for entry in fields(status)}
    session.output.sheet(status, {name.replace("_", " "): _amount(name, value) for name, value in lines.items()})


def _amount(name: str, value: object) -> object:
    """Sizes are the whole numbers whose names say so."""
    return Amount(value) if isinstance(value, int) and name.endswith(("size", "bytes", "stored", "data")) else value


ReadDataOption = Annotated[
    str | None,
    typer.Option(
        "--read-data",
        metavar="[SAMPLE]",
        help="Read packs, and verify each chunk against its id: all, or 5%, 10GiB, 3/20. Stands last, or with =.",
    ),
]


@command(app, "check", cls=optional_value("--read-data"))
def check(session: Session, read_data: ReadDataOption = None) -> None:
    """Check that every version can be restored."""
    from engine.repo.check import check as check_repository

    sample = sample_of(read_data)
    with session.repository() as repository, session.progress() as progress:
        report = check_repository(repository, read_data=sample or False, progress=progress)
    _report(session, report)
    if report.findings:
        hurt = {(hurt.object, hurt.version) for finding in report.findings for hurt in finding.hurt}
        names = ", ".join(sorted(f"{name}@{version}" for name, version in hurt)) or "no version"
        raise Damaged(
            f"{len(report.findings)} blobs are damaged; hurt: {names}",
            hint="`rokctl repo repair` saves what can be read; then push the snapshots again that are still on a node; "
            "versions not named here are whole",
        )


def sample_of(read_data: str | None) -> "Sample | None":
    """What `--read-data` asks for. Raises Refused."""
    from engine.repo.sample import ALL, parse_sample

    return None if read_data is None else parse_sample(read_data) if read_data else ALL


def _report(session: Session, report: "CheckReport") -> None:
    output = session.output
    if output.as_json:
        for finding in report.findings:
            output.result("", plain(finding))
        for note in report.notes:
            output.result("", plain(note))
        output.result("", {**plain(report), "findings": len(report.findings), "notes": len(report.notes)})
        return
    for finding in report.findings:
        _print_finding(finding)
    for leftover, count in Counter(note.leftover for note in report.notes).items():
        remark = next(note.remark for note in report.notes if note.leftover is leftover)
        output.talk(f"left over: {leftover.value}, {count} of them: {remark}")
    if not report.findings:
        counts = f"{report.versions} versions, {report.packs} packs, {report.chunks} chunks"
        read = f", {format_size(report.bytes_read)} read, part {report.part}" if report.part else ""
        output.result(f"{counts}{read}: no damage", report)


def _print_finding(finding: "Finding") -> None:
    print_line(f"{finding.blob}: {finding.code.value}: {finding.problem}")
    for hurt in finding.hurt:
        extents = ", ".join(f"{extent.start}+{extent.length}" for extent in hurt.extents)
        print_line(f"  hurts {hurt.object}@{hurt.version}, member {hurt.member}, bytes {extents}")
