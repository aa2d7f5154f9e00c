"""What `engine/device/base.py` promises of every kind of pool. See `pool_kinds.py` for which kinds take part."""

import itertools
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pool_kinds import KINDS, open_kind, open_small

from engine.device.base import Change, ChangeKind, Outcome, Pool, Snapshot, Volume
from engine.device.sim import SimPool
from engine.errors import Busy, NotFound, OutOfSpace, Refused
from engine.extent import Extent, between, intersect, normalise, total
from engine.units import KIB, MIB

CASES = int(os.environ.get("ROKCTL_TEST_ROUNDS") or 3)  # each takes a quarter of a minute of a real kernel's
SIZE = 8 * MIB  # whole extents of LVM, which rounds sizes up to them
PAGE = 4 * KIB


@pytest.fixture(params=KINDS)
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    with open_kind(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture(params=KINDS)
def small_pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pool]:
    with open_small(request.param, tmp_path) as opened:
        yield opened


def write(pool: Pool, volume: str, offset: int, body: bytes) -> None:
    with pool.open_target(volume) as target:
        target.write(offset, body)
        target.flush()


def discard(pool: Pool, volume: str, extent: Extent) -> None:
    with pool.open_target(volume) as target:
        target.discard(extent)
        target.flush()


def read(pool: Pool, volume: str, snapshot: str | None = None, extent: Extent | None = None) -> bytes:
    with pool.open_source(volume, snapshot) as source:
        wanted = extent or between(0, source.size)
        body = bytearray(wanted.length)
        source.read_into(wanted.start, memoryview(body))
    return bytes(body)


def take(pool: Pool, volume: str, name: str) -> Snapshot:
    return pool.create_snapshots({volume: name})[0].item


def named(pool: Pool, volume: str) -> list[str]:
    return [snapshot.name for snapshot in pool.snapshots(volume)]


# Volumes


def test_a_new_volume_has_its_size_and_reads_as_zeros(pool: Pool) -> None:
    made = pool.create_volume("vol", SIZE)

    assert made.outcome is Outcome.CREATED
    assert (made.item.pool, made.item.name, made.item.size) == (pool.name, "vol", SIZE)
    assert not made.item.foreign
    assert not made.item.in_use
    assert made.item.restoring is None
    assert made.item.uuid
    assert read(pool, "vol") == bytes(SIZE)


def test_a_volume_can_be_marked_as_half_written_from_its_first_moment(pool: Pool) -> None:
    assert pool.create_volume("vol", SIZE, restoring="v1").item.restoring == "v1"
    assert pool.volume("vol").restoring == "v1"
    with pytest.raises(Refused, match="v1"):
        pool.create_snapshots({"vol": "s1"})

    pool.mark_restoring("vol", None)
    assert pool.create_volume("vol", SIZE, restoring="v2").outcome is Outcome.ALREADY_THERE
    assert pool.volume("vol").restoring is None


def test_creating_a_volume_again_changes_nothing(pool: Pool) -> None:
    first = pool.create_volume("vol", SIZE).item
    write(pool, "vol", 0, b"kept")

    again = pool.create_volume("vol", SIZE)

    assert again.outcome is Outcome.ALREADY_THERE
    assert (again.item.uuid, again.item.created) == (first.uuid, first.created)
    assert read(pool, "vol", extent=Extent(0, 4)) == b"kept"


