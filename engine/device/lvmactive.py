"""What must be active while it is worked on; what the kernel says of it; and whether a filesystem on it is mounted."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from engine.device.dm import Control, control
from engine.device.lvmreport import LogicalVolume, change
from engine.device.mounts import mount_point
from engine.device.thin import PoolState, parse_pool_status
from engine.errors import Busy, Failed


@contextmanager
def running(pool: LogicalVolume) -> Iterator[None]:
    """The pool itself at work inside. It is as long as one of its volumes is active, whatever `lvs` says of its own row."""
    with control() as devices:
        runs = devices.find(pool.pool_device) is not None
    if runs:
        yield
        return
    with awake(pool):
        yield


@contextmanager
def awake(row: LogicalVolume) -> Iterator[None]:
    """Active inside; inactive again afterwards if it was, unless someone else uses it by then."""
    if row.active:
        yield
        return
    change("lvchange", "--activate", "y", "--ignoreactivationskip", row.full_name)
    try:
        yield
    finally:
        with suppress(Busy):  # it is theirs now
            change("lvchange", "--activate", "n", row.full_name)


def pool_state(devices: Control, pool: LogicalVolume) -> PoolState:
    """The state of an active pool."""
    status = devices.status(pool.pool_device)
    if len(status) != 1 or status[0].type != "thin-pool":
        raise Failed(f"{pool.full_name} is not a thin pool to the kernel")
    return parse_pool_status(status[0].text, pool.data_block_size)


def is_mounted(row: LogicalVolume) -> bool:
    """Whether a filesystem on it is mounted, in whichever namespace. LVM and device-mapper freeze it then."""
    if not (row.active and row.open):
        return False
    if mount_point(row.path) is not None:
        return True
    from engine.device.probe import is_held, probe

    return is_held(row.path) and probe(row.path) is not None
