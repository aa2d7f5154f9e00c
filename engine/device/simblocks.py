"""The data blocks of the simulated pool: counted, shared between maps, copied when a shared one is written."""

from collections.abc import Iterator
from typing import Final

from engine.errors import OutOfSpace
from engine.extent import Extent
from engine.units import KIB
from engine.values import dataclass

DATA_BLOCK: Final = 64 * KIB
_METADATA_PER_MAP: Final = 4 * KIB
_METADATA_PER_BLOCK: Final = 16


@dataclass(slots=True)
class _DataBlock:
    """Bytes, and how many maps hold them."""

    content: bytearray
    references: int


class Space:
    """What a pool has, and what of it is used, in bytes."""

    def __init__(self, data_size: int, metadata_size: int) -> None:
        self.data_size = data_size
        self.metadata_size = metadata_size
        self.data_used = 0
        self.metadata_used = 0

    def take_block(self) -> None:
        """Raises OutOfSpace."""
        if self.data_used + DATA_BLOCK > self.data_size:
            raise OutOfSpace("the pool has no data space left", hint="extend the pool, or remove snapshots")
        self.data_used += DATA_BLOCK

    def take_metadata(self, amount: int) -> None:
        """Raises OutOfSpace."""
        if self.metadata_used + amount > self.metadata_size:
            raise OutOfSpace("the pool has no metadata space left", hint="extend the pool, or remove snapshots")
        self.metadata_used += amount


class BlockMap:
    """Which data block holds each 64 KiB of a volume or snapshot; where there is none, it reads as zeros."""

    def __init__(self, space: Space) -> None:
        space.take_metadata(_METADATA_PER_MAP)
        self._space = space
        self._blocks: dict[int, _DataBlock] = {}

    def copy(self) -> "BlockMap":
        """A map that shares every block. Raises OutOfSpace, having changed nothing."""
        self._space.take_metadata(len(self._blocks) * _METADATA_PER_BLOCK)
        try:
            made = BlockMap(self._space)
        except OutOfSpace:
            self._space.metadata_used -= len(self._blocks) * _METADATA_PER_BLOCK
            raise
        for block in self._blocks.values():
            block.references += 1
        made._blocks = dict(self._blocks)
        return made

    def release(self) -> None:
        """Give up all blocks, and the map itself."""
        for index in list(self._blocks):
            self._drop(index)
        self._space.metadata_used -= _METADATA_PER_MAP

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` with what stands at `offset`."""
        done = 0
        while done < len(target):
            index, start = divmod(offset + done, DATA_BLOCK)
            count = min(DATA_BLOCK - start, len(target) - done)
            block = self._blocks.get(index)
            target[done : done + count] = block.content[start : start + count] if block else bytes(count)
            done += count

    def write(self, offset: int, body: memoryview) -> None:
        """Put `body` at `offset`. Raises OutOfSpace, having written what comes before the block that found no room."""
        done = 0
        while done < len(body):
            index, start = divmod(offset + done, DATA_BLOCK)
            count = min(DATA_BLOCK - start, len(body) - done)
            self._own(index).content[start : start + count] = body[done : done + count]
            done += count

    def discard(self, extent: Extent) -> None:
        """Make the extent read as zeros, and give up the blocks that it covers whole."""
        position = extent.start
        while position < extent.end:
            index, start = divmod(position, DATA_BLOCK)
            count = min(DATA_BLOCK - start, extent.end - position)
            if index in self._blocks:
                if count == DATA_BLOCK:
                    self._drop(index)
                else:
                    self._own(index).content[start : start + count] = bytes(count)
            position += count

    def used(self) -> int:
        """Bytes in mapped blocks."""
        return len(self._blocks) * DATA_BLOCK

    def mapped(self) -> Iterator[Extent]:
        """The mapped blocks, sorted; touching ones are not merged."""
        for index in sorted(self._blocks):
            yield Extent(index * DATA_BLOCK, DATA_BLOCK)

    def differs(self, other: "BlockMap") -> Iterator[tuple[Extent, bool]]:
        """The blocks at which `other` maps something else, sorted, and whether it maps anything there."""
        for index in sorted(self._blocks.keys() | other._blocks.keys()):
            theirs = other._blocks.get(index)
            if self._blocks.get(index) is not theirs:
                yield Extent(index * DATA_BLOCK, DATA_BLOCK), theirs is not None

    def _own(self, index: int) -> _DataBlock:
        """The block at `index`, fit to be written: made if missing, copied if shared."""
        shared = self._blocks.get(index)
        if shared is not None and shared.references == 1:
            return shared
        if shared is None:
            self._space.take_metadata(_METADATA_PER_BLOCK)
        try:
            self._space.take_block()
        except OutOfSpace:
            if shared is None:
                self._space.metadata_used -= _METADATA_PER_BLOCK
            raise
        own = _DataBlock(bytearray(DATA_BLOCK) if shared is None else bytearray(shared.content), 1)
        if shared is not None:
            shared.references -= 1
        self._blocks[index] = own
        return own

    def _drop(self, index: int) -> None:
        block = self._blocks.pop(index)
        block.references -= 1
        self._space.metadata_used -= _METADATA_PER_BLOCK
        if block.references == 0:
            self._space.data_used -= DATA_BLOCK
