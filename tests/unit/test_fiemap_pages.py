"""What FIEMAP answers: how it is read, and paging on a real filesystem."""

import os
import struct
from pathlib import Path

import pytest

from engine.device import fiemap
from engine.errors import Failed

SIZE = 1 << 20


def test_pages_of_any_size_give_the_same_mappings(tmp_path: Path) -> None:
    path = tmp_path / "fragmented"
    with path.open("wb") as file:
        file.truncate(SIZE)
        for offset in range(0, SIZE, 3 * 8192):
            os.pwrite(file.fileno(), b"x" * 4096, offset)
    with path.open("rb") as file:
        try:
            whole = fiemap.read_page(file.fileno(), 0, SIZE, path=str(path))
        except Failed as error:
            pytest.skip(f"this filesystem has no FIEMAP: {error}")
        paged, position = [], 0
        while position < SIZE:
            page = fiemap.read_page(file.fileno(), position, SIZE, path=str(path), limit=3)
            assert position < page.end <= SIZE
            assert len(page.mapped) <= 3
            paged += page.mapped
            position = page.end

    assert whole.end == SIZE
    assert len(whole.mapped) == len(range(0, SIZE, 3 * 8192))
    assert paged == whole.mapped


def test_a_file_that_has_no_extents_to_tell_is_an_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(Failed, match="FIEMAP"):
            fiemap.read_page(reader, 0, SIZE, path="a pipe")
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    ("flags", "mapped"),
    [
        (0x0, [fiemap.Mapped(4096, 8192, 1 << 30)]),
        (0x1, [fiemap.Mapped(4096, 8192, 1 << 30)]),  # last
        (0x2000, [fiemap.Mapped(4096, 8192, 1 << 30)]),  # shared
        (0x800, []),  # unwritten
        (0x2, [fiemap.Mapped(4096, 8192, None)]),  # unknown
        (0x4, [fiemap.Mapped(4096, 8192, None)]),  # delayed allocation
        (0x8, [fiemap.Mapped(4096, 8192, None)]),  # encoded
        (0x80, [fiemap.Mapped(4096, 8192, None)]),  # encrypted
        (0x100, [fiemap.Mapped(4096, 8192, None)]),  # not aligned
        (0x200, [fiemap.Mapped(4096, 8192, None)]),  # inline
        (0x806, [fiemap.Mapped(4096, 8192, None)]),  # unwritten, but with bytes that wait to be written
    ],
)
def test_an_extent_counts_by_its_flags(flags: int, mapped: list[fiemap.Mapped]) -> None:
    header = struct.pack("=QQIIII", 0, SIZE, 1, 1, 8, 0)
    extent = struct.pack("=QQQQQIIII", 4096, 4096 + (1 << 30), 4096, 0, 0, flags, 0, 0, 0)
    answer = header + extent + bytes(7 * len(extent))
    assert fiemap.parse_page(answer, 0, SIZE, 8) == fiemap.Page(mapped, SIZE)
    assert fiemap.parse_page(answer, 0, SIZE, 1).end == 8192
    assert fiemap.parse_page(answer, 0, 6000, 1).end == 6000
