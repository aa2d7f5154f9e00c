"""`rokctl volume`: create, list, show, resize, remove, clone and import volumes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from engine.device.base import Made, Outcome, Pool, Volume, check_size
from engine.errors import Refused
from engine.units import format_size, parse_size
from rokctl.names import SnapshotName, VolumeName, parse_volume
from rokctl.options import (
    DryRunOption,
    PoolOrVolumeArgument,
    SizeOption,
    SnapshotArgument,
    VolumeArgument,
    command,
    noun,
)
from rokctl.render import Amount, plain
from rokctl.wiring import Session

if TYPE_CHECKING:
    from io import BufferedReader

    from engine.ops.volume import Stream

app = noun("Volumes: block devices in a pool.")

NewVolumeArgument = Annotated[
    VolumeName, typer.Argument(parser=parse_volume, metavar="POOL/NEW", help="The volume to be made.")
]


@command(app, "create")
def create(session: Session, volume: VolumeArgument, size: SizeOption) -> None:
    """Create an empty volume."""
    pool = session.pools.open(volume.pool)
    _made(session, pool, volume, pool.create_volume(volume.volume, check_size(size)))


@command(app, "list")
def list_volumes(session: Session, pool: PoolOrVolumeArgument = None) -> None:
    """List volumes, of all pools or of one."""
    session.output.listing(
        _volumes(session, pool),
        {
            "VOLUME": lambda volume: f"{volume.pool}/{volume.name}",
            "SIZE": lambda volume: Amount(volume.size),
            "USED": lambda volume: Amount(volume.used),
            "STATE": _state,
            "PATH": lambda volume: volume.path,
        },
    )


def _volumes(session: Session, wanted: str | VolumeName | None) -> list[Volume]:
    match wanted:
        case None:
            return [volume for pool in session.pools.all() for volume in pool.volumes()]
        case VolumeName(pool, name):
            return [session.pools.open(pool).volume(name)]
    return session.pools.open(wanted).volumes()


def _state(volume: Volume) -> str:
    if volume.restoring:
        return f"restore of {volume.restoring} unfinished"
    words = {"in use": volume.in_use, "foreign": volume.foreign}
    return ", ".join(word for word, holds in words.items() if holds) or "idle"


@command(app, "show")
def show(session: Session, volume: VolumeArgument) -> None:
    """Show a volume."""
    pool = session.pools.open(volume.pool)
    found, filesystem = pool.volume(volume.volume), pool.filesystem(volume.volume)
    session.output.sheet(
        {**plain(found), "filesystem": plain(filesystem)},
        {
            "volume": volume,
            "uuid": found.uuid,
            "size": Amount(found.size),
            "used": Amount(found.used),
            "state": _state(found),
            "filesystem": filesystem and " ".join(filter(None, (filesystem.type, filesystem.label, filesystem.uuid))),
            "created": found.created,
            "path": found.path,
            "snapshots": len(pool.snapshots(volume.volume)),
        },
    )


@command(app, "resize")
def resize(session: Session, volume: VolumeArgument, size: SizeOption) -> None:
    """Grow a volume; what is inside is not touched, and sees more space."""
    pool = session.pools.open(volume.pool)
    _made(session, pool, volume, pool.resize_volume(volume.volume, check_size(size)))


@command(app, "remove")
def remove(session: Session, volume: VolumeArgument, dry_run: DryRunOption = False) -> None:
    """Remove a volume that has no snapshots."""
    pool = session.pools.open(volume.pool)
    if dry_run:
        found = pool.volume(volume.volume)
        if snapshots := pool.snapshots(volume.volume):
            raise Refused(
                f"volume {volume} has {len(snapshots)} snapshots", hint=f"see `rokctl snapshot list {volume}`"
            )
        sentence = f"volume {volume} ({format_size(found.size)}): would be removed"
        session.output.result(sentence, {"would": "remove", **plain(found)})
        return
    outcome = pool.remove_volume(volume.volume)
    record = {"outcome": outcome, "pool": volume.pool, "name": volume.volume}
    session.output.result(f"volume {volume}: {outcome.value}", record)


@command(app, "clone")
def clone(session: Session, snapshot: SnapshotArgument, new: NewVolumeArgument) -> None:
    """Make a new writable volume that starts with what a snapshot holds."""
    if snapshot.pool != new.pool:
        other = SnapshotName(new.pool, snapshot.volume, snapshot.snapshot)
        raise Refused(
            f"a clone stays in the pool of its snapshot, {snapshot.pool}, and cannot be made in {new.pool}",
            hint=f"push {snapshot} and restore it to {new}, or start from a snapshot such as {other}",
        )
    pool = session.pools.open(new.pool)
    _made(session, pool, new, pool.clone_volume(snapshot.volume, snapshot.snapshot, new.volume))


@command(app, "import")
def import_file(
    session: Session,
    volume: VolumeArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What the volume is to hold; - is standard input.")],
    size: Annotated[
        int | None,
        typer.Option("--size", parser=parse_size, metavar="SIZE", help="With -: how many bytes must arrive."),
    ] = None,
) -> None:
    """Make a volume that holds what a file holds, byte by byte."""
    from engine.ops.volume import import_volume

    if size is not None and file != "-":
        raise Refused("--size means nothing with a file, which has its own", hint="leave --size out")
    pool = session.pools.open(volume.pool)
    with _origin(session, file, size) as origin, session.progress() as progress:
        report = import_volume(pool, volume.volume, origin, progress=progress)
    made = report.volume
    sentence = f"volume {volume} ({format_size(made.size)}): created, {format_size(report.written)} written"
    session.output.result(sentence, {"outcome": Outcome.CREATED, "written": report.written, **plain(made)})


@contextmanager
def _origin(session: Session, file: str, size: int | None) -> "Iterator[Path | Stream]":
    """Where the bytes come from. A pipe does not tell how many there are: unless that was said, it is kept in a file first."""
    from engine.ops.volume import Stream, spooled

    if file != "-":
        yield Path(file)
        return
    if sys.stdin is None:
        raise Refused("standard input is closed", hint="name a file, or give the image on standard input")
    body = cast("BufferedReader", sys.stdin.buffer)  # which typing knows less of
    if size is not None:
        yield Stream(body, size)
        return
    with spooled(body, session.state_directory / "spool") as spool:
        yield spool


def _made(session: Session, pool: Pool, name: VolumeName, made: Made[Volume]) -> None:
    """Report it; and say when the volumes have come to promise more than the pool has."""
    sentence = f"volume {name} ({format_size(made.item.size)}): {made.outcome.value}"
    session.output.result(sentence, {"outcome": made.outcome, **plain(made.item)})
    if beyond := pool.status().overcommitted:
        session.output.talk(f"the volumes of pool {pool.name} are together {format_size(beyond)} larger than the pool")
