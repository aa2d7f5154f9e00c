"""`rokctl version`: list, show, compare and verify the versions of a repository, tag and pin them, forget them."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import Damaged, Refused
from engine.units import format_size
from rokctl.forget import (
    KeepDailyOption,
    KeepHourlyOption,
    KeepLastOption,
    KeepMonthlyOption,
    KeepTagOption,
    KeepWeeklyOption,
    KeepWithinOption,
    KeepYearlyOption,
    TimeZoneOption,
    carry_out,
    forget_damaged,
    parse_end,
    parse_targets,
    pin_of,
    report_tags,
    show_plan,
    tag_names,
    tags_record,
)
from rokctl.options import DryRunOption, LabelsOption, command, noun, parse_labels
from rokctl.render import Amount, plain
from rokctl.wiring import Session, settings

if TYPE_CHECKING:
    from engine.device.base import Change
    from engine.extent import Extent
    from engine.repo.manifest import Manifest, Member
    from engine.repo.repository import Repository
    from engine.repo.tags import Tags

app = noun("Versions of objects in a repository.")


@command(app, "list")
def list_versions(
    session: Session,
    target: Annotated[
        str | None, typer.Argument(metavar="[BUCKET[/OBJECT]]", help="Only of this bucket or object.")
    ] = None,
    label: LabelsOption = None,
) -> None:
    """List versions, oldest first."""
    from engine.repo.naming import parse_bucket_or_object

    bucket, name = parse_bucket_or_object(target) if target else (None, None)
    wanted = parse_labels(label).items()
    with session.repository(uses="engine.repo.hurt") as repository:
        from engine.repo.hurt import hurt_versions
        from engine.repo.tags import all_tags

        found = [m for m in repository.versions(bucket, name) if wanted <= m.labels.items()]
        tags = all_tags(repository, (manifest.version for manifest in found))
        hurt = hurt_versions(repository)
    session.output.listing(
        found,
        {
            "OBJECT": lambda manifest: manifest.object,
            "VERSION": lambda manifest: manifest.version,
            "CREATED": lambda manifest: manifest.created,
            "SIZE": lambda manifest: Amount(manifest.totals.size),
            "DATA": lambda manifest: Amount(manifest.totals.data),
            "STORED": lambda manifest: Amount(manifest.totals.stored),
            "NODE": lambda manifest: manifest.node,
            "LABELS": lambda manifest: manifest.labels,
            "TAGS": lambda manifest: tag_names(tags[manifest.version]),
            "PINNED": lambda manifest: pin_of(tags[manifest.version]),
            "HURT": lambda manifest: manifest.version in hurt,
        },
        lambda manifest: {**record(manifest, tags[manifest.version]), "hurt": manifest.version in hurt},
    )


@command(app, "show")
def show(
    session: Session,
    reference: Annotated[
        str, typer.Argument(metavar="BUCKET/OBJECT[@VERSION]", help="The version; without one, the latest.")
    ],
) -> None:
    """Show a version and the volumes in it."""
    from engine.repo.naming import parse_reference

    wanted = parse_reference(reference)
    with session.repository(uses="engine.repo.tags") as repository:
        from engine.repo.tags import all_tags

        manifest = repository.resolve(wanted)
        tags = all_tags(repository, [manifest.version])[manifest.version]
        losses = _losses(repository, manifest)
    totals = manifest.totals
    session.output.sheet(
        {**record(manifest, tags), "hurt": losses != {}, "losses": losses},
        {
            "object": manifest.object,
            "version": manifest.version,
            "created": manifest.created,
            "node": f"{manifest.node} ({manifest.tool})",
            "message": manifest.message,
            "labels": manifest.labels,
            "tags": tag_names(tags),
            "pinned": pin_of(tags),
            "base": manifest.base,
            **_copied_from(manifest),
            "size": Amount(totals.size),
            "data": f"{format_size(totals.data)} in {totals.chunks} chunks",
            "pushed": f"{format_size(totals.read)} read, {format_size(totals.stored)} stored in {totals.new_chunks} new "
            f"chunks, {totals.seconds:.1f} s",
            **{f"member {member.name}": _member_line(member) for member in manifest.members},
            **{
                f"lost of {name}": ", ".join(f"{extent.start}+{extent.length}" for extent in extents)
                for name, extents in (losses or {}).items()
            },
        },
    )


def _losses(repository: "Repository", manifest: "Manifest") -> "dict[str, list[Extent]] | None":
    """What the mark of a version says, by member; None where the mark cannot be read."""
    from engine.repo.hurt import losses_of

    try:
        return {name: list(extents) for name, extents in losses_of(repository, manifest.version).items()}
    except Damaged:
        return None


def _copied_from(manifest: "Manifest") -> dict[str, object]:
    source = manifest.copied_from
    return {"copied from": f"{source.version} in repository {source.repository}"} if source else {}


def _member_line(member: "Member") -> str:
    origin = member.origin
    parts = [
        format_size(member.size),
        " ".join(filter(None, (member.filesystem_type, member.filesystem_label))) or "no filesystem known",
        "frozen" if member.frozen else "not frozen",
        f"of {origin.pool}/{origin.volume}@{origin.snapshot}",
    ]
    return ", ".join(parts)


def record(manifest: "Manifest", tags: "Tags | Damaged") -> dict[str, object]:
    """A version as scripts see it: the fields of a push's report, the rest of the manifest, its tags and its pin."""
    whole = plain(manifest)
    totals = whole.pop("totals")
    return {
        **whole.pop("extra"),
        **whole,
        "bucket": manifest.object.bucket,
        "object": manifest.object.name,
        **totals,
        **tags_record(tags),
    }


