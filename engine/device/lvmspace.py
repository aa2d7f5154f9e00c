"""The space of an LVM pool: when it is nearly full, how it grows, and how large its metadata should be."""

from contextlib import ExitStack
from typing import Final

from engine.device.base import Outcome
from engine.device.dm import control
from engine.device.lvmactive import pool_state
from engine.device.lvmreport import LogicalVolume, change, logical_volumes, physical_volumes
from engine.device.lvmtags import Origin, parse_tags
from engine.device.lvmview import PoolView
from engine.device.rules import check_empty
from engine.device.thin import Mode, PoolState
from engine.errors import OutOfSpace, Refused
from engine.units import GIB, KIB, MIB, format_size

# Beyond these a new snapshot is refused. Every data block that is written after a snapshot costs metadata anew; a full
# metadata device fails the pool and all its volumes, and cannot be grown any more then.
METADATA_LIMIT: Final = 0.70
DATA_LIMIT: Final = 0.95

# A mapping takes some 64 bytes of metadata, and volume and snapshots may each come to need one for every data block. We
# give a pool four times that, 0.4 % of it with data blocks of 64 KiB: metadata must never be what runs out first.
_METADATA_PER_DATA_BLOCK: Final = 256
_METADATA_MINIMUM: Final = 16 * MIB
_METADATA_MAXIMUM: Final = 15 * GIB + 768 * MIB  # just below the most that dm-thin and every LVM address
_SMALLEST_DATA_BLOCK: Final = 64 * KIB


def shortage(state: PoolState) -> str:
    """Why a pool should take no new snapshot; empty when it may."""
    if state.mode is not Mode.READ_WRITE:
        return state.health
    if state.metadata_used >= state.metadata_size * METADATA_LIMIT:
        return _near_end("metadata", state.metadata_used, state.metadata_size)
    if state.data_used >= state.data_size * DATA_LIMIT:
        return _near_end("data", state.data_used, state.data_size)
    return ""


def health(state: PoolState, lvm_health: str) -> str:
    """`ok`, or all that is wrong with a pool, in a few words."""
    wrong = [state.health] if state.health != "ok" else [words for words in (shortage(state),) if words]
    if lvm_health and lvm_health.replace("_", " ") not in "; ".join(wrong):
        wrong.append(f"lvm says {lvm_health}")
    return "; ".join(wrong) or "ok"


def data_block_size_for(data_size: int) -> int:
    """The data block size for a pool: 64 KiB, or so many times that as half of the largest metadata can address."""
    block_size = _SMALLEST_DATA_BLOCK
    while data_size // block_size * _METADATA_PER_DATA_BLOCK // 2 > _METADATA_MAXIMUM:
        block_size *= 2
    return block_size


def metadata_size_for(data_size: int, data_block_size: int, extent_size: int) -> int:
    """How large the metadata of a pool should be: whole extents."""
    wanted = data_size // data_block_size * _METADATA_PER_DATA_BLOCK
    bounded = min(max(wanted, _METADATA_MINIMUM), _METADATA_MAXIMUM)
    return -(-bounded // extent_size) * extent_size


def extend(seen: PoolView, size: int | None, devices: tuple[str, ...]) -> Outcome:
    """Grow an active pool to `size` bytes, or by all the space of `devices`; the metadata and its spare grow first.

    Metadata that is half used is doubled, whatever the size: so growing a pool to the size that it has helps it too.
    """
    if size is None and not devices:
        raise Refused("a pool grows to a size, or by devices", hint="give --size or --device")
    if devices:
        _add_devices(seen, devices)
    pool = next(row for row in logical_volumes(seen.row.group) if row.uuid == seen.row.uuid)
    wanted = _size_that_fills(pool) if size is None else -(-size // pool.extent_size) * pool.extent_size
    if wanted < pool.size:
        raise Refused(f"pool {seen.name} has {pool.size} bytes, and a pool is not shrunk to {size}")
    metadata = max(pool.metadata_size, _metadata_wanted(pool, wanted))
    needed = wanted - pool.size + 2 * (metadata - pool.metadata_size)
    if needed > pool.group_free:
        raise OutOfSpace(
            f"pool {seen.name} needs {format_size(needed)} to grow, and volume group {pool.group} has "
            f"{format_size(pool.group_free)} left",
            hint=f"give it a device: rokctl pool extend {seen.name} --device /dev/...",
        )
    if metadata > pool.metadata_size:
        change("lvextend", "--poolmetadatasize", f"{metadata}b", pool.full_name)
    if wanted > pool.size:
        change("lvextend", "--stripes", "1", "--size", f"{wanted}b", pool.full_name)
    return Outcome.CHANGED if needed else Outcome.UNCHANGED


def remove(seen: PoolView) -> None:
    """Remove an empty pool, and with it the volume group that rokctl made for it; let go of an adopted one."""
    mine = seen.origin is not Origin.ADOPTED  # what is foreign in an adopted pool was there before us, and stays
    check_empty(
        seen.name,
        [volume.item for volume in seen.volumes if mine or not volume.item.foreign],
        [snapshot.item for snapshot in seen.snapshots if mine or not snapshot.item.foreign],
    )
    pool = seen.row
    match seen.origin:
        case Origin.ADOPTED:
            ours = [text for text in pool.tags if parse_tags([text])]
            change("lvchange", *(part for text in ours for part in ("--deltag", text)), pool.full_name)
        case Origin.GROUP:
            change("lvremove", "--force", pool.full_name)
        case Origin.DEVICES:
            _remove_group(pool)


def _remove_group(pool: LogicalVolume) -> None:
    from engine.device.lvmdevices import release

    others = [row.full_name for row in logical_volumes(pool.group) if row.uuid != pool.uuid]
    if others:
        raise Refused(f"volume group {pool.group} holds what is not of the pool: {', '.join(others)}")
    members = [volume for volume in physical_volumes() if volume.group == pool.group]
    change("vgremove", "--force", pool.group)
    for member in members:
        release(member.device)


def _add_devices(seen: PoolView, devices: tuple[str, ...]) -> None:
    from engine.device.lvmdevices import check_devices, claim, release

    if seen.origin is not Origin.DEVICES:
        raise Refused(
            f"volume group {seen.row.group} of pool {seen.name} was not made by rokctl, which gives it no devices",
            hint=f"use vgextend {seen.row.group}, then rokctl pool extend {seen.name} --size",
        )
    present = {volume.device for volume in physical_volumes() if volume.group == seen.row.group}
    fresh = check_devices([device for device in devices if device not in present], wipe=False)
    for device in fresh:
        with ExitStack() as undo:
            claim(device, wipe=False)
            undo.callback(release, device)
            change("vgextend", seen.row.group, device)
            undo.pop_all()


def _size_that_fills(pool: LogicalVolume) -> int:
    growth = max(0, _metadata_wanted(pool, pool.size + pool.group_free) - pool.metadata_size)
    room = max(0, pool.group_free - 2 * growth)
    return pool.size + room // pool.extent_size * pool.extent_size


def _metadata_wanted(pool: LogicalVolume, data_size: int) -> int:
    with control() as devices:
        state = pool_state(devices, pool)
    by_use = 2 * pool.metadata_size if state.metadata_used * 2 > state.metadata_size else 0
    by_size = metadata_size_for(data_size, pool.data_block_size, pool.extent_size)
    return max(by_size, min(by_use, _METADATA_MAXIMUM // pool.extent_size * pool.extent_size))


def _near_end(what: str, used: int, size: int) -> str:
    percent = 100 * used // size
    return f"its {what} space is {percent} % used ({format_size(used)} of {format_size(size)})"
