"""The grid that chunks are cut on. It is part of the format: a repository says which one it has."""

from typing import Final

BLOCK: Final = 4096  # bytes: a chunk is whole blocks
REGION_BLOCKS: Final = 16384  # no chunk reaches over the end of a region
