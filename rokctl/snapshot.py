"""`rokctl snapshot`: create, list, show, remove, diff and push snapshots."""

from collections.abc import Sequence
from typing import Annotated

import typer

from engine.device.base import Change, Made, Pool, Snapshot
from engine.errors import Refused
from engine.units import format_size
from rokctl.names import SnapshotName, VolumeName, name_by_time, parse_snapshot
from rokctl.options import (
    CompressionOption,
    DryRunOption,
    FullOption,
    LabelsOption,
    MessageOption,
    NewSnapshotsArgument,
    PoolOrVolumeArgument,
    ReadLimitOption,
    SnapshotArgument,
    SnapshotsArgument,
    UploadLimitOption,
    command,
    noun,
    optional_value,
    parse_labels,
)
from rokctl.push import PushFlags, choose_destination, open_push
from rokctl.render import Amount, plain
from rokctl.wiring import Session

app = noun("Snapshots of volumes, on this node; and their way into a repository.")

PushOption = Annotated[
    str | None,
    typer.Option(
        "--push",
        metavar="[BUCKET[/OBJECT]]",
        help="Push the snapshots too, as one version. Stands last, or as --push=BUCKET/OBJECT.",
    ),
]


@command(app, "create", cls=optional_value("--push"))
def create(
    session: Session,
    volumes: NewSnapshotsArgument,
    push: PushOption = None,
    label: LabelsOption = None,
    message: MessageOption = "",
    compression: CompressionOption = None,
    full: FullOption = False,
    limit_read: ReadLimitOption = None,
    limit_upload: UploadLimitOption = None,
) -> None:
    """Take snapshots of volumes, all at one instant."""
    flags = PushFlags(parse_labels(label), message, compression, full, limit_read, limit_upload)
    names = _new_names(session, volumes)
    pool = session.pools.open(names[0].pool)
    if push is None:
        _take(session, pool, names)
        return
    with open_push(session, choose_destination(session, push, names), flags) as pusher:
        pusher.push([(pool, made.item) for made in _take(session, pool, names)])


def _new_names(session: Session, wanted: Sequence[VolumeName | SnapshotName]) -> list[SnapshotName]:
    """What each snapshot is called; those without a name by the time, the same for all."""
    usual = name_by_time(session.world.clock.now())
    names = [name if isinstance(name, SnapshotName) else SnapshotName(name.pool, name.volume, usual) for name in wanted]
    if len({name.pool for name in names}) > 1:
        raise Refused(
            f"volumes of different pools cannot be snapshotted at one instant: {', '.join(map(str, wanted))}",
            hint="use one command for each pool",
        )
    if len({name.volume for name in names}) < len(names):
        raise Refused("a volume is named twice", hint="name each volume once")
    return names


def _take(session: Session, pool: Pool, names: Sequence[SnapshotName]) -> list[Made[Snapshot]]:
    made = pool.create_snapshots({name.volume: name.snapshot for name in names})
    for name, one in zip(names, made, strict=True):
        session.output.result(f"snapshot {name}: {one.outcome.value}", {"outcome": one.outcome, **plain(one.item)})
    return made


@command(app, "list")
def list_snapshots(session: Session, volume: PoolOrVolumeArgument = None) -> None:
    """List snapshots, of all volumes or of some."""
    session.output.listing(
        _snapshots(session, volume),
        {
            "SNAPSHOT": lambda snapshot: f"{snapshot.pool}/{snapshot.volume}@{snapshot.name}",
            "CREATED": lambda snapshot: snapshot.created,
            "SIZE": lambda snapshot: Amount(snapshot.size),
            "FROZEN": lambda snapshot: snapshot.frozen,
            "FOREIGN": lambda snapshot: snapshot.foreign,
            "GROUP": lambda snapshot: snapshot.group,
        },
    )


