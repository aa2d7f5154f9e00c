"""Reading around damage: what is lost of a member reads as zeros, and is noted."""

from engine.extent import Extent
from engine.ops.difference import extent_of
from engine.repo.index import Index
from engine.repo.map import PAGE, REGION, ZEROS, Entry, hole_region, page_count, page_regions, region_blocks
from engine.repo.reader import Missing, Reader
from engine.repo.seal import Keyring
from engine.store.base import Store


class ForgivingReader(Reader):
    """Reads the maps of one member as if what is lost had never been written. `losses` grows, in any order.

    A chunk that is stated and turns out to be unreadable shows only in `tries`, and is the caller's to note.
    """

    def __init__(self, store: Store, keyring: Keyring, index: Index) -> None:
        super().__init__(store, keyring, index)
        self.losses: list[Extent] = []

    def pages(self, root: bytes, size: int) -> list[bytes]:
        """All zeros where the top map is lost."""
        try:
            return super().pages(root, size)
        except Missing:
            self.losses.append(Extent(0, size))
            return [ZEROS] * page_count(size)

    def regions(self, page: bytes, number: int, size: int) -> list[bytes]:
        """All zeros where the page is lost."""
        try:
            return super().regions(page, number, size)
        except Missing:
            self.losses.append(Extent(number * PAGE, min(PAGE, size - number * PAGE)))
            return [ZEROS] * page_regions(size, number)

    def region(self, reference: bytes, number: int, size: int) -> list[Entry]:
        """Zeros where the map is lost, or no pack states a chunk."""
        try:
            entries = super().region(reference, number, size)
        except Missing:
            self.losses.append(Extent(number * REGION, min(REGION, size - number * REGION)))
            return hole_region(region_blocks(size, number))
        return [self._or_zeros(entry, number, size) for entry in entries]

    def _or_zeros(self, entry: Entry, number: int, size: int) -> Entry:
        if entry.is_hole or self.has(entry.chunk):
            return entry
        self.losses.append(extent_of(number, entry, size))
        return Entry(entry.start, entry.blocks, ZEROS)
