"""Deltas against a model of two volumes as maps from data block to where it lies; tags against text."""

import io
import string
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.device.base import ChangeKind
from engine.device.lvmtags import Tag, choose_name, parse_tags, tag
from engine.device.thinxml import read_delta

BLOCK = 64 * 1024
LVM_TAG = frozenset(string.ascii_letters + string.digits + "_+.-/=!:#&")
LVM_NAME = frozenset(string.ascii_letters + string.digits + "_+.-")
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True)

volumes = st.dictionaries(st.integers(0, 30), st.integers(0, 5))


def element(left: int | None, right: int | None) -> str:
    if left is None:
        return "right_only"
    if right is None:
        return "left_only"
    return "same" if left == right else "different"


def compared(old: dict[int, int], new: dict[int, int]) -> bytes:
    rows = [
        f'<{element(old.get(block), new.get(block))} begin="{block}" length="1"/>'
        for block in sorted(old.keys() | new.keys())
    ]
    head = '<superblock uuid="" time="1" transaction="1" data_block_size="128" nr_data_blocks="0">'
    return f'{head}<diff left="1" right="2">{"".join(rows)}</diff></superblock>'.encode()


@given(old=volumes, new=volumes, old_blocks=st.integers(0, 31), new_blocks=st.integers(1, 31))
def test_a_delta_turns_the_old_volume_into_the_new_one(
    old: dict[int, int], new: dict[int, int], old_blocks: int, new_blocks: int
) -> None:
    old = {block: place for block, place in old.items() if block < old_blocks}
    new = {block: place for block, place in new.items() if block < new_blocks}

    changes = list(
        read_delta(
            io.BytesIO(compared(old, new)), left=1, right=2, old_size=old_blocks * BLOCK, size=new_blocks * BLOCK
        )
    )

    rebuilt = [old.get(block) if block < old_blocks else "unknown" for block in range(new_blocks)]
    for change in changes:
        for block in range(change.extent.start // BLOCK, change.extent.end // BLOCK):
            rebuilt[block] = new[block] if change.kind is ChangeKind.CHANGED else None
    assert rebuilt == [new.get(block) for block in range(new_blocks)]
    for one, next_one in pairwise(changes):
        assert one.extent.end < next_one.extent.start or one.kind is not next_one.kind
        assert one.extent.end <= next_one.extent.start


@given(key=st.sampled_from(Tag), value=st.text(max_size=80))
def test_a_tag_gives_back_its_value_in_characters_that_lvm_permits(key: Tag, value: str) -> None:
    encodable = value.encode(errors="replace").decode()
    written = tag(key, encodable)
    assert set(written) <= LVM_TAG
    assert parse_tags(["other", written, "rokctl.unheard-of=1"]) == {key: encodable}


@given(volume=NAMES, snapshot=NAMES, room=st.integers(21, 100), clashes=st.integers(0, 3))
def test_a_chosen_name_fits_and_is_free(volume: str, snapshot: str, room: int, clashes: int) -> None:
    taken: set[str] = set()
    for _ in range(clashes + 1):
        name = choose_name(f"{volume}+{snapshot}", taken, room)
        assert name not in taken
        assert set(name) <= LVM_NAME
        assert len(name) + name.count("-") <= room
        taken.add(name)
