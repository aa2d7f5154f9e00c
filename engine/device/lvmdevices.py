"""Block devices that are to become part of a pool: what forbids it, and claiming them."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine.device.lvmreport import change, physical_volumes
from engine.device.probe import is_held, signatures
from engine.device.tool import run
from engine.errors import Busy, Failed, NotFound, Refused
from engine.units import MIB, format_size

SMALLEST: Final = 64 * MIB


def check_devices(devices: Sequence[str], *, wipe: bool) -> list[str]:
    """Return the devices if all may be used, having touched nothing.

    Raises NotFound, Busy when one is mounted or under another device, and Refused for what is no block device, is too
    small, belongs to a volume group, or (unless `wipe`) holds anything that is recognised; it says what would be lost.
    """
    numbers = [_device_number(device) for device in devices]
    groups = {_number(volume.device): volume.group for volume in physical_volumes() if volume.group}
    for device, number in zip(devices, numbers, strict=True):
        if numbers.count(number) > 1:
            raise Refused(f"{device} is given twice")
        if number in groups:
            raise Refused(
                f"{device} belongs to volume group {groups[number]}",
                hint=f"make the pool in that group, or take the device out of it: vgreduce {groups[number]} {device}",
            )
        if is_held(device):
            raise Busy(f"{device} is mounted, or in use by another device", hint=f"see what uses it: lsblk {device}")
        if (size := _size(device)) < SMALLEST:
            raise Refused(f"{device} has {format_size(size)}, and a pool needs {format_size(SMALLEST)} at least")
        if not wipe and (found := signatures(device)):
            raise Refused(
                f"{device} holds {' and '.join(found)}, which would be lost",
                hint="if it may be lost, say so: --wipe",
            )
    return list(devices)


def claim(device: str, *, wipe: bool) -> None:
    """Make an LVM physical volume of a device.

    Where nothing may be wiped, LVM asks before it does, and gets no answer: what was written since the check is safe.
    """
    if wipe:
        run("wipefs", "--all", device)
    change("pvcreate", device, yes=False)


def release(device: str) -> None:
    """Make a plain device of a physical volume that belongs to no group."""
    change("pvremove", device)


def _device_number(device: str) -> int:
    try:
        status = Path(device).stat()
    except OSError as error:
        raise NotFound(f"there is no device {device}: {error.strerror}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise Refused(f"{device} is no block device", hint="give a disk or a partition, such as /dev/nvme1n1")
    return status.st_rdev


def _number(device: str) -> int | None:
    """The number of a physical volume's device; None for one that is missing, which LVM names `[unknown]`."""
    try:
        return Path(device).stat().st_rdev
    except FileNotFoundError:
        return None


def _size(device: str) -> int:
    try:
        file = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Failed(f"cannot open {device}: {error.strerror}") from error
    try:
        return os.lseek(file, 0, os.SEEK_END)
    finally:
        os.close(file)
