"""Making LVM pools, on devices or in a volume group, taking over one that exists, and removing them."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from engine.device import lvmspace
from engine.device.base import Made, Outcome, Pool
from engine.device.lvm import LvmPool
from engine.device.lvmdevices import check_devices, claim, release
from engine.device.lvmreport import (
    LogicalVolume,
    PhysicalVolume,
    VolumeGroup,
    change,
    logical_volumes,
    physical_volumes,
    volume_groups,
)
from engine.device.lvmtags import Origin, Tag, choose_name, name_room, parse_tags, tag
from engine.device.naming import check_name
from engine.device.node import THIS_NODE, Node
from engine.errors import Failed, NotFound, OutOfSpace, Refused
from engine.units import KIB, format_size
from engine.values import dataclass

# A full pool answers writes with "no space" at once. LVM's default lets them hang, unkillable, for a minute, in case
# someone grows the pool meanwhile, and answers "I/O error" after that.
_SETTINGS: Final = "activation/error_when_full=1"
_STRIPE_SIZE: Final = 64 * KIB
_ALIKE: Final = 0.9  # of the largest device; the stripes end with the smallest
_GROUP_PREFIX: Final = "rok_"
_GROUP_NAME_ROOM: Final = 40  # of device-mapper's 127 characters, a `-` counted twice; the rest is for volumes


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a new pool uses its volume group. Sizes in bytes."""

    data: int
    metadata: int
    data_block_size: int
    stripes: int


def create_pool(
    name: str, devices: Sequence[str], *, size: int | None = None, wipe: bool = False, node: Node = THIS_NODE
) -> Made[Pool]:
    """A pool on devices of its own, as large as they are or of `size` bytes, in a volume group made for it.

    Several devices that are alike are striped; others are put one after the other. Refused, with nothing touched, for
    what `check_devices` refuses; `wipe` permits to lose what lies on the devices. When it fails half way, the devices
    are released again.
    """
    check_name("pool", name)
    if not devices:
        raise Refused("a pool needs a device", hint="give one, or make a directory pool")
    rows = logical_volumes()
    existing = _find(name, rows)
    if existing is not None:
        members = {Path(volume.device).resolve() for volume in _members(existing.group)}
        if members != {Path(device).resolve() for device in devices}:
            raise Refused(f"pool {name} exists already: {existing.full_name}", hint="choose another name")
        return Made(LvmPool(node, name, existing.group, existing.uuid), Outcome.ALREADY_THERE)
    _clear_unfinished(name, rows)
    checked = check_devices(devices, wipe=wipe)
    group = _group_name(name, volume_groups())
    with ExitStack() as undo:
        for device in checked:
            claim(device, wipe=wipe)
            undo.callback(release, device)
        change("vgcreate", "--addtag", tag(Tag.MADE), "--addtag", tag(Tag.POOL, name), group, *checked)
        undo.callback(change, "vgremove", "--force", group)
        _create(name, volume_groups()[group], "pool", _plan_on_devices(group, size), Origin.DEVICES)
        undo.pop_all()
    return _made(name, node)


def create_pool_in_group(name: str, volume_group: str, size: int, *, node: Node = THIS_NODE) -> Made[Pool]:
    """A pool of `size` bytes in a volume group that exists. Raises NotFound, OutOfSpace."""
    check_name("pool", name)
    rows = logical_volumes()
    existing = _find(name, rows)
    if existing is not None:
        if existing.group != volume_group:
            raise Refused(f"pool {name} exists already: {existing.full_name}", hint="choose another name")
        return Made(LvmPool(node, name, existing.group, existing.uuid), Outcome.ALREADY_THERE)
    group = volume_groups().get(volume_group)
    if group is None:
        raise NotFound(f"there is no volume group {volume_group}", hint="see them: vgs")
    plan = _sized(size, group.extent_size, stripes=1)
    if plan.data + 2 * plan.metadata > group.free:
        raise OutOfSpace(
            f"a pool of {format_size(size)} needs {format_size(plan.data + 2 * plan.metadata)} with its metadata, and volume "
            f"group {volume_group} has {format_size(group.free)} left",
            hint=f"give the group more space: vgextend {volume_group}",
        )
    taken = {row.name for row in rows if row.group == volume_group}
    _create(name, group, choose_name(name, taken, name_room(volume_group)), plan, Origin.GROUP)
    return _made(name, node)


