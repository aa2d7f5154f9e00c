"""The memory of buffers is ours alone, and asks for huge pages in the way that kernels give them."""

import ctypes
import mmap
from pathlib import Path

import pytest

from engine.pages import Scratch, pages
from engine.units import MIB


def test_pages_are_private_for_shared_ones_are_never_huge_unless_an_administrator_says_so() -> None:
    memory = pages(4 * MIB)
    permissions, flags = mapping_at(memory)
    assert permissions == "rw-p"
    if not Path("/sys/kernel/mm/transparent_hugepage").is_dir():
        pytest.skip("a kernel without huge pages")
    assert "hg" in flags


def test_pages_are_zeros() -> None:
    assert pages(MIB)[:] == bytes(MIB)


def test_scratch_memory_is_the_same_each_time_until_more_is_wanted() -> None:
    scratch = Scratch(MIB)
    nothing, before = scratch.first(0), scratch.first(100)
    nothing[:] = b""
    before[:] = b"x" * 100
    assert scratch.first(MIB)[:100] == before
    assert scratch.first(MIB + 1)[:100] == bytes(100)


def mapping_at(memory: mmap.mmap) -> tuple[str, list[str]]:
    """The permissions of a mapping, and its flags in two letters each: see proc(5), smaps."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        place, _, rest = line.partition(" ")
        first, dash, end = place.partition("-")
        if dash and int(first, 16) <= start < int(end, 16):
            found = next(line for line in lines if line.startswith("VmFlags:"))
            return rest[:4], found.split()[1:]
    raise AssertionError("the mapping is not in the table")
