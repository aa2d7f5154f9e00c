"""Status lines of dm-thin, and what they mean for a new snapshot."""

import pytest

from engine.device.lvmspace import data_block_size_for, health, metadata_size_for, shortage
from engine.device.thin import DataBlocks, Mode, Sectors, parse_pool_status, parse_thin_status
from engine.errors import Failed
from engine.units import GIB, KIB, MIB

WELL = "6 422/4096 10/16384 - rw no_discard_passdown error_if_no_space - 1024"


def test_a_pool_status_is_read_in_bytes() -> None:
    state = parse_pool_status(WELL, 64 * KIB)
    assert (state.metadata_used, state.metadata_size) == (422 * 4 * KIB, 16 * MIB)
    assert (state.data_used, state.data_size) == (640 * KIB, GIB)
    assert (state.mode, state.metadata_snapshot_held, state.needs_check) == (Mode.READ_WRITE, False, False)
    assert state.health == "ok"


def test_a_metadata_snapshot_that_is_held_is_seen() -> None:
    assert parse_pool_status(WELL.replace("384 - rw", "384 1234 rw"), 64 * KIB).metadata_snapshot_held


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("Fail", Mode.FAILED, "failed"),
        ("Error", Mode.FAILED, "failed"),
        (WELL.replace(" rw ", " ro "), Mode.READ_ONLY, "read-only"),
        (WELL.replace(" rw ", " out_of_data_space "), Mode.OUT_OF_DATA_SPACE, "out of data"),
        (WELL.replace("space - 1024", "space needs_check 1024"), Mode.READ_WRITE, "check"),
    ],
)
def test_a_pool_that_is_not_well_says_so(text: str, mode: Mode, words: str) -> None:
    state = parse_pool_status(text, 64 * KIB)
    assert state.mode is mode
    assert words in health(state, "")


@pytest.mark.parametrize("text", ["", "1", "1 2", "1 a/b 3/4 - rw", "1 2/3 4/5 - strange", "1 2/3/4 4/5 - rw"])
def test_a_status_that_is_not_known_is_not_guessed_at(text: str) -> None:
    with pytest.raises(Failed):
        parse_pool_status(text, 64 * KIB)


@pytest.mark.parametrize(
    ("metadata", "data", "words"),
    [(2866, 0, ""), (2868, 0, "metadata"), (400, 15564, ""), (400, 15566, "data"), (4096, 16384, "metadata")],
)
def test_a_new_snapshot_is_refused_when_space_is_near_its_end(metadata: int, data: int, words: str) -> None:
    state = parse_pool_status(f"6 {metadata}/4096 {data}/16384 - rw discard_passdown error_if_no_space - 0", 64 * KIB)
    assert words in shortage(state)
    assert bool(shortage(state)) == bool(words)


def test_what_a_volume_has_allocated_is_read_in_bytes() -> None:
    assert parse_thin_status("2048 4095") == MIB
    assert parse_thin_status("0 -") == 0
    assert parse_thin_status("Fail") is None


def test_sectors_and_data_blocks_do_not_mix() -> None:
    assert Sectors(3).to_bytes() == 1536
    assert DataBlocks(3).to_bytes(64 * KIB) == 192 * KIB
    with pytest.raises(TypeError):
        Sectors(3) < DataBlocks(4)  # type: ignore[operator]  # noqa: B015 - that it cannot be is what is tested


@pytest.mark.parametrize(
    ("size", "block", "metadata"),
    [
        (GIB, 64 * KIB, 16 * MIB),
        (100 * GIB, 64 * KIB, 400 * MIB),
        (4096 * GIB, 64 * KIB, 16128 * MIB),
        (7 * 1024 * GIB, 64 * KIB, 16128 * MIB),
        (100 * 1024 * GIB, 1024 * KIB, 16128 * MIB),
    ],
)
def test_metadata_is_sized_by_the_pool(size: int, block: int, metadata: int) -> None:
    assert data_block_size_for(size) == block
    assert metadata_size_for(size, block, 4 * MIB) == metadata
