"""Snapshots of several volumes at one instant, with LVM the owner of every id.

LVM takes one snapshot at a time. So it first makes all of them, inactive: their thin ids are then LVM's. They are deleted
from the pool again, and taken anew under their own ids with all the volumes suspended, by messages to the kernel that do
not touch LVM's transaction. Each message is a commit of the pool's metadata, which waits for the disk: so nothing else is
sent meanwhile, and each volume goes on as soon as it has its snapshot. What it writes then is in no other one, since those
without a snapshot still stand still.

A pool carries the tag PREPARING with the group while this goes on. To remove it is one commit of LVM's metadata, and makes
all the snapshots of the group visible at once. Until then they are leftovers, which the next change removes, and the tag
tells which volumes a killed process may have left suspended.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from engine import native
from engine.device.dm import Control, control
from engine.device.lvmreport import LogicalVolume, change
from engine.device.lvmtags import Tag, tag
from engine.device.lvmview import PoolView
from engine.device.mounts import write_back
from engine.errors import Failed
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class Prepared:
    """A snapshot to be taken: of which volume, under which thin id."""

    origin: LogicalVolume
    snapshot: LogicalVolume


def announce(pool: PoolView, group: str) -> None:
    """Record that a group is in preparation. Its snapshots are invisible from now on."""
    change("lvchange", "--addtag", tag(Tag.PREPARING, group), pool.row.full_name)


def commit(pool: PoolView, group: str) -> None:
    """Make all the snapshots of the group visible."""
    change("lvchange", "--deltag", tag(Tag.PREPARING, group), pool.row.full_name)


def take(pool: PoolView, prepared: Sequence[Prepared]) -> None:
    """Take all the prepared snapshots anew at one instant. A crash may leave some of them without a thin volume."""
    with control() as devices:
        for one in prepared:
            devices.message(pool.row.pool_device, f"delete {one.snapshot.thin_id}")
        write_back(one.origin.path for one in prepared)
        devices.status(pool.row.pool_device)  # ends a transaction that is open, while nothing waits for it
        # Asked of the kernel now: what `lvs` said is some commands old, and a snapshot of a volume at work is damaged.
        running = [one.origin for one in prepared if devices.find(one.origin.device) is not None]
        with suspended(running, devices):
            for one in prepared:
                message = f"create_snap {one.snapshot.thin_id} {one.origin.thin_id}"
                devices.message(pool.row.pool_device, message)
                if one.origin in running:
                    devices.resume(one.origin.device)


@contextmanager
def suspended(volumes: Sequence[LogicalVolume], devices: Control) -> Iterator[None]:
    """All volumes suspended inside, all running afterwards, whatever happens.

    No signal stops us in between, and no page fault: the program itself may lie on a volume that is suspended.
    """
    with _signals_blocked(), _memory_locked(), ExitStack() as resumed:
        for volume in volumes:
            resumed.callback(devices.resume, volume.device)
            devices.suspend(volume.device)
        yield


def resume(volumes: Sequence[LogicalVolume]) -> None:
    """Resume volumes that a killed process left suspended."""
    with control() as devices:
        for volume in volumes:
            devices.resume(volume.device)


def clear_leftovers(pool: PoolView) -> None:
    """Remove what a crash left of a group: its snapshots first, then the tag that hides them."""
    resume(pool.suspended)
    if pool.leftovers:
        change("lvremove", "--force", *(row.full_name for row in pool.leftovers))
    commit(pool, pool.preparing)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _memory_locked() -> Iterator[None]:
    try:
        native.lock_memory()
    except OSError as error:
        raise Failed(
            f"cannot lock memory, as suspending volumes needs: {error.strerror}", hint="grant CAP_IPC_LOCK"
        ) from error
    try:
        yield
    finally:
        native.unlock_memory()