def adopt_pool(name: str, location: str, *, node: Node = THIS_NODE) -> Made[Pool]:
    """Take over the thin pool `VG/LV`. It gets tags, and nothing else of it or in it is changed."""
    check_name("pool", name)
    rows = logical_volumes()
    row = next((row for row in rows if row.full_name == location), None)
    if row is None:
        raise NotFound(f"there is no logical volume {location}", hint="give VG/LV; see them: lvs")
    if not row.is_thin_pool:
        raise Refused(f"{location} is no thin pool", hint="see which are: lvs -o +lv_layout")
    known_as = parse_tags(row.tags).get(Tag.POOL)
    if known_as == name:
        return Made(LvmPool(node, name, row.group, row.uuid), Outcome.ALREADY_THERE)
    existing = _find(name, rows)
    if known_as is not None or existing is not None:
        taken = f"{location} is pool {known_as} already" if known_as else f"there is a pool {name} already"
        raise Refused(taken, hint="choose another name, or let go of it first: rokctl pool remove")
    change("lvchange", *_tagged(name, Origin.ADOPTED), location)
    return Made(LvmPool(node, name, row.group, row.uuid), Outcome.CREATED)


def _find(name: str, rows: Sequence[LogicalVolume]) -> LogicalVolume | None:
    return next((row for row in rows if row.is_thin_pool and parse_tags(row.tags).get(Tag.POOL) == name), None)


def _members(group: str) -> list[PhysicalVolume]:
    return [volume for volume in physical_volumes() if volume.group == group]


def _clear_unfinished(name: str, rows: Sequence[LogicalVolume]) -> None:
    """Take apart what an interrupted creation of this very pool left: a group of ours without the pool in it."""
    for group in volume_groups().values():
        tags = parse_tags(group.tags)
        if Tag.MADE not in tags or tags.get(Tag.POOL) != name:
            continue
        if any(row.group == group.name and row.pool_uuid for row in rows):
            raise Refused(
                f"volume group {group.name} of a former pool {name} holds volumes", hint=f"see lvs {group.name}"
            )
        members = _members(group.name)
        change("vgremove", "--force", group.name)
        for member in members:
            release(member.device)


def _plan_on_devices(group: str, size: int | None) -> _Plan:
    extent_size = volume_groups()[group].extent_size
    free = [volume.free for volume in _members(group)]
    stripes = len(free) if min(free) >= max(free) * _ALIKE else 1
    whole = min(free) * stripes if stripes > 1 else sum(free)
    metadata = _sized(whole, extent_size, stripes=1).metadata
    room = min(free) - 2 * metadata if stripes > 1 else whole - 2 * metadata  # LVM may put both copies on one device
    most = max(0, room) // extent_size * extent_size * stripes
    if most == 0:
        raise Refused(f"the devices are too small: metadata alone takes {format_size(2 * metadata)}")
    if size is None:
        return _Plan(most, metadata, lvmspace.data_block_size_for(most), stripes)
    if size > most:
        raise OutOfSpace(
            f"a pool of {format_size(size)} does not fit: the devices have room for {format_size(most)}",
            hint="give more devices, or a smaller size",
        )
    return _sized(size, extent_size, stripes)


def _sized(size: int, extent_size: int, stripes: int) -> _Plan:
    step = extent_size * stripes
    data = -(-size // step) * step
    data_block_size = lvmspace.data_block_size_for(data)
    return _Plan(data, lvmspace.metadata_size_for(data, data_block_size, extent_size), data_block_size, stripes)


def _create(name: str, group: VolumeGroup, volume: str, plan: _Plan, origin: Origin) -> None:
    stripes = ("--stripes", str(plan.stripes), "--stripesize", f"{_STRIPE_SIZE}b") if plan.stripes > 1 else ()
    change(
        *("lvcreate", "--type", "thin-pool", "--name", volume, "--size", f"{plan.data}b", *stripes),
        *(
            "--poolmetadatasize",
            f"{plan.metadata}b",
            "--poolmetadataspare",
            "y",
            "--chunksize",
            f"{plan.data_block_size}b",
        ),
        *("--zero", "y", "--discards", "passdown", "--config", _SETTINGS, *_tagged(name, origin), group.name),
    )


def _tagged(name: str, origin: Origin) -> tuple[str, ...]:
    return ("--addtag", tag(Tag.POOL, name), "--addtag", tag(Tag.FROM, origin.value))


def _made(name: str, node: Node) -> Made[Pool]:
    row = _find(name, logical_volumes())
    if row is None:
        raise Failed(f"LVM made pool {name}, and does not list it", hint="see: lvs -o +lv_tags")
    return Made(LvmPool(node, name, row.group, row.uuid), Outcome.CREATED)


def _group_name(name: str, groups: Mapping[str, VolumeGroup]) -> str:
    """A name for the group of a pool: that of the pool, with a prefix, made shorter or told apart by a digest."""
    wanted = f"{_GROUP_PREFIX}{name}"
    if len(wanted) + wanted.count("-") <= _GROUP_NAME_ROOM and wanted not in groups:
        return wanted
    return choose_name(wanted, set(groups) | {wanted}, _GROUP_NAME_ROOM).replace("+", "_")
