"""`rokctl repo check` and `rokctl repo repair` as people and scripts read them."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import Damaged, DoneInPart
from engine.units import format_size
from rokctl.render import plain, print_line
from rokctl.wiring import Session

if TYPE_CHECKING:
    from engine.repo.check import CheckReport, Finding
    from engine.repo.diagnosis import Hurt
    from engine.repo.repair import RepairReport, Step
    from engine.repo.sample import Sample

ReadDataOption = Annotated[
    str | None,
    typer.Option(
        "--read-data",
        metavar="[SAMPLE]",
        help="Read packs, and verify each chunk against its id: all, or 5%, 10GiB, 3/20. Stands last, or with =.",
    ),
]
FromPacksOption = Annotated[
    bool, typer.Option("--from-packs", help="Read every pack's own directory, and hold the index against it.")
]
FromPaperOption = Annotated[
    Path | None,
    typer.Option("--from-paper", metavar="FILE", help="Rebuild a lost descriptor by the paper copy, typed in a file."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def sample_of(read_data: str | None) -> "Sample | None":
    """What `--read-data` asks for. Raises Refused."""
    from engine.repo.sample import ALL, parse_sample

    return None if read_data is None else parse_sample(read_data) if read_data else ALL


def report_check(session: Session, report: "CheckReport") -> None:
    """What a check found. Raises Damaged where that is any damage."""
    if session.output.as_json:
        for line in (*report.findings, *report.notes):
            session.output.result("", plain(line))
        session.output.result("", {**plain(report), "findings": len(report.findings), "notes": len(report.notes)})
    else:
        _print_check(session, report)
    if report.findings:
        hurt = {(hurt.object, hurt.version) for finding in report.findings for hurt in finding.hurt}
        names = ", ".join(sorted(f"{name}@{version}" for name, version in hurt)) or "no version"
        raise Damaged(
            f"{len(report.findings)} blobs are damaged; hurt: {names}",
            hint="`rokctl repo repair` saves what can be read; then push the snapshots again that are still on a node; "
            "versions not named here are whole",
        )


def _print_check(session: Session, report: "CheckReport") -> None:
    for finding in report.findings:
        _print_finding(finding)
    for leftover, count in Counter(note.leftover for note in report.notes).items():
        remark = next(note.remark for note in report.notes if note.leftover is leftover)
        session.output.talk(f"left over: {leftover.value}, {count} of them: {remark}")
    if not report.findings:
        counts = f"{report.versions} versions, {report.packs} packs, {report.chunks} chunks"
        part = f" (part {report.part})" if report.part not in (None, "1/1") else ""
        read = f", {format_size(report.bytes_read)} read{part}" if report.part else ""
        session.output.result(f"{counts}{read}: no damage", report)


def _print_finding(finding: "Finding") -> None:
    print_line(f"{finding.blob}: {finding.code.value}: {finding.problem}")
    for hurt in finding.hurt:
        _print_hurt(hurt)


def _print_hurt(hurt: "Hurt") -> None:
    extents = ", ".join(f"{extent.start}+{extent.length}" for extent in hurt.extents)
    print_line(f"  hurts {hurt.object}@{hurt.version}, member {hurt.member}, bytes {extents}")


def report_step(session: Session, step: "Step", *, dry_run: bool) -> None:
    """One step of a repair."""
    kind = "would" if dry_run else "outcome"
    sentence = f"{step.blob}: {'would be ' if dry_run else ''}{step.mend.value}: {step.detail}"
    session.output.result(sentence, {kind: step.mend, "blob": step.blob, "detail": step.detail})


def report_repair(session: Session, report: "RepairReport", *, dry_run: bool) -> None:
    """What a repair came to. Raises DoneInPart where damage is left."""
    if session.output.as_json:
        for finding in report.remaining:
            session.output.result("", plain(finding))
        session.output.result("", {**plain(report), "remaining": len(report.remaining)})
    else:
        _print_repair(session, report, dry_run=dry_run)
    if report.remaining and not report.hurt:
        raise DoneInPart(f"{len(report.remaining)} blobs take another command", hint="it is said beside each of them")
    if report.hurt:
        names = ", ".join(sorted({f"{hurt.object}@{hurt.version}" for hurt in report.hurt}))
        raise DoneInPart(
            f"some content is lost; hurt: {names}",
            hint="push the snapshots again that are still on a node, and repair once more; "
            "`rokctl restore --around-damage` gives the rest",
        )


def _print_repair(session: Session, report: "RepairReport", *, dry_run: bool) -> None:
    for finding in report.remaining:
        _print_finding(finding)
    for hurt in report.hurt:
        _print_hurt(hurt)
    if not report.hurt and not report.remaining:
        steps = f"{report.steps} steps {'would be ' if dry_run else ''}taken"
        session.output.result(f"{steps if report.steps else 'nothing to mend'}: nothing is lost", report)


def rebuild_lost_descriptor(session: Session, paper: Path, *, dry_run: bool) -> None:
    """Write the descriptor anew where it is lost. Raises DoneInPart for a dry run, which cannot go on without one."""
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
