"""What dm-thin says, in its own units, and the translation into bytes.

Formats: the kernel's `Documentation/admin-guide/device-mapper/thin-provisioning.rst`.
"""

from enum import Enum
from typing import Final

from engine.errors import Failed
from engine.units import KIB, SECTOR
from engine.values import dataclass

METADATA_BLOCK_SIZE: Final = 4 * KIB


@dataclass(frozen=True, slots=True, order=True)
class Sectors:
    """A count of 512-byte sectors."""

    count: int

    def to_bytes(self) -> int:
        """As bytes."""
        return self.count * SECTOR


@dataclass(frozen=True, slots=True, order=True)
class DataBlocks:
    """A count of a thin pool's allocation units."""

    count: int

    def to_bytes(self, data_block_size: int) -> int:
        """As bytes, in a pool whose data blocks have `data_block_size` of them."""
        return self.count * data_block_size


class Mode(Enum):
    """What a thin pool still does."""

    READ_WRITE = "rw"
    READ_ONLY = "ro"
    OUT_OF_DATA_SPACE = "out_of_data_space"
    FAILED = "Fail"


@dataclass(frozen=True, slots=True)
class PoolState:
    """The status of a thin pool, in bytes. A pool that failed tells no sizes: they are 0."""

    mode: Mode
    metadata_used: int
    metadata_size: int
    data_used: int
    data_size: int
    metadata_snapshot_held: bool
    needs_check: bool

    @property
    def health(self) -> str:
        """`ok`, or what is wrong in a few words."""
        wrong = {
            Mode.FAILED: "failed: the pool answers no I/O until it is repaired",
            Mode.READ_ONLY: "metadata is read-only",
            Mode.OUT_OF_DATA_SPACE: "out of data space",
            Mode.READ_WRITE: "metadata needs a check" if self.needs_check else "ok",
        }
        return wrong[self.mode]


def parse_pool_status(text: str, data_block_size: int) -> PoolState:
    """Read the status line of a `thin-pool` target. Raises Failed when it is none."""
    fields = text.split()
    if fields and fields[0] in ("Fail", "Error"):
        return PoolState(Mode.FAILED, 0, 0, 0, 0, metadata_snapshot_held=False, needs_check=True)
    try:
        metadata_used, metadata_size = (int(part) * METADATA_BLOCK_SIZE for part in fields[1].split("/"))
        data_used, data_size = (DataBlocks(int(part)).to_bytes(data_block_size) for part in fields[2].split("/"))
        mode = Mode(fields[4])
        held = fields[3] != "-"
    except (IndexError, ValueError) as error:
        raise Failed(f"the kernel gave an unknown thin-pool status: {text!r}") from error
    return PoolState(mode, metadata_used, metadata_size, data_used, data_size, held, "needs_check" in fields[5:])


def parse_thin_status(text: str) -> int | None:
    """The bytes that a thin device has mapped, from the status line of its `thin` target; None when it failed."""
    first = text.split(" ", 1)[0]
    return Sectors(int(first)).to_bytes() if first.isdecimal() else None
