"""`rokctl repo gc` as people and scripts read it."""

from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from engine.errors import Damaged, Refused, RokError
from engine.policy.duration import parse_duration
from engine.units import format_size
from rokctl.render import shown

if TYPE_CHECKING:
    from engine.repo.collect import CollectReport, Waiting
    from engine.repo.repository import Repository
    from engine.store.base import Store
    from rokctl.wiring import Session

# A commit that comes later than this would not meet its tombstone. S3 refuses requests signed more than 15 minutes ago.
KEEP_TOMBSTONES: Final = timedelta(days=7)


def parse_grace(text: str) -> timedelta:
    """A stretch of time, as 24h or 2d; 0 is none. Raises Refused."""
    if text == "0":
        return timedelta(0)
    duration = parse_duration(text)
    if duration.years or duration.months:
        raise Refused(f"{text!r} is no grace time: months differ in length", hint="give it in weeks, days or hours")
    return timedelta(weeks=duration.weeks, days=duration.days, hours=duration.hours)


def parse_share(text: str) -> float:
    """A share in percent, as 75%. Raises Refused."""
    number = text.removesuffix("%")
    if not (number.isascii() and number.isdigit() and len(number) <= 3 and int(number) <= 100):
        raise Refused(f"{text!r} is not a share", hint="give it in percent, from 0% to 100%")
    return int(number) / 100


GraceOption = Annotated[
    timedelta | None,
    typer.Option(
        "--grace",
        parser=parse_grace,
        metavar="DURATION",
        help="How long packs stay after they were condemned, as 24h (the default) or 2d; 0 deletes at once.",
    ),
]
ShareOption = Annotated[
    float | None,
    typer.Option(
        "--repack-below",
        parser=parse_share,
        metavar="PERCENT",
        help="Copy what is live out of a pack, and delete it, when less than this share of it is (75%).",
    ),
]


def marks_store(session: "Session", repository: "Repository") -> "Store | None":
    """Where this node keeps the marks of a repository between runs; None, said on stderr, where it cannot."""
    from engine.store.directory import DirectoryStore

    try:
        return DirectoryStore(session.state_directory / "marks" / repository.id, create=True)
    except RokError as error:
        session.output.talk(f"all maps will be read, since the marks cannot be kept: {error.message}")
        return None


def keep_tombstones(url: str) -> timedelta | None:
    """How long tombstones must stay in a store. In a directory a write has no end of validity: for ever."""
    from engine.store.url import DirectoryLocation, parse_url

    return None if isinstance(parse_url(url), DirectoryLocation) else KEEP_TOMBSTONES


def report_collection(session: "Session", report: "CollectReport") -> None:
    """What a collection did, or would do. Raises Damaged where damage kept it from deleting."""
    output = session.output
    if output.as_json:
        output.result("", _record(report))
    else:
        for line in _lines(report):
            output.result(line, report)
    damaged = [pack for waiting in report.waiting for pack in waiting.damaged]
    if damaged:
        raise Damaged(
            f"{len(damaged)} packs were kept, because versions need what cannot be read in them: {', '.join(damaged)}",
            hint="`rokctl repo repair` saves what can be read",
        )


def _record(report: "CollectReport") -> dict[str, object]:
    record = {entry.name: getattr(report, entry.name) for entry in fields(report)}
    return {**record, "dead_bytes": report.dead_bytes, "reclaimable_later": report.reclaimable_later}


def _lines(report: "CollectReport") -> list[str]:
    would = "would be " if report.dry_run else ""
    lines = [
        f"{report.versions} versions need {format_size(report.live_bytes)} of the {format_size(report.record_bytes)} "
        f"in {report.packs} packs"
    ]
    if report.deleted_packs or report.copied_bytes:
        lines.append(
            f"{report.deleted_packs} packs {would}deleted: {format_size(report.freed_bytes)} freed, "
            f"{format_size(report.copied_bytes)} of it copied to new packs"
        )
    if report.condemned_packs:
        lines.append(f"{report.condemned_packs} packs {would}condemned: {format_size(report.condemned_bytes)}")
    if not (report.deleted_packs or report.condemned_packs or report.waiting):
        lines.append("nothing to collect")
    lines += [_waiting_line(waiting, report) for waiting in report.waiting]
    if report.sessions_broken:
        lines.append(f"{report.sessions_broken} sessions whose node had died were ended")
    return lines


def _waiting_line(waiting: "Waiting", report: "CollectReport") -> str:
    from engine.repo.collect import Reason

    subject = f"{waiting.packs} packs, {format_size(waiting.bytes)}, wait for a later run"
    match waiting.reason:
        case Reason.GRACE if waiting.until is None:
            return f"{subject}: the grace time would begin now"
        case Reason.GRACE:
            return f"{subject}: their grace time ends {shown(waiting.until)}"
        case Reason.SESSIONS:
            return f"{subject}: {len(waiting.sessions)} pushes that may rely on them have not ended"
        case Reason.BUSY:
            return f"{subject}: versions came and went, or another run was at them"
        case Reason.DAMAGED:
            return f"{subject}: they hold damaged chunks that versions need"
