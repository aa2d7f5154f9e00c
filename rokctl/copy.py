"""Copying from the command line: from which repository to which, what, how, and what came of it; used by `repo copy`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config import Config, RepositoryConfig, override, read_destination
from engine.errors import DoneInPart, Refused
from engine.units import format_size
from engine.values import dataclass
from rokctl.lock import exclusive
from rokctl.render import Amount, print_line
from rokctl.wiring import Session, settings

if TYPE_CHECKING:
    from engine.ops.copy import CopiedVersion, CopyPlan, CopyReport, CopyStep
    from engine.ops.intake import Effort
    from engine.ops.scope import Scope
    from engine.repo.naming import VersionReference
    from engine.repo.repository import Repository


@dataclass(frozen=True, slots=True)
class CopyFlags:
    """What the command line says of a copy; None leaves it to the environment or the configuration."""

    to: str | None
    to_password_file: Path | None
    to_key_file: Path | None
    compression: int | None
    limit_read: int | None
    limit_upload: int | None
    dry_run: bool


def copy_versions(session: Session, words: Sequence[str], flags: CopyFlags) -> None:
    """Copy what the words name, or say what would be copied. Raises DoneInPart when something of it is damaged."""
    given = _destination(session, flags)
    scopes, references = _parse_words(words)
    with (
        session.repository(uses="engine.ops.copy") as source,
        session.destination(given, limit_upload=flags.limit_upload) as destination,
        exclusive(
            session.state_directory / "locks",
            destination.url,
            wait=not session.flags.no_wait,
            talk=session.output.talk,
            work="copy",
        ),
    ):
        from engine.ops.copy import plan_copy

        plan = plan_copy(source, destination, scopes, references)
        if flags.dry_run:
            _show_plan(session, plan)
        else:
            _carry_out(session, source, destination, plan, _effort(session, flags))


def _destination(session: Session, flags: CopyFlags) -> RepositoryConfig:
    if flags.to_password_file is not None and flags.to_key_file is not None:
        raise Refused(
            "both --to-password-file and --to-key-file were given", hint="give the one that opens the repository"
        )
    named = settings(
        **{
            "repository.url": flags.to,
            "repository.password_file": flags.to_password_file,
            "repository.key_file": flags.to_key_file,
        }
    )
    return override(Config(repository=read_destination(session.world.environment)), named).repository


def _parse_words(words: Sequence[str]) -> "tuple[list[Scope], list[VersionReference]]":
    """Buckets and objects, and single versions; without a word the scope of all. Raises Refused."""
    from engine.ops.scope import Scope
    from engine.repo.naming import parse_bucket_or_object, parse_reference

    if not words:
        return [Scope()], []
    scopes = [Scope(*parse_bucket_or_object(word)) for word in words if "@" not in word]
    return scopes, [parse_reference(word) for word in words if "@" in word]


def _effort(session: Session, flags: CopyFlags) -> "Effort":
    from engine.ops.intake import Effort

    configured = session.config.push
    return Effort(
        read_limit=session.read_limit(flags.limit_read),
        **settings(
            level=flags.compression or configured.compression,
            workers=configured.workers,
            uploaders=configured.uploaders,
        ),
    )


def _show_plan(session: Session, plan: "CopyPlan") -> None:
    _talk_of_what_is_unreadable(session, plan)
    session.output.listing(
        plan.steps,
        {
            "OBJECT": lambda step: step.manifest.object,
            "VERSION": lambda step: step.manifest.version,
            "CREATED": lambda step: step.manifest.created,
            "DATA": lambda step: Amount(step.manifest.totals.data),
            "WOULD": _would,
        },
        _step_record,
    )
    missing = [step.manifest.totals.data for step in plan.steps if step.there is None]
    session.output.talk(
        f"{len(missing)} of {len(plan.steps)} versions would be copied, which hold {format_size(sum(missing))}"
    )


def _would(step: "CopyStep") -> str:
    return "already there" if step.there else "copy"


def _step_record(step: "CopyStep") -> dict[str, object]:
    manifest = step.manifest
    return {
        "would": _would(step),
        "bucket": manifest.object.bucket,
        "object": manifest.object.name,
        "version": manifest.version,
        "copied_as": step.there.version if step.there else None,
        "created": manifest.created,
        "size": manifest.totals.size,
        "data": manifest.totals.data,
    }


def _carry_out(
    session: Session, source: "Repository", destination: "Repository", plan: "CopyPlan", effort: "Effort"
) -> None:
    from engine.ops.copy import copy

    troubled = list(plan.unreadable)

    def listen(copied: "CopiedVersion") -> None:
        if copied.problem:
            troubled.append(f"{copied.bucket}/{copied.object}@{copied.version}")
        _show(session, copied)

    _talk_of_what_is_unreadable(session, plan)
    with session.progress() as progress:
        report = copy(
            source,
            destination,
            plan,
            effort,
            node=session.node,
            tool=session.tool,
            progress=progress,
            listen=listen,
        )
    session.output.result(_sum(report), report)
    if troubled:
        raise DoneInPart(
            f"{len(troubled)} versions could not be copied in whole: {', '.join(troubled)}",
            hint="`rokctl repo check --read-data` shows what is damaged; all others are copied",
        )


def _show(session: Session, copied: "CopiedVersion") -> None:
    """One version; what is wrong with it is said to people even where they want to hear nothing."""
    from engine.ops.copy import CopyOutcome

    sentence = f"{copied.bucket}/{copied.object}@{copied.version}: {copied.outcome.value}"
    if copied.copied_as:
        sentence += f" as {copied.copied_as}"
    if copied.outcome is CopyOutcome.CREATED:
        sentence += (
            f" ({format_size(copied.data)} of data, {format_size(copied.read)} read, {format_size(copied.stored)} stored, "
            f"{copied.seconds:.1f} s)"
        )
    if copied.problem and not session.output.as_json:
        print_line(f"{sentence}; {copied.problem}")
    else:
        session.output.result(sentence, copied)


def _sum(report: "CopyReport") -> str:
    counts = [
        f"{report.created} versions copied",
        f"{report.already_there} already there",
        *([f"{report.forgotten} forgotten meanwhile"] if report.forgotten else []),
        *([f"{report.damaged} damaged"] if report.damaged else []),
    ]
    return f"{', '.join(counts)}; {format_size(report.read)} read, {format_size(report.stored)} stored"


def _talk_of_what_is_unreadable(session: Session, plan: "CopyPlan") -> None:
    for version in plan.unreadable:
        session.output.talk(f"version {version} is damaged and cannot be copied; see `rokctl repo check`")
