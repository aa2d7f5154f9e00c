"""`rokctl repo`: make a repository, look at it, check and repair it; its keys are in rokctl/key.py."""

from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import Damaged, DoneInPart
from engine.units import format_size
from rokctl import key
from rokctl.options import DryRunOption, command, noun, optional_value
from rokctl.render import Amount, plain, print_line
from rokctl.wiring import Session

if TYPE_CHECKING:
    from engine.repo.check import CheckReport, Finding
    from engine.repo.diagnosis import Hurt
    from engine.repo.repair import RepairReport, Step
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


@command(app, "repair", cls=optional_value("--read-data"))
def repair(
    session: Session,
    from_packs: Annotated[
        bool, typer.Option("--from-packs", help="Read every pack's own directory, and hold the index against it.")
    ] = False,
    read_data: ReadDataOption = None,
    from_paper: Annotated[
        Path | None,
        typer.Option(
            "--from-paper", metavar="FILE", help="Rebuild a lost descriptor by the paper copy, typed in a file."
        ),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Mend what can be mended, save what can be read, and mark the versions that lost something."""
    from engine.repo.repair import repair as repair_repository

    sample = sample_of(read_data)
    if from_paper is not None:
        _rebuild_descriptor(session, from_paper, dry_run=dry_run)
    with session.repository(paper=from_paper) as repository, session.progress() as progress:
        report = repair_repository(
            repository,
            from_packs=from_packs,
            read_data=sample or False,
            dry_run=dry_run,
            progress=progress,
            listen=lambda step: _report_step(session, step, dry_run=dry_run),
        )
    _report_repair(session, report, dry_run=dry_run)


def _report_step(session: Session, step: "Step", *, dry_run: bool) -> None:
    kind = "would" if dry_run else "outcome"
    sentence = f"{step.blob}: {'would be ' if dry_run else ''}{step.mend.value}: {step.detail}"
    session.output.result(sentence, {kind: step.mend, "blob": step.blob, "detail": step.detail})


def _report_repair(session: Session, report: "RepairReport", *, dry_run: bool) -> None:
    output = session.output
    if output.as_json:
        for finding in report.remaining:
            output.result("", plain(finding))
        output.result("", {**plain(report), "remaining": len(report.remaining)})
    else:
        for finding in report.remaining:
            _print_finding(finding)
        for hurt in report.hurt:
            _print_hurt(hurt)
    if not report.hurt and not report.remaining:
        if not output.as_json:
            output.result(f"{report.steps} steps {'would be ' if dry_run else ''}taken, and nothing is lost", report)
        return
    if report.hurt:
        names = ", ".join(sorted({f"{hurt.object}@{hurt.version}" for hurt in report.hurt}))
        raise DoneInPart(
            f"some content is lost; hurt: {names}",
            hint="push the snapshots again that are still on a node, and repair once more; "
            "`rokctl restore --around-damage` gives the rest",
        )
    raise DoneInPart(f"{len(report.remaining)} blobs take another command", hint="it is said beside each of them")


def _rebuild_descriptor(session: Session, paper: Path, *, dry_run: bool) -> None:
    from engine.repo.rebuild import rebuild_descriptor
    from rokctl.secret import read_paper

    key = read_paper(paper)
    with session.store() as store:
        rebuilt = rebuild_descriptor(store, key, clock=session.world.clock, dry_run=dry_run)
    if rebuilt:
        kind, words = ("would", "would be rebuilt") if dry_run else ("outcome", "rebuilt")
        record = {kind: "rebuilt", "blob": "repository", "detail": f"the descriptor of repository {key.repository_id}"}
        session.output.result(f"repository: {words}: the descriptor of repository {key.repository_id}", record)
        if dry_run:
            raise DoneInPart("what else is damaged shows when the descriptor stands", hint="run it without --dry-run")


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
        _print_hurt(hurt)


def _print_hurt(hurt: "Hurt") -> None:
    extents = ", ".join(f"{extent.start}+{extent.length}" for extent in hurt.extents)
    print_line(f"  hurts {hurt.object}@{hurt.version}, member {hurt.member}, bytes {extents}")
