"""Paging through FIEMAP on a real filesystem: any page size gives the same mappings."""

import os
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
