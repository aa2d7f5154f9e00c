"""What every kind of pool refuses in the same way: decisions on values, which touch nothing."""

from collections.abc import Iterable, Mapping

from engine.device.base import Snapshot, Volume
from engine.errors import Busy, NotFound, Refused


def not_found(kind: str, name: str, existing: Iterable[str]) -> NotFound:
    """The error for a name that does not exist; its hint gives the near ones that do, or the command that lists them."""
    import difflib  # only an error pays for it

    near = difflib.get_close_matches(name, list(existing), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"see `rokctl {kind.split()[0]} list`"
    return NotFound(f"there is no {kind} {name}", hint=hint)


def check_own(thing: Volume | Snapshot) -> None:
    """Raises Refused for what rokctl did not make, and must not change."""
    if thing.foreign:
        raise Refused(f"{described(thing)} was not made by rokctl, which must not change it")


def check_same_size(volume: Volume, size: int) -> None:
    """Raises Refused when an existing volume is asked for with another size."""
    if volume.size != size:
        hint = f"run `rokctl volume resize {volume.name}`, or choose another name"
        raise Refused(f"volume {volume.name} exists with a size of {volume.size} bytes, not {size}", hint=hint)


def check_growth(volume: Volume, size: int) -> None:
    """Raises Refused when a volume would shrink."""
    if size < volume.size:
        hint = "create a smaller volume, and copy what you need"
        raise Refused(f"volume {volume.name} cannot shrink from {volume.size} to {size} bytes", hint=hint)


def check_clone(volume: Volume, origin: str | None, snapshot: Snapshot) -> None:
    """Raises Refused when a volume that exists is not the clone of that snapshot. `origin` is the uuid of its own."""
    if volume.foreign or origin != snapshot.uuid:
        message = f"volume {volume.name} exists, and is not a clone of {snapshot.volume}@{snapshot.name}"
        raise Refused(message, hint="choose another name")


def check_removable(volume: Volume, snapshots: Iterable[Snapshot]) -> None:
    """Raises Refused while a volume has snapshots, or is foreign; Busy while it is in use."""
    check_own(volume)
    for snapshot in snapshots:
        hint = f"remove its snapshots first: `rokctl snapshot remove {volume.name}@{snapshot.name}`"
        raise Refused(f"volume {volume.name} still has snapshot {snapshot.name}", hint=hint)
    check_unused(volume)


def check_unused(volume: Volume) -> None:
    """Raises Busy while a volume is in use."""
    if volume.in_use:
        raise Busy(f"volume {volume.name} is in use", hint="unmount it, or stop what writes to it")


def check_fit_for_snapshot(volume: Volume) -> None:
    """Raises Refused when a snapshot of the volume must not be taken."""
    check_own(volume)
    if volume.restoring is not None:
        message = f"volume {volume.name} is only partly written: writing {volume.restoring} to it did not finish"
        raise Refused(message, hint="run the restore or import again, or remove the volume")


def check_group(names: Mapping[str, str], existing: list[Snapshot]) -> bool:
    """Whether the snapshots asked for, `{volume: snapshot}`, are there already, taken in one call.

    `existing` are those that exist. Raises Refused when only some do, or they are of different groups, or foreign.
    """
    if not existing:
        return False
    for snapshot in existing:
        check_own(snapshot)
    first = existing[0]
    if len(existing) < len(names):
        missing = sorted(set(names) - {snapshot.volume for snapshot in existing})
        message = f"{described(first)} exists already, but volume {missing[0]} has no snapshot {names[missing[0]]}"
        raise Refused(message, hint="choose another name for the whole group")
    for snapshot in existing:
        if snapshot.group != first.group:
            message = f"{described(first)} and {described(snapshot)} were not taken together"
            raise Refused(message, hint="choose another name for the whole group")
    return True


def check_empty(pool: str, volumes: Iterable[Volume], snapshots: Iterable[Snapshot]) -> None:
    """Raises Refused while a pool holds anything."""
    held = [described(thing) for thing in volumes] + [described(thing) for thing in snapshots]
    if held:
        raise Refused(f"pool {pool} still holds {held[0]}", hint="remove its volumes and snapshots first")


def described(thing: Volume | Snapshot) -> str:
    """What to call it in a message."""
    return f"volume {thing.name}" if isinstance(thing, Volume) else f"snapshot {thing.volume}@{thing.name}"