@command(app, "diff")
def diff(
    session: Session,
    old: Annotated[str, typer.Argument(metavar="BUCKET/OBJECT[@A]", help="The earlier version.")],
    new: Annotated[str, typer.Argument(metavar="BUCKET/OBJECT[@B]", help="The later version; of any object.")],
) -> None:
    """Show how much differs between two versions, by their maps; no content is read."""
    from engine.repo.naming import parse_reference

    wanted = parse_reference(old), parse_reference(new)
    output = session.output
    with session.repository(uses="engine.ops.versions") as repository:
        from engine.ops.versions import version_diff

        earlier, later = (repository.resolve(reference) for reference in wanted)
        listen = (lambda member, change: output.result("", _change(member, change))) if output.as_json else _ignore
        members = version_diff(repository, earlier, later, listen=listen)
    output.listing(
        members,
        {
            "MEMBER": lambda member: member.member,
            "SIZE BEFORE": lambda member: "-" if member.old_size is None else Amount(member.old_size),
            "SIZE": lambda member: Amount(member.size),
            "CHANGED": lambda member: Amount(member.changed),
            "EXTENTS": lambda member: member.changed_extents,
            "HOLES": lambda member: Amount(member.holes),
            "HOLE EXTENTS": lambda member: member.hole_extents,
        },
        plain,
    )


def _change(member: str, change: "Change") -> dict[str, object]:
    return {"member": member, "start": change.extent.start, "length": change.extent.length, "kind": change.kind}


def _ignore(_member: str, _change: "Change") -> None:
    pass


@command(app, "verify")
def verify(
    session: Session,
    reference: Annotated[
        str, typer.Argument(metavar="BUCKET/OBJECT[@VERSION]", help="The version; without one, the latest.")
    ],
) -> None:
    """Read a whole version as a restore would, comparing every chunk with its id, and write nothing."""
    from engine.repo.naming import parse_reference

    wanted = parse_reference(reference)
    with session.repository(uses="engine.ops.versions") as repository, session.progress() as progress:
        from engine.ops.versions import verify as verify_version

        report = verify_version(repository, repository.resolve(wanted), progress=progress)
    name = f"{report.bucket}/{report.object}@{report.version}"
    if not report.losses or session.output.as_json:
        verified = f"{report.chunks} chunks, {format_size(report.verified)} verified"
        session.output.result(f"{name}: whole ({verified})", report)
    if report.losses:
        places = "; ".join(
            f"{loss.member}, bytes {', '.join(f'{extent.start}+{extent.length}' for extent in loss.extents)}"
            for loss in report.losses
        )
        raise Damaged(
            f"{name} has lost {format_size(report.lost)}: {places}",
            hint="`rokctl repo check --read-data` names the damaged blobs; a snapshot still on a node can be pushed again",
        )


