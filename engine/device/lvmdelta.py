"""What is allocated in a thin volume and what differs between two, from the pool's metadata.

The thin tools read a *metadata snapshot*, of which a pool has but one. It is held while a tool runs, never while someone
reads the result: the tool's output goes to a temporary file first. One that a killed process left behind is found in the
status of the pool, under a lock that says that nobody is using it, and released.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from engine.device.base import Change
from engine.device.dm import control
from engine.device.lvmactive import pool_state
from engine.device.lvmreport import LogicalVolume
from engine.device.node import Node, Work
from engine.device.thin import Mode
from engine.device.thinxml import read_delta, read_mappings
from engine.device.tool import spool
from engine.errors import Failed
from engine.extent import Extent

Check = Callable[..., None]  # of logical volumes; raises what is to be raised


def changes(node: Node, pool: LogicalVolume, old: LogicalVolume, new: LogicalVolume, check: Check) -> Iterator[Change]:
    """What differs from thin volume `old` to thin volume `new`. The pool must be active.

    `check` is called with both after the tool has run: an id is given to another volume once its own is removed.
    """
    assert old.thin_id is not None
    assert new.thin_id is not None
    sides = ("--thin1", str(old.thin_id), "--thin2", str(new.thin_id))
    with _output_of(node, pool, "thin_delta", *sides) as xml:
        check(old, new)
        yield from read_delta(xml, left=old.thin_id, right=new.thin_id, old_size=old.size, size=new.size)


def mappings(node: Node, pool: LogicalVolume, volume: LogicalVolume, check: Check) -> Iterator[Extent]:
    """Where a thin volume may hold anything but zeros. The pool must be active. `check` is as above."""
    assert volume.thin_id is not None
    with _output_of(node, pool, "thin_dump", "--dev-id", str(volume.thin_id)) as xml:
        check(volume)
        yield from read_mappings(xml, thin_id=volume.thin_id, size=volume.size)


@contextmanager
def _output_of(node: Node, pool: LogicalVolume, tool: str, *arguments: str) -> Iterator[BinaryIO]:
    with node.working(Work.DELTA, pool.uuid, pool.full_name), _metadata_snapshot(pool) as metadata:
        xml = spool(tool, "-m", *arguments, metadata)
    with xml:
        yield xml


@contextmanager
def _metadata_snapshot(pool: LogicalVolume) -> Iterator[str]:
    """Hold the metadata snapshot, and give the device to read it from."""
    with control() as devices:
        state = pool_state(devices, pool)
        if state.mode is Mode.FAILED:
            raise Failed(
                f"pool {pool.full_name} has failed: {state.health}", hint=f"lvconvert --repair {pool.full_name}"
            )
        if state.metadata_snapshot_held:
            devices.message(pool.pool_device, "release_metadata_snap")
        devices.message(pool.pool_device, "reserve_metadata_snap")
        try:
            metadata = devices.find(pool.metadata_device)
            if metadata is None:
                raise Failed(f"the metadata device of pool {pool.full_name} is not active")
            yield metadata.path
        finally:
            devices.message(pool.pool_device, "release_metadata_snap")
