"""The map of one volume while a version of it is made: the base's map, and the regions that are new."""

import threading
from collections.abc import Callable

from engine.repo.map import (
    PAGE_REGIONS,
    ZEROS,
    Entry,
    encode_page,
    encode_top,
    hole_region,
    page_count,
    page_regions,
    region_blocks,
)
from engine.repo.reader import Reader


class VolumeMap:
    """Starts as the map of a base (its root and size), or as all zeros, and takes new regions.

    Only pages that are asked about are read: the cost follows the change, not the volume.
    """

    def __init__(self, size: int, reader: Reader, base_root: bytes = ZEROS, base_size: int = 0) -> None:
        assert base_size <= size
        self._size = size
        self._reader = reader
        self._base_size = base_size
        self._pages = reader.pages(base_root, base_size) + [ZEROS] * (page_count(size) - page_count(base_size))
        self._loaded: dict[int, list[bytes]] = {}
        self._lock = threading.Lock()

    def reference(self, region: int) -> bytes:
        """The reference of a region as it stands."""
        with self._lock:
            return self._page(region // PAGE_REGIONS)[region % PAGE_REGIONS]

    def entries(self, region: int) -> list[Entry]:
        """The entries of a region as the base has it; zeros where the base has nothing."""
        reference = self.reference(region)
        if reference == ZEROS:
            return hole_region(region_blocks(self._size, region))
        return self._reader.region(reference, region, self._base_size)

    def emptied(self) -> "VolumeMap":
        """A map of the same size that starts as all zeros."""
        return VolumeMap(self._size, self._reader)

    def set(self, region: int, reference: bytes) -> None:
        """The region has this map now. Any thread may call."""
        with self._lock:
            self._page(region // PAGE_REGIONS)[region % PAGE_REGIONS] = reference

    def _page(self, number: int) -> list[bytes]:
        if number not in self._loaded:
            regions = page_regions(self._size, number)
            known = []
            if self._pages[number] != ZEROS:
                known = self._reader.regions(self._pages[number], number, self._base_size)
            self._loaded[number] = known + [ZEROS] * (regions - len(known))
        return self._loaded[number]

    def finish(self, put_map: Callable[[bytes | None], bytes]) -> bytes:
        """Store the pages that changed and the top map; give the root."""
        for number, references in self._loaded.items():
            self._pages[number] = put_map(encode_page(references))
        return put_map(encode_top(self._pages))