def _snapshots(session: Session, wanted: str | VolumeName | None) -> list[Snapshot]:
    match wanted:
        case None:
            return [snapshot for pool in session.pools.all() for snapshot in pool.snapshots()]
        case VolumeName(pool, name):
            found = session.pools.open(pool)
            return found.snapshots(found.volume(name).name)
    return session.pools.open(wanted).snapshots()


@command(app, "show")
def show(session: Session, snapshot: SnapshotArgument) -> None:
    """Show a snapshot."""
    _, found = session.snapshot(snapshot)
    session.output.sheet(
        found,
        {
            "snapshot": snapshot,
            "uuid": found.uuid,
            "created": found.created,
            "size": Amount(found.size),
            "frozen": found.frozen,
            "foreign": found.foreign,
            "group": found.group,
            "path": found.path,
        },
    )


@command(app, "remove")
def remove(session: Session, snapshots: SnapshotsArgument, dry_run: DryRunOption = False) -> None:
    """Remove snapshots from this node; versions that were pushed from them stay."""
    for name in snapshots:
        pool = session.pools.open(name.pool)
        if dry_run:
            found = pool.snapshot(name.volume, name.snapshot)
            session.output.result(f"snapshot {name}: would be removed", {"would": "remove", **plain(found)})
            continue
        outcome = pool.remove_snapshot(name.volume, name.snapshot)
        record = {"outcome": outcome, "pool": name.pool, "volume": name.volume, "name": name.snapshot}
        session.output.result(f"snapshot {name}: {outcome.value}", record)


@command(app, "diff")
def diff(
    session: Session,
    old: Annotated[
        SnapshotName, typer.Argument(parser=parse_snapshot, metavar="POOL/VOL@A", help="The earlier snapshot.")
    ],
    new: Annotated[
        SnapshotName, typer.Argument(parser=parse_snapshot, metavar="POOL/VOL@B", help="The later snapshot.")
    ],
) -> None:
    """Show how much differs between two snapshots of a volume."""
    from engine.ops.diff import snapshot_diff

    if (old.pool, old.volume) != (new.pool, new.volume):
        raise Refused(f"{old} and {new} are of different volumes", hint="name two snapshots of one volume")
    pool, output = session.pools.open(old.pool), session.output
    listen = (lambda change: output.result("", _change(change))) if output.as_json else (lambda _: None)
    report = snapshot_diff(pool, old.volume, old.snapshot, new.snapshot, listen=listen)
    output.sheet(
        {"pool": old.pool, **plain(report)},
        {
            "changed": f"{format_size(report.changed)} in {report.changed_extents} extents",
            "holes": f"{format_size(report.holes)} in {report.hole_extents} extents",
            "found by": "reading and comparing both" if report.was_read else "the pool's own records",
        },
    )


def _change(change: Change) -> dict[str, object]:
    return {"start": change.extent.start, "length": change.extent.length, "kind": change.kind}


@command(app, "push")
def push_snapshots(
    session: Session,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="POOL/VOL@SNAP... [BUCKET[/OBJECT]]",
            help="The snapshots, pushed as one version; and where to, if not to the usual place.",
        ),
    ],
    label: LabelsOption = None,
    message: MessageOption = "",
    compression: CompressionOption = None,
    full: FullOption = False,
    limit_read: ReadLimitOption = None,
    limit_upload: UploadLimitOption = None,
) -> None:
    """Push snapshots into a repository, as one new version."""
    flags = PushFlags(parse_labels(label), message, compression, full, limit_read, limit_upload)
    *_, last = words
    target = None if "@" in last else last
    names = [parse_snapshot(word) for word in (words if target is None else words[:-1])]
    if not names:
        raise Refused(f"{last!r} names no snapshot", hint="write it as POOL/VOL@SNAP, before the destination")
    snapshots = [session.snapshot(name) for name in names]
    with open_push(session, choose_destination(session, target, names), flags) as pusher:
        pusher.push(snapshots)