@command(app, "tag")
def tag(
    session: Session,
    reference: Annotated[
        str, typer.Argument(metavar="BUCKET/OBJECT[@VERSION]", help="The version; without one, the latest.")
    ],
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="TAG", help="A tag to add; may be given again.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="TAG", help="A tag to remove; may be given again.")
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Keep the version whatever rules of retention say.")] = False,
    until: Annotated[
        datetime | None,
        typer.Option(
            "--until", parser=parse_end, metavar="DATE", help="With --pin: the day or moment at which it ends."
        ),
    ] = None,
    unpin: Annotated[bool, typer.Option("--unpin", help="Leave the version to the rules again.")] = False,
) -> None:
    """Tag a version, or pin it; the version itself never changes."""
    from engine.repo.naming import parse_reference
    from engine.repo.tags import TagChange, change_tags, check_tag

    wanted = parse_reference(reference)
    if pin and unpin:
        raise Refused("--pin and --unpin contradict each other", hint="leave one of the two out")
    if until is not None and until <= session.world.clock.now():
        raise Refused("the pin would end before it begins", hint="give a date that is still to come")
    change = TagChange(
        add=frozenset(map(check_tag, add or ())),
        remove=frozenset(map(check_tag, remove or ())),
        pin=True if pin else False if unpin else None,
        until=until,
    )
    if change == TagChange():
        raise Refused("nothing was named to change", hint="give --add, --remove, --pin or --unpin")
    with session.repository() as repository:
        manifest = repository.resolve(wanted)
        tags, changed = change_tags(repository, manifest.version, change)
    report_tags(session, manifest, tags, changed=changed)


@command(app, "forget")
def forget(
    session: Session,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BUCKET[/OBJECT[@VERSION]]]...", help="The versions; or, with rules, the buckets and objects."
        ),
    ] = None,
    keep_last: KeepLastOption = None,
    keep_hourly: KeepHourlyOption = None,
    keep_daily: KeepDailyOption = None,
    keep_weekly: KeepWeeklyOption = None,
    keep_monthly: KeepMonthlyOption = None,
    keep_yearly: KeepYearlyOption = None,
    keep_within: KeepWithinOption = None,
    keep_tag: KeepTagOption = None,
    time_zone: TimeZoneOption = None,
    all_objects: Annotated[bool, typer.Option("--all", help="With rules: all objects of the repository.")] = False,
    damaged: Annotated[
        list[str] | None,
        typer.Option("--damaged", metavar="ID", help="A version whose manifest cannot be read; may be given again."),
    ] = None,
    allow_last: Annotated[
        bool, typer.Option("--allow-last", help="Let the newest version of an object go too.")
    ] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Forget versions, by name, or all that no rule keeps."""
    from engine.policy.retention import Rules
    from engine.repo.tags import check_tag

    chosen = settings(
        last=keep_last,
        hourly=keep_hourly,
        daily=keep_daily,
        weekly=keep_weekly,
        monthly=keep_monthly,
        yearly=keep_yearly,
        within=keep_within,
        tags=frozenset(map(check_tag, keep_tag)) if keep_tag else None,
    )
    if damaged:
        if targets or chosen or all_objects:
            raise Refused("--damaged stands alone", hint="forget other versions in a command of their own")
        forget_damaged(session, damaged, dry_run=dry_run)
        return
    scopes, references = parse_targets(targets or [], by_rules=bool(chosen), all_objects=all_objects)
    with session.repository(uses="engine.ops.forget") as repository:
        from engine.ops.forget import plan_by_names, plan_by_rules

        if chosen:
            zone = time_zone or UTC
            plan = plan_by_rules(repository, scopes, Rules(**chosen), zone, allow_last=allow_last)
        else:
            plan = plan_by_names(repository, references, allow_last=allow_last)
        if dry_run:
            show_plan(session, plan)
        else:
            carry_out(session, repository, plan)
