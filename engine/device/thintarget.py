"""Writing to a thin volume, where a write may fail because the pool is full."""

from collections.abc import Iterator
from contextlib import contextmanager

from engine.device.base import Target
from engine.device.dm import control
from engine.device.lvmactive import pool_state
from engine.device.lvmreport import LogicalVolume
from engine.device.lvmspace import shortage
from engine.device.thin import Mode
from engine.errors import Failed, OutOfSpace
from engine.extent import Extent


class ThinTarget:
    """A target whose failures are OutOfSpace when its pool is full.

    dm-thin says so itself, but the page cache of a block device keeps no reasons: all that it tells is "I/O error".
    """

    def __init__(self, target: Target, pool: LogicalVolume) -> None:
        self._target = target
        self._pool = pool

    @property
    def size(self) -> int:
        """Bytes."""
        return self._target.size

    def write(self, offset: int, body: bytes | bytearray | memoryview) -> None:
        """See `Target`."""
        with self._reasons():
            self._target.write(offset, body)

    def discard(self, extent: Extent) -> None:
        """See `Target`."""
        with self._reasons():
            self._target.discard(extent)

    def flush(self) -> None:
        """See `Target`."""
        with self._reasons():
            self._target.flush()

    @contextmanager
    def _reasons(self) -> Iterator[None]:
        try:
            yield
        except (Failed, OutOfSpace) as error:
            with control() as devices:
                state = pool_state(devices, self._pool)
            if state.mode is not Mode.OUT_OF_DATA_SPACE:
                raise
            raise OutOfSpace(
                f"{error.message}, because pool {self._pool.full_name} is full: {shortage(state)}",
                hint="grow it: rokctl pool extend; or remove snapshots",
            ) from error
