"""Forgetting and tagging as people write and read them; used by `version forget` and `version tag`."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, tzinfo
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from engine.errors import Refused
from engine.policy.duration import Duration, parse_duration
from rokctl.render import moment

if TYPE_CHECKING:
    from engine.errors import Damaged
    from engine.ops.forget import ForgetPlan, ForgetReport, Verdict
    from engine.ops.scope import Scope
    from engine.repo.manifest import Manifest
    from engine.repo.naming import VersionReference
    from engine.repo.repository import Repository
    from engine.repo.tags import Tags
    from rokctl.wiring import Session


def parse_zone(text: str) -> tzinfo:
    """A time zone by its name in the time zone database. Raises Refused."""
    if text == "UTC":
        return UTC  # which needs no database
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = "name it as Europe/Berlin or UTC; the zones come with the Debian package tzdata"
        raise Refused(f"{text!r} is no time zone that this machine knows", hint=hint) from None


def parse_end(text: str) -> datetime:
    """The end of a pin: a moment in ISO 8601, in UTC where it names no zone; of a day alone, its last second. Raises Refused."""
    try:
        if "T" not in text and " " not in text:
            return datetime.combine(date.fromisoformat(text), time.max, UTC).replace(microsecond=0)
        end = datetime.fromisoformat(text)
        return end if end.tzinfo else end.replace(tzinfo=UTC)
    except ValueError:
        raise Refused(
            f"{text!r} is not a date", hint="write it as 2027-01-31, 2027-01-31T18:00 or 2027-01-31T18:00+01:00"
        ) from None


def _count(option: str, unit: str) -> object:
    return typer.Option(option, metavar="N", min=0, help=f"Keep the newest version of each of the newest N {unit}.")


KeepLastOption = Annotated[
    int | None, typer.Option("--keep-last", metavar="N", min=0, help="Keep the newest N versions.")
]
KeepHourlyOption = Annotated[int | None, _count("--keep-hourly", "hours that have one")]
KeepDailyOption = Annotated[int | None, _count("--keep-daily", "days that have one")]
KeepWeeklyOption = Annotated[int | None, _count("--keep-weekly", "ISO weeks that have one")]
KeepMonthlyOption = Annotated[int | None, _count("--keep-monthly", "months that have one")]
KeepYearlyOption = Annotated[int | None, _count("--keep-yearly", "years that have one")]
KeepWithinOption = Annotated[
    Duration | None,
    typer.Option(
        "--keep-within",
        parser=parse_duration,
        metavar="DURATION",
        help="Keep what is at most so much older than the newest version, as 30d, 12h, 2w, 1y6m.",
    ),
]
KeepTagOption = Annotated[
    list[str] | None, typer.Option("--keep-tag", metavar="TAG", help="Keep what has this tag; may be given again.")
]
TimeZoneOption = Annotated[
    tzinfo | None,
    typer.Option(
        "--time-zone", parser=parse_zone, metavar="ZONE", help="By whose calendar days and weeks begin; else UTC."
    ),
]


def parse_targets(
    words: Sequence[str], *, by_rules: bool, all_objects: bool
) -> "tuple[list[Scope], list[VersionReference]]":
    """What is to be forgotten: objects that rules are for, or versions by name; one of the two is empty. Raises Refused."""
    from engine.ops.scope import Scope
    from engine.repo.naming import parse_bucket_or_object, parse_reference

    if all_objects and words:
        raise Refused(f"--all and {words[0]!r} contradict each other", hint="leave one of the two out")
    if not by_rules:
        for word in words:
            if "@" not in word:
                hint = "give rules such as --keep-daily 7, or name versions as BUCKET/OBJECT@VERSION"
                raise Refused(f"neither a rule nor a version of {word!r} was named", hint=hint)
        if not words:
            raise Refused(
                "neither a rule nor a version was named", hint="give rules such as --keep-daily 7, and objects"
            )
        return [], [parse_reference(word) for word in words]
    for word in words:
        if "@" in word:
            raise Refused(
                f"{word!r} names a version, and rules are for objects", hint="forget it in a command of its own"
            )
    if not words and not all_objects:
        raise Refused("no object was named", hint="name buckets or objects, or say --all for all of the repository")
    return [Scope(*parse_bucket_or_object(word)) for word in words] if words else [Scope()], []


def show_plan(session: "Session", plan: "ForgetPlan") -> None:
    """What would become of each version, and by which rules."""
    _talk_of_what_is_unreadable(session, plan)
    for name in plan.already_gone:
        session.output.result(f"version {name}: already gone", _gone(name))
    session.output.listing(
        plan.verdicts,
        {
            "OBJECT": lambda verdict: verdict.manifest.object,
            "VERSION": lambda verdict: verdict.manifest.version,
            "TIME": lambda verdict: verdict.manifest.store_time,
            "TAGS": lambda verdict: tag_names(verdict.tags),
            "KEEP": lambda verdict: verdict.keep,
            "BY": lambda verdict: [str(reason) for reason in verdict.reasons],
        },
        lambda verdict: {"would": "keep" if verdict.keep else "forget", **_verdict_record(verdict)},
    )
    dropped = sum(not verdict.keep for verdict in plan.verdicts)
    session.output.talk(f"{dropped} of {len(plan.verdicts)} versions would be forgotten")


def carry_out(session: "Session", repository: "Repository", plan: "ForgetPlan") -> None:
    """Forget what the plan drops, and report each version when it is done."""
    from engine.ops.forget import Fate, forget

    _talk_of_what_is_unreadable(session, plan)
    for name in plan.already_gone:
        session.output.result(f"version {name}: already gone", _gone(name))

    def listen(verdict: "Verdict", fate: Fate) -> None:
        if fate is not Fate.KEPT or session.output.as_json:
            name = f"{verdict.manifest.object}@{verdict.manifest.version}"
            session.output.result(f"version {name}: {fate.value}", {"outcome": fate, **_verdict_record(verdict)})

    report = forget(repository, plan, listen=listen)
    session.output.result(_sum(report), report)


def forget_damaged(session: "Session", ids: Sequence[str], *, dry_run: bool) -> None:
    """Forget versions of which nothing is known but the id."""

    with session.repository(uses="engine.ops.forget") as repository:
        from engine.ops.forget import Fate, forget_unreadable

        for version, fate in forget_unreadable(repository, ids, dry_run=dry_run):
            if dry_run and fate is Fate.FORGOTTEN:
                session.output.result(f"version {version}: would be forgotten", {"would": "forget", "version": version})
            else:
                session.output.result(f"version {version}: {fate.value}", {"outcome": fate, "version": version})


def _sum(report: "ForgetReport") -> str:
    counts = f"{report.forgotten} versions forgotten, {report.kept} kept"
    if not report.forgotten:
        return counts
    return f"{counts}; `rokctl repo gc` brings their space back"


def _talk_of_what_is_unreadable(session: "Session", plan: "ForgetPlan") -> None:
    for version in plan.unreadable:
        session.output.talk(f"version {version} is damaged and was left alone; --damaged {version} lets it go")
    for verdict in plan.verdicts:
        if verdict.tags is None:
            name = f"{verdict.manifest.object}@{verdict.manifest.version}"
            session.output.talk(
                f"the tags of {name} are damaged, so it is kept; `rokctl version tag {name} --unpin` ends that"
            )


def _verdict_record(verdict: "Verdict") -> dict[str, object]:
    manifest = verdict.manifest
    return {
        **_name_record(manifest),
        "created": manifest.created,
        "store_time": manifest.store_time,
        **tags_record(verdict.tags),
        "reasons": [{"rule": reason.rule, "detail": reason.detail} for reason in verdict.reasons],
    }


def _name_record(manifest: "Manifest") -> dict[str, object]:
    return {"bucket": manifest.object.bucket, "object": manifest.object.name, "version": manifest.version}


def _gone(name: "VersionReference") -> dict[str, object]:
    return {
        "outcome": "already gone",
        "bucket": name.object.bucket,
        "object": name.object.name,
        "version": name.version,
    }


def report_tags(session: "Session", manifest: "Manifest", tags: "Tags", *, changed: bool) -> None:
    """The tags of a version after a change."""
    outcome = "changed" if changed else "unchanged"
    pinned = "not pinned" if not tags.pinned else f"pinned {pin_of(tags)}" if tags.pinned_until else "pinned"
    words = ", ".join(sorted(tags.names)) or "none"
    sentence = f"version {manifest.object}@{manifest.version}: {outcome}; tags: {words}; {pinned}"
    session.output.result(sentence, {"outcome": outcome, **_name_record(manifest), **tags_record(tags)})


def tags_record(tags: "Tags | Damaged | None") -> dict[str, object]:
    """Tags and pin as scripts see them: null where they cannot be read."""
    from engine.repo.tags import Tags

    if not isinstance(tags, Tags):
        return {"tags": None, "pinned": None, "pinned_until": None}
    return {"tags": sorted(tags.names), "pinned": tags.pinned, "pinned_until": tags.pinned_until}


def tag_names(tags: "Tags | Damaged | None") -> object:
    """The cell of a table for the tags."""
    from engine.repo.tags import Tags

    return sorted(tags.names) if isinstance(tags, Tags) else "damaged"


def pin_of(tags: "Tags | Damaged | None") -> object:
    """The cell of a table for the pin."""
    from engine.repo.tags import Tags

    if not isinstance(tags, Tags):
        return "damaged"
    return f"until {moment(tags.pinned_until)}" if tags.pinned and tags.pinned_until else tags.pinned
