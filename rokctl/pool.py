"""`rokctl pool`: create, list, show, extend and remove pools."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.device.base import Made, PoolStatus
from engine.errors import DoneInPart, Refused
from engine.units import parse_size
from rokctl.options import DryRunOption, PoolArgument, command, noun
from rokctl.render import Amount, plain
from rokctl.wiring import Session

if TYPE_CHECKING:
    from engine.device.base import Pool

app = noun("Pools: where volumes and snapshots live.")

DevicesOption = Annotated[
    list[str] | None, typer.Option("--device", metavar="DEV", help="A block device, taken whole; may be given again.")
]


@command(app, "create")
def create(
    session: Session,
    pool: PoolArgument,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="PATH", help="A folder: volumes are sparse files in it.")
    ] = None,
    device: DevicesOption = None,
    volume_group: Annotated[
        str | None, typer.Option("--vg", metavar="VG", help="An existing volume group; needs --size.")
    ] = None,
    adopt: Annotated[
        str | None, typer.Option("--adopt", metavar="VG/POOL-LV", help="An existing thin pool, left as it is.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", parser=parse_size, metavar="SIZE", help="The size of the pool.")
    ] = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Destroy what the devices hold now.")] = False,
) -> None:
    """Create a pool, in exactly one of four places."""
    places = {"--dir": directory, "--device": device, "--vg": volume_group, "--adopt": adopt}
    given = [name for name, value in places.items() if value]
    if len(given) != 1:
        said = f"{' and '.join(given)} were given" if given else "none was given"
        raise Refused(f"a pool is made in one place, and {said}", hint=f"give one of {', '.join(places)}")
    _refuse_pointless(given[0], size=size, wipe=wipe)
    if directory is not None:
        _made(session, session.pools.create_directory(pool, directory.absolute()))
        return
    from engine.device import lvmcreate

    _refuse_directory_pool(session, pool)
    if device:
        _made(session, lvmcreate.create_pool(pool, tuple(device), size=size, wipe=wipe))
    elif volume_group is not None and size is not None:
        _made(session, lvmcreate.create_pool_in_group(pool, volume_group, size))
    elif adopt is not None:
        _made(session, lvmcreate.adopt_pool(pool, adopt))


def _refuse_pointless(place: str, *, size: int | None, wipe: bool) -> None:
    """An option that would do nothing is a misunderstanding, and better said before than after."""
    if place == "--vg" and size is None:
        raise Refused("a pool in a volume group needs a size", hint="add --size SIZE")
    if place in ("--dir", "--adopt") and size is not None:
        raise Refused(f"--size means nothing with {place}", hint="leave --size out")
    if place != "--device" and wipe:
        raise Refused(f"--wipe means nothing with {place}", hint="leave --wipe out")


def _refuse_directory_pool(session: Session, name: str) -> None:
    """LVM pools know of each other's names through LVM; of directory pools they know nothing."""
    for pool in session.pools.all():
        status = pool.status()
        if status.name == name and status.kind == "directory":
            raise Refused(f"pool {name} exists already, at {status.location}", hint="choose another name")


def _made(session: Session, made: "Made[Pool]") -> None:
    status = made.item.status()
    sentence = f"pool {status.name} in {status.location}: {made.outcome.value}"
    session.output.result(sentence, {"outcome": made.outcome, **_record(status)})


@command(app, "list")
def list_pools(session: Session) -> None:
    """List the pools of this node."""
    pools = session.pools.all()
    session.output.listing(
        [pool.status() for pool in pools],
        {
            "POOL": lambda status: status.name,
            "KIND": lambda status: status.kind,
            "LOCATION": lambda status: status.location,
            "SIZE": lambda status: Amount(status.data_size),
            "USED": lambda status: Amount(status.data_used),
            "HEALTH": lambda status: status.health,
        },
        _record,
    )
    if missing := sorted({*session.pools.names()} - {pool.name for pool in pools}):
        raise DoneInPart(
            f"not there now: {', '.join(f'pool {name}' for name in missing)}",
            hint=f"see `rokctl pool show {missing[0]}`",
        )


@command(app, "show")
def show(session: Session, pool: PoolArgument) -> None:
    """Show a pool: its space, its health, how it makes snapshots and how it finds what changed."""
    status = session.pools.open(pool).status()
    session.output.sheet(
        _record(status),
        {
            "pool": status.name,
            "kind": status.kind,
            "uuid": status.uuid,
            "location": status.location,
            "health": status.health,
            "data": _share(status.data_used, status.data_size),
            "metadata": _share(status.metadata_used, status.metadata_size),
            "data block": Amount(status.data_block_size),
            "provisioned": Amount(status.provisioned),
            "overcommitted": Amount(status.overcommitted),
            "snapshots by": status.snapshots_by,
            "deltas by": status.deltas_by,
        },
    )


@command(app, "extend")
def extend(
    session: Session,
    pool: PoolArgument,
    size: Annotated[
        int | None, typer.Option("--size", parser=parse_size, metavar="SIZE", help="Grow the pool to this size.")
    ] = None,
    device: DevicesOption = None,
) -> None:
    """Grow a pool, to a size or by whole devices."""
    if size is None and not device:
        raise Refused("nothing was said to extend the pool by", hint="give --size SIZE or --device DEV")
    made = session.pools.open(pool).extend(size=size, devices=tuple(device or ()))
    sentence = f"pool {pool}: {made.outcome.value} ({_share(made.item.data_used, made.item.data_size)})"
    session.output.result(sentence, {"outcome": made.outcome, **_record(made.item)})


@command(app, "remove")
def remove(session: Session, pool: PoolArgument, dry_run: DryRunOption = False) -> None:
    """Remove a pool that holds nothing; a pool that was adopted is only let go of."""
    found = session.pools.open(pool)
    if dry_run:
        status, volumes = found.status(), found.volumes()
        if volumes:
            raise Refused(f"pool {pool} holds {len(volumes)} volumes", hint=f"see `rokctl volume list {pool}`")
        session.output.result(
            f"pool {pool} in {status.location}: would be removed", {"would": "remove", **_record(status)}
        )
        return
    outcome = session.pools.remove(pool)
    session.output.result(f"pool {pool}: {outcome.value}", {"outcome": outcome, "pool": pool})


def _record(status: PoolStatus) -> dict[str, object]:
    return {**plain(status), "overcommitted": status.overcommitted}


def _share(used: int | None, size: int | None) -> str:
    from engine.units import format_size

    if used is None or size is None:
        return "-"
    return f"{format_size(used)} of {format_size(size)}" + (f" ({used / size:.1%})" if size else "")