def test_a_volume_of_another_size_is_refused(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    with pytest.raises(Refused, match="vol"):
        pool.create_volume("vol", 2 * SIZE)
    assert pool.volume("vol").size == SIZE


def test_a_bad_name_is_refused_before_anything_is_made(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    take(pool, "vol", "s1")
    for name in ("", "-a", ".a", "a/b", "a b", "ä", "a" * 65, "..", "a@b"):
        for call, *arguments in (
            (pool.create_volume, name, SIZE),
            (pool.create_snapshots, {"vol": name}),
            (pool.clone_volume, "vol", "s1", name),
        ):
            with pytest.raises(Refused):
                call(*arguments)
    assert [volume.name for volume in pool.volumes()] == ["vol"]
    assert named(pool, "vol") == ["s1"]


@pytest.mark.parametrize("size", [0, -512, 511, 4097])
def test_a_bad_size_is_refused(pool: Pool, size: int) -> None:
    with pytest.raises(Refused):
        pool.create_volume("vol", size)
    assert pool.volumes() == []


def test_volumes_are_sorted_by_name_and_counted_by_status(pool: Pool) -> None:
    for name in ("beta", "alpha", "gamma.1-x_Y"):
        pool.create_volume(name, SIZE)

    assert [volume.name for volume in pool.volumes()] == ["alpha", "beta", "gamma.1-x_Y"]
    assert pool.volumes() == [pool.volume(name) for name in ("alpha", "beta", "gamma.1-x_Y")]
    assert pool.status().provisioned == 3 * SIZE


def test_a_name_that_does_not_exist_is_not_found_and_near_names_are_told(pool: Pool) -> None:
    pool.create_volume("database", SIZE)
    take(pool, "database", "monday")
    for call in (
        lambda: pool.volume("databose"),
        lambda: pool.resize_volume("databose", SIZE),
        lambda: pool.snapshots("databose"),
        lambda: pool.create_snapshots({"databose": "s"}),
        lambda: pool.mark_restoring("databose", "v1"),
        lambda: pool.allocated("databose"),
        lambda: pool.filesystem("databose"),
        lambda: read(pool, "databose"),
        lambda: write(pool, "databose", 0, b"x"),
    ):
        with pytest.raises(NotFound, match="databose") as caught:
            call()
    with pytest.raises(NotFound) as caught:
        pool.volume("databose")
    assert "database" in caught.value.hint
    for call in (
        lambda: pool.snapshot("database", "mondey"),
        lambda: pool.clone_volume("database", "mondey", "clone"),
        lambda: pool.delta("database", "mondey", None),
        lambda: pool.delta("database", "monday", "mondey"),
        lambda: pool.allocated("database", "mondey"),
        lambda: read(pool, "database", "mondey"),
    ):
        with pytest.raises(NotFound, match="mondey"):
            call()
    with pytest.raises(NotFound) as caught:
        pool.snapshot("database", "mondey")
    assert "monday" in caught.value.hint


def test_a_volume_grows_and_its_new_bytes_are_zeros(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    write(pool, "vol", SIZE - 4, b"last")

    grown = pool.resize_volume("vol", 2 * SIZE)

    assert (grown.outcome, grown.item.size) == (Outcome.CHANGED, 2 * SIZE)
    assert read(pool, "vol", extent=between(SIZE - 4, 2 * SIZE)) == b"last" + bytes(SIZE)
    assert pool.resize_volume("vol", 2 * SIZE).outcome is Outcome.UNCHANGED


def test_a_volume_does_not_shrink(pool: Pool) -> None:
    pool.create_volume("vol", 2 * SIZE)
    with pytest.raises(Refused):
        pool.resize_volume("vol", SIZE)
    assert pool.volume("vol").size == 2 * SIZE


def test_a_removed_volume_is_gone_and_removing_it_again_is_no_error(pool: Pool) -> None:
    uuid = pool.create_volume("vol", SIZE).item.uuid
    write(pool, "vol", 0, b"secret")

    assert pool.remove_volume("vol") is Outcome.REMOVED
    assert pool.volumes() == []
    assert pool.remove_volume("vol") is Outcome.ALREADY_GONE

    assert pool.create_volume("vol", SIZE).item.uuid != uuid
    assert read(pool, "vol", extent=Extent(0, 6)) == bytes(6)


def test_a_volume_with_snapshots_is_not_removed(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    take(pool, "vol", "s1")
    with pytest.raises(Refused, match="s1"):
        pool.remove_volume("vol")
    pool.remove_snapshot("vol", "s1")
    assert pool.remove_volume("vol") is Outcome.REMOVED


# Targets and sources


def test_a_target_is_exclusive_and_its_volume_is_in_use(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    with pool.open_target("vol") as target:
        assert target.size == SIZE
        assert pool.volume("vol").in_use
        with pytest.raises(Busy, match="vol"), pool.open_target("vol"):
            pass
        with pytest.raises(Busy):
            pool.remove_volume("vol")
    assert not pool.volume("vol").in_use
    with pool.open_target("vol"):
        pass


def test_what_was_written_is_read_and_what_was_discarded_reads_as_zeros(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    body = random.Random(1).randbytes(SIZE)
    with pool.open_target("vol") as target:
        target.write(0, memoryview(body))
        target.discard(between(MIB + 512, 3 * MIB - 512))  # not whole data blocks
        target.discard(between(SIZE - 1024, SIZE))
        target.flush()
    expected = bytearray(body)
    expected[MIB + 512 : 3 * MIB - 512] = bytes(2 * MIB - 1024)
    expected[SIZE - 1024 :] = bytes(1024)
    assert read(pool, "vol") == expected


def test_a_source_says_its_size_and_reads_anywhere(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    write(pool, "vol", 100 * KIB - 3, b"straddle")
    take(pool, "vol", "s1")
    with pool.open_source("vol", "s1") as source:
        assert source.size == SIZE
        assert source.logical_block_size in (512, 4096)
        body = bytearray(9)
        source.read_into(100 * KIB - 4, memoryview(body))
    assert body == b"\0straddle"


def test_a_blank_volume_holds_no_filesystem(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    take(pool, "vol", "s1")
    assert pool.filesystem("vol") is None
    assert pool.filesystem("vol", "s1") is None


def test_allocated_covers_every_byte_that_is_not_zero(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    assert total(pool.allocated("vol")) < SIZE
    for offset in (0, 3 * MIB + 100, SIZE - 1):
        write(pool, "vol", offset, b"x")
    take(pool, "vol", "s1")
    for snapshot in (None, "s1"):
        extents = list(pool.allocated("vol", snapshot))
        assert extents == normalise(extents)
        assert extents[-1].end <= SIZE
        for offset in (0, 3 * MIB + 100, SIZE - 1):
            assert list(intersect(extents, [Extent(offset, 1)])), f"byte {offset} of {snapshot}"
        assert total(extents) < SIZE


# Snapshots


def test_a_snapshot_keeps_what_the_volume_held(pool: Pool) -> None:
    volume = pool.create_volume("vol", SIZE).item
    write(pool, "vol", MIB, b"before")

    made = pool.create_snapshots({"vol": "s1"})
    write(pool, "vol", MIB, b"after!")
    discard(pool, "vol", between(MIB + 64 * KIB, 2 * MIB))
    pool.resize_volume("vol", 2 * SIZE)

    assert [m.outcome for m in made] == [Outcome.CREATED]
    snapshot = made[0].item
    assert (snapshot.volume, snapshot.name, snapshot.size, snapshot.volume_uuid) == ("vol", "s1", SIZE, volume.uuid)
    assert not snapshot.foreign
    assert read(pool, "vol", "s1", Extent(MIB, 6)) == b"before"
    assert len(read(pool, "vol", "s1")) == SIZE
    assert pool.snapshot("vol", "s1") == snapshot


def test_taking_a_snapshot_again_changes_nothing(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    first = take(pool, "vol", "s1")
    write(pool, "vol", 0, b"later")

    again = pool.create_snapshots({"vol": "s1"})

    assert [(m.item, m.outcome) for m in again] == [(first, Outcome.ALREADY_THERE)]
    assert read(pool, "vol", "s1", Extent(0, 5)) == bytes(5)


def test_snapshots_are_listed_oldest_first(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    pool.create_volume("other", SIZE)
    for volume, name in (("vol", "z"), ("other", "m"), ("vol", "a")):
        take(pool, volume, name)
    assert named(pool, "vol") == ["z", "a"]
    assert [(s.volume, s.name) for s in pool.snapshots()] == [("vol", "z"), ("other", "m"), ("vol", "a")]


def test_a_group_has_one_name_for_its_instant_and_answers_in_the_order_asked(pool: Pool) -> None:
    for name in ("a", "b", "c"):
        pool.create_volume(name, SIZE)

    group = [made.item for made in pool.create_snapshots({"b": "s1", "a": "other", "c": "s1"})]
    alone = take(pool, "a", "alone")

    assert [(s.volume, s.name) for s in group] == [("b", "s1"), ("a", "other"), ("c", "s1")]
    assert len({(snapshot.group, snapshot.created) for snapshot in group}) == 1
    assert alone.group != group[0].group
    assert len({snapshot.uuid for snapshot in (*group, alone)}) == 4
    again = pool.create_snapshots({"b": "s1", "a": "other", "c": "s1"})
    assert [(m.item, m.outcome) for m in again] == [(snapshot, Outcome.ALREADY_THERE) for snapshot in group]


def test_a_group_of_which_only_some_exist_is_refused_whole(pool: Pool) -> None:
    pool.create_volume("a", SIZE)
    pool.create_volume("b", SIZE)
    take(pool, "a", "s1")
    with pytest.raises(Refused):
        pool.create_snapshots({"a": "s1", "b": "s1"})
    assert named(pool, "b") == []


def test_snapshots_of_different_calls_are_no_group(pool: Pool) -> None:
    pool.create_volume("a", SIZE)
    pool.create_volume("b", SIZE)
    take(pool, "a", "s1")
    take(pool, "b", "s1")
    with pytest.raises(Refused, match="together"):
        pool.create_snapshots({"a": "s1", "b": "s1"})


def test_a_group_with_one_volume_that_does_not_exist_takes_none(pool: Pool) -> None:
    pool.create_volume("a", SIZE)
    with pytest.raises(NotFound):
        pool.create_snapshots({"a": "s1", "missing": "s1"})
    assert pool.snapshots() == []


def test_a_volume_whose_restore_did_not_finish_is_not_snapshotted(pool: Pool) -> None:
    pool.create_volume("a", SIZE)
    pool.create_volume("b", SIZE)
    pool.mark_restoring("a", "20260101T000000Z-0f3c")
    pool.mark_restoring("a", "20260101T000000Z-0f3c")

    assert pool.volume("a").restoring == "20260101T000000Z-0f3c"
    with pytest.raises(Refused, match="20260101T000000Z-0f3c"):
        pool.create_snapshots({"b": "s1", "a": "s1"})
    assert pool.snapshots() == []

    pool.mark_restoring("a", None)
    pool.mark_restoring("a", None)
    assert pool.volume("a").restoring is None
    assert len(pool.create_snapshots({"b": "s1", "a": "s1"})) == 2


def test_a_removed_snapshot_is_gone_and_removing_it_again_is_no_error(pool: Pool) -> None:
    pool.create_volume("a", SIZE)
    pool.create_volume("b", SIZE)
    pool.create_snapshots({"a": "s1", "b": "s1"})

    assert pool.remove_snapshot("a", "s1") is Outcome.REMOVED
    assert pool.remove_snapshot("a", "s1") is Outcome.ALREADY_GONE
    assert [(s.volume, s.name) for s in pool.snapshots()] == [("b", "s1")]
    assert read(pool, "b", "s1") == bytes(SIZE)
    assert pool.remove_snapshot("b", "s1") is Outcome.REMOVED
    assert pool.snapshots() == []
    assert take(pool, "a", "s1").name == "s1"


def test_a_snapshot_that_is_read_is_not_removed(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    take(pool, "vol", "s1")
    with pool.open_source("vol", "s1"), pool.open_source("vol", "s1"), pytest.raises(Busy, match="s1"):
        pool.remove_snapshot("vol", "s1")
    assert pool.remove_snapshot("vol", "s1") is Outcome.REMOVED


# Clones


def test_a_clone_and_its_origin_do_not_see_each_other(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    write(pool, "vol", 0, b"origin")
    take(pool, "vol", "s1")
    write(pool, "vol", 0, b"moved!")

    clone = pool.clone_volume("vol", "s1", "clone")
    write(pool, "clone", 3, b"CLO")

    assert (clone.outcome, clone.item.name, clone.item.size) == (Outcome.CREATED, "clone", SIZE)
    assert clone.item.uuid != pool.volume("vol").uuid
    assert read(pool, "clone", extent=Extent(0, 6)) == b"oriCLO"
    assert read(pool, "vol", "s1", Extent(0, 6)) == b"origin"
    assert read(pool, "vol", extent=Extent(0, 6)) == b"moved!"
    assert named(pool, "clone") == []


def test_cloning_again_changes_nothing_but_another_volume_of_that_name_is_refused(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    take(pool, "vol", "s1")
    take(pool, "vol", "s2")
    first = pool.clone_volume("vol", "s1", "clone").item
    write(pool, "clone", 0, b"kept")

    again = pool.clone_volume("vol", "s1", "clone")

    assert (again.outcome, again.item.uuid) == (Outcome.ALREADY_THERE, first.uuid)
    assert read(pool, "clone", extent=Extent(0, 4)) == b"kept"
    for snapshot, name in (("s2", "clone"), ("s1", "vol")):
        with pytest.raises(Refused):
            pool.clone_volume("vol", snapshot, name)


def test_a_clone_outlives_its_snapshot(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    write(pool, "vol", 0, b"origin")
    take(pool, "vol", "s1")
    pool.clone_volume("vol", "s1", "clone")
    pool.remove_snapshot("vol", "s1")
    pool.remove_volume("vol")
    assert read(pool, "clone", extent=Extent(0, 6)) == b"origin"


# Deltas


def changes_between(pool: Pool, volume: str, old: str, new: str | None, size: int = SIZE) -> list[Change] | None:
    """The delta, whose form is right for a `new` of that size; None where the pool cannot tell."""
    found = pool.delta(volume, old, new)
    if found is None:
        return None
    with closing(found):
        changes = list(found)
    check_form(changes, size)
    return changes


def check_form(changes: list[Change], size: int) -> None:
    """Sorted, not overlapping, inside the size, touching extents of one kind merged."""
    for left, right in itertools.pairwise(changes):
        assert left.extent.end <= right.extent.start
        assert left.extent.end < right.extent.start or left.kind is not right.kind
    assert not changes or changes[-1].extent.end <= size


def check_delta(old: bytes, new: bytes, changes: list[Change]) -> None:
    """Every byte that differs is covered; holes read as zeros; what lies beyond the end of `old` is covered whole."""
    changed = [change.extent for change in changes if change.kind is ChangeKind.CHANGED]
    holes = [change.extent for change in changes if change.kind is ChangeKind.HOLE]
    rebuilt = bytearray(old.ljust(len(new), b"?"))
    for extent in changed:
        rebuilt[extent.start : extent.end] = new[extent.start : extent.end]
    for extent in holes:
        rebuilt[extent.start : extent.end] = bytes(extent.length)
    assert rebuilt == new


def test_a_delta_between_equal_snapshots_is_empty(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    write(pool, "vol", MIB, bytes(range(256)) * 16)
    take(pool, "vol", "s1")
    take(pool, "vol", "s2")
    assert changes_between(pool, "vol", "s1", "s2") in ([], None)
    assert changes_between(pool, "vol", "s1", "s1") in ([], None)
    assert changes_between(pool, "vol", "s1", None) in ([], None)


def test_the_status_says_whether_there_are_deltas(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    take(pool, "vol", "s1")
    found = pool.delta("vol", "s1", None)
    assert (found is None) == pool.status().deltas_by.startswith("none")
    if found is not None:
        found.close()


def test_a_delta_costs_what_changed_and_not_the_volume(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    write(pool, "vol", 0, random.Random(2).randbytes(SIZE))
    take(pool, "vol", "s1")
    write(pool, "vol", 3 * MIB, b"x" * PAGE)
    discard(pool, "vol", between(5 * MIB, 6 * MIB))
    take(pool, "vol", "s2")

    changes = changes_between(pool, "vol", "s1", "s2")

    if changes is not None:
        granularity = pool.status().data_block_size
        changed = [change.extent for change in changes if change.kind is ChangeKind.CHANGED]
        assert total(changed) <= max(granularity, 64 * KIB)
        assert [change.extent for change in changes if change.kind is ChangeKind.HOLE] == [between(5 * MIB, 6 * MIB)]


def test_what_grew_counts_as_changed_or_as_holes(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    write(pool, "vol", 0, b"head")
    take(pool, "vol", "s1")
    pool.resize_volume("vol", 2 * SIZE)
    write(pool, "vol", SIZE + MIB, b"new")
    take(pool, "vol", "s2")

    changes = changes_between(pool, "vol", "s1", "s2", 2 * SIZE)

    if changes is not None:
        assert total(intersect([change.extent for change in changes], [between(SIZE, 2 * SIZE)])) == SIZE
        check_delta(read(pool, "vol", "s1"), read(pool, "vol", "s2"), changes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(CASES))
def test_a_delta_covers_every_byte_that_differs(pool: Pool, seed: int) -> None:
    chance = random.Random(seed)
    size = SIZE
    pool.create_volume("vol", size)
    contents: dict[str, bytes] = {}
    for step in range(4):
        with pool.open_target("vol") as target:
            for _ in range(chance.randrange(12)):
                start = chance.randrange(size // 512) * 512
                length = min(chance.choice((512, PAGE, 64 * KIB, MIB)), size - start)
                if chance.random() < 0.3:
                    target.discard(Extent(start, length))
                else:
                    target.write(start, chance.choice((bytes(length), chance.randbytes(length))))
            target.flush()
        take(pool, "vol", f"s{step}")
        contents[f"s{step}"] = read(pool, "vol", f"s{step}")
        if chance.random() < 0.3:
            size += SIZE
            pool.resize_volume("vol", size)
    at_rest = read(pool, "vol")
    for old in contents:
        for new in contents:
            if len(contents[old]) <= len(contents[new]):
                changes = changes_between(pool, "vol", old, new, len(contents[new]))
                if changes is not None:
                    check_delta(contents[old], contents[new], changes)
        changes = changes_between(pool, "vol", old, None, size)
        if changes is not None:
            check_delta(contents[old], at_rest, changes)


def test_a_delta_given_up_half_way_lets_its_snapshots_go(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    take(pool, "vol", "s1")
    for offset in range(0, SIZE, MIB):
        write(pool, "vol", offset, b"x")
    take(pool, "vol", "s2")
    found = pool.delta("vol", "s1", "s2")
    if found is not None:
        with closing(found):
            next(found)
    assert pool.remove_snapshot("vol", "s1") is Outcome.REMOVED
    assert pool.remove_snapshot("vol", "s2") is Outcome.REMOVED


# What is foreign


def plant_foreign_volume(pool: Pool) -> Volume:
    """A volume that rokctl did not make, where the kind of pool can have one and the test knows how."""
    status = pool.status()
    if isinstance(pool, SimPool):
        pool.add_foreign_volume("theirs", SIZE)
    elif status.kind == "directory":
        folder = Path(status.location) / "volumes" / "theirs"
        folder.mkdir(parents=True)
        with (folder / "head.raw").open("wb") as file:
            file.truncate(SIZE)
    else:
        pytest.skip("its own tests plant foreign volumes")
    return pool.volume("theirs")


def test_a_foreign_volume_is_listed_and_read_but_not_changed(pool: Pool) -> None:
    pool.create_volume("ours", SIZE)
    theirs = plant_foreign_volume(pool)

    assert theirs.foreign
    assert [volume.name for volume in pool.volumes()] == ["ours", "theirs"]
    assert read(pool, "theirs") == bytes(SIZE)
    assert list(pool.allocated("theirs")) == []
    for call in (
        lambda: pool.create_volume("theirs", SIZE),
        lambda: pool.resize_volume("theirs", 2 * SIZE),
        lambda: pool.remove_volume("theirs"),
        lambda: pool.create_snapshots({"ours": "s1", "theirs": "s1"}),
        lambda: pool.mark_restoring("theirs", "v1"),
        lambda: write(pool, "theirs", 0, b"x"),
        lambda: pool.remove(),
    ):
        with pytest.raises(Refused):
            call()
    assert pool.volume("theirs") == theirs
    assert pool.snapshots() == []


# The pool


def test_status_tells_what_kind_of_pool_it_is(pool: Pool) -> None:
    status = pool.status()
    assert status.name == pool.name
    assert status.uuid == pool.status().uuid
    assert 0 <= status.data_used < status.data_size
    assert status.data_block_size >= 512
    assert status.health == "ok"
    assert status.snapshots_by in ("thin", "reflink", "copy")


def test_a_pool_that_holds_something_is_not_removed(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    with pytest.raises(Refused, match="vol"):
        pool.remove()
    assert pool.volume("vol").size == SIZE


def test_an_empty_pool_is_removed_once(pool: Pool) -> None:
    pool.create_volume("vol", SIZE)
    take(pool, "vol", "s1")
    pool.remove_snapshot("vol", "s1")
    pool.remove_volume("vol")
    assert pool.remove() is Outcome.REMOVED
    assert pool.remove() is Outcome.ALREADY_GONE


def fill(pool: Pool, volume: str) -> None:
    with pool.open_target(volume) as target:
        for offset in range(0, target.size, MIB):
            target.write(offset, random.Random(offset).randbytes(MIB))
            target.flush()


def test_a_full_pool_says_so_and_stays_usable(small_pool: Pool) -> None:
    pool = small_pool
    size = -(-2 * pool.status().data_size // SIZE) * SIZE
    pool.create_volume("kept", SIZE)
    write(pool, "kept", 0, b"kept")
    pool.create_volume("big", size)

    with pytest.raises(OutOfSpace):
        fill(pool, "big")
    with pytest.raises(OutOfSpace) as caught:
        pool.create_snapshots({"kept": "s1"})

    assert caught.value.hint
    assert pool.snapshots() == []
    assert read(pool, "kept", extent=Extent(0, 4)) == b"kept"
    assert pool.remove_volume("big") is Outcome.REMOVED
    assert take(pool, "kept", "s1").name == "s1"
    assert read(pool, "kept", "s1", Extent(0, 4)) == b"kept"
