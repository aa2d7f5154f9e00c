"""The output of the thin tools, of both generations, whole, cut short and broken. No kernel is needed."""

import io

import pytest

from engine.device.base import Change, ChangeKind
from engine.device.thinxml import read_delta, read_mappings
from engine.errors import Failed
from engine.extent import Extent, between
from engine.units import KIB

BLOCK = 64 * KIB

DELTA = b"""<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="0">
  <diff left="2" right="3">
    <same begin="0" length="4"/>
    <different begin="4" length="2"/>
    <right_only begin="6" length="1"/>
    <left_only begin="9" length="3"/>
    <left_only begin="12" length="1"/>
    <different begin="20" length="1"/>
  </diff>
</superblock>
"""
RUST_DELTA = DELTA.replace(b'transaction="3"', b'transaction="3" version="2"').replace(b"\n", b"").replace(b"  ", b"")

DUMP = b"""<superblock uuid="" time="0" transaction="1" flags="0" version="2" data_block_size="128" nr_data_blocks="2048">
  <device dev_id="1" mapped_blocks="4" transaction="0" creation_time="0" snap_time="0">
    <range_mapping origin_begin="0" data_begin="100" length="3" time="0"/>
    <single_mapping origin_block="3" data_block="7" time="0"/>
    <single_mapping origin_block="8" data_block="9" time="0"/>
  </device>
</superblock>
"""
RUST_DUMP = b"""<superblock uuid="" time="0" transaction="1" version="2" data_block_size="128" nr_data_blocks="2048">
  <def name="17"><range_mapping origin_begin="0" data_begin="100" length="3" time="0"/></def>
  <device dev_id="5" mapped_blocks="1" transaction="0" creation_time="0" snap_time="0">
    <single_mapping origin_block="30" data_block="7" time="0"/>
  </device>
  <device dev_id="1" mapped_blocks="5" transaction="0" creation_time="0" snap_time="0">
    <ref name="17"/>
    <single_mapping origin_block="3" data_block="7" time="0"/>
    <single_mapping origin_block="8" data_block="9" time="0"/>
  </device>
</superblock>
"""


def blocks(start: int, end: int) -> Extent:
    return between(start * BLOCK, end * BLOCK)


def changed(start: int, end: int) -> Change:
    return Change(blocks(start, end), ChangeKind.CHANGED)


def hole(start: int, end: int) -> Change:
    return Change(blocks(start, end), ChangeKind.HOLE)


def delta(xml: bytes, *, old_size: int = 32 * BLOCK, size: int = 32 * BLOCK) -> list[Change]:
    return list(read_delta(io.BytesIO(xml), left=2, right=3, old_size=old_size, size=size))


def mapped(xml: bytes, size: int = 32 * BLOCK) -> list[Extent]:
    return list(read_mappings(io.BytesIO(xml), thin_id=1, size=size))


@pytest.mark.parametrize("xml", [DELTA, RUST_DELTA])
def test_a_delta_merges_what_is_changed_and_what_is_a_hole(xml: bytes) -> None:
    assert delta(xml) == [changed(4, 7), hole(9, 13), changed(20, 21)]


def test_a_delta_ends_with_the_volume_though_its_last_data_block_does_not() -> None:
    assert delta(DELTA, old_size=21 * BLOCK - 512, size=21 * BLOCK - 512)[-1] == Change(
        between(20 * BLOCK, 21 * BLOCK - 512), ChangeKind.CHANGED
    )
    assert delta(DELTA, old_size=20 * BLOCK, size=20 * BLOCK)[-1] == hole(9, 13)


def test_what_a_volume_grew_by_is_changed_where_it_is_mapped_and_else_a_hole() -> None:
    assert delta(DELTA, old_size=2 * BLOCK) == [
        changed(2, 7),  # of these, 2 and 3 are `same`: the old volume ended before them
        hole(7, 20),
        changed(20, 21),
        hole(21, 32),
    ]


def test_a_volume_that_grew_within_a_data_block_has_its_new_bytes_read() -> None:
    grown = delta(DELTA, old_size=2 * BLOCK + 512, size=4 * BLOCK)
    assert grown == [Change(between(2 * BLOCK + 512, 4 * BLOCK), ChangeKind.CHANGED)]


@pytest.mark.parametrize("xml", [DUMP, RUST_DUMP])
def test_mappings_of_one_volume_are_a_normal_sequence(xml: bytes) -> None:
    assert mapped(xml) == [blocks(0, 4), blocks(8, 9)]
    assert mapped(xml, size=2 * BLOCK + 1) == [between(0, 2 * BLOCK + 1)]


def test_output_that_breaks_off_anywhere_is_not_accepted() -> None:
    for cut in range(len(DELTA.rstrip())):
        with pytest.raises(Failed, match="thin_delta"):
            delta(DELTA[:cut])
    for cut in range(len(RUST_DUMP.rstrip())):
        with pytest.raises(Failed, match="thin_dump"):
            mapped(RUST_DUMP[:cut])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<different", b"<changed"),
        (b'left="2"', b'left="1"'),
        (b'right="3"', b""),
        (b'begin="9"', b'begin="6"'),
        (b'begin="9"', b'begin="nine"'),
        (b'begin="9"', b""),
        (b'length="3"', b'length="0"'),
        (b'length="3"', b'length="-3"'),
        (b'data_block_size="128"', b'data_block_size="0"'),
        (b'data_block_size="128"', b""),
        (b"superblock", b"suberplock"),
        (b"  </diff>", b""),
        (b"  <diff", b"junk < <diff"),
    ],
)
def test_a_delta_that_is_not_as_it_must_be_is_not_accepted(old: bytes, new: bytes) -> None:
    with pytest.raises(Failed, match="thin_delta"):
        delta(DELTA.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'dev_id="1"', b'dev_id="2"'),
        (b'ref name="17"', b'ref name="18"'),
        (b"<single_mapping", b"<odd_mapping"),
        (b'origin_block="8"', b'origin_block="2"'),
        (b'origin_begin="0"', b'origin_begin="x"'),
    ],
)
def test_mappings_that_are_not_as_they_must_be_are_not_accepted(old: bytes, new: bytes) -> None:
    with pytest.raises(Failed, match="thin_dump"):
        mapped(RUST_DUMP.replace(old, new))


def test_output_with_another_root_is_not_accepted() -> None:
    with pytest.raises(Failed, match="thin_delta"):
        delta(b"<odd>" + DELTA + b"</odd>")
    with pytest.raises(Failed, match="thin_dump"):
        mapped(b"<odd>" + DUMP + b"</odd>")
    with pytest.raises(Failed, match="thin_dump"):
        mapped(b"")


def test_a_long_delta_is_read_in_pieces() -> None:
    rows = b"".join(b'<different begin="%d" length="1"/>\n' % (2 * number) for number in range(20_000))
    start, end = DELTA.split(b"    <same")[0], b"</diff></superblock>"
    found = read_delta(io.BytesIO(start + rows + end), left=2, right=3, old_size=1 << 40, size=1 << 40)
    assert sum(change.extent.length for change in found) == 20_000 * BLOCK
