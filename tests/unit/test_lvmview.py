"""What rokctl makes of a report of lvs: names, tags, what is foreign, and what a crash left."""

import json
from datetime import UTC, datetime

import pytest

from engine.device.lvmreport import LogicalVolume, parse_report, uuid_of_device
from engine.device.lvmtags import Tag, choose_name, name_room, tag
from engine.device.lvmview import PoolView, view, with_snapshots
from engine.errors import Failed, NotFound, Refused

POOL = "pool-uuid"


def row(name: str, *tags: str, origin: str = "", writable: bool = True, **changed: object) -> LogicalVolume:
    is_pool = name == "tank"
    fields = {
        "group": "vg0",
        "group_uuid": "group-uuid",
        "group_tags": (),
        "extent_size": 4 << 20,
        "group_free": 0,
        "name": name,
        "uuid": POOL if is_pool else f"{name}-uuid",
        "path": "" if is_pool else f"/dev/vg0/{name}",
        "size": 8 << 20,
        "tags": tags,
        "layout": frozenset({"thin", "pool"} if is_pool else {"thin", "sparse"}),
        "created": datetime(2026, 1, 1, tzinfo=UTC),
        "writable": writable,
        "active": True,
        "suspended": False,
        "open": False,
        "health": "",
        "pool_uuid": "" if is_pool else POOL,
        "origin_uuid": f"{origin}-uuid" if origin else "",
        "thin_id": None if is_pool else 1,
        "data_block_size": 65536 if is_pool else 0,
        "metadata_size": 0,
        "metadata_uuid": "",
    }
    return LogicalVolume(**{**fields, **changed})  # type: ignore[arg-type]  # a table of fields


def seen(*rows: LogicalVolume, preparing: str = "") -> PoolView:
    tags = [tag(Tag.POOL, "fast")] + ([tag(Tag.PREPARING, preparing)] if preparing else [])
    found = view(POOL, [row("tank", *tags), *rows])
    assert found is not None
    return found


def snapshot(name: str, volume: str, group: str, **changed: object) -> LogicalVolume:
    tags = (tag(Tag.SNAPSHOT, name), tag(Tag.OF, volume), tag(Tag.OF_UUID, f"{volume}-uuid"), tag(Tag.GROUP, group))
    return row(f"{volume}+{name}", origin=volume, writable=False, **{"tags": tags, **changed})


def test_names_come_from_tags_and_not_from_logical_volumes() -> None:
    pool = seen(row("rok+x+1", tag(Tag.VOLUME, "snapshot_1")))
    assert pool.name == "fast"
    assert [volume.item.name for volume in pool.volumes] == ["snapshot_1"]
    assert not pool.volume("snapshot_1").item.foreign


def test_what_has_no_tag_is_foreign_and_a_snapshot_only_if_it_is_read_only() -> None:
    pool = seen(row("theirs"), row("copy", origin="theirs"), row("fixed", origin="theirs", writable=False))
    assert [(volume.item.name, volume.item.foreign) for volume in pool.volumes] == [("copy", True), ("theirs", True)]
    assert [(s.item.volume, s.item.name, s.item.foreign) for s in pool.snapshots] == [("theirs", "fixed", True)]
    with pytest.raises(Refused):
        pool.own_volume("theirs")


def test_ours_is_meant_where_a_foreign_volume_has_the_same_name() -> None:
    pool = seen(row("db"), row("rok+db+1", tag(Tag.VOLUME, "db")))
    assert pool.volume("db").row.name == "rok+db+1"


def test_volumes_of_other_pools_in_the_group_are_not_seen() -> None:
    assert seen(row("elsewhere", tag(Tag.VOLUME, "db"), pool_uuid="other")).volumes == ()


def test_snapshots_of_one_second_keep_the_order_of_their_thin_ids() -> None:
    volume = row("db", tag(Tag.VOLUME, "db"))
    pool = seen(volume, snapshot("b", "db", "g", thin_id=3), snapshot("a", "db", "h", thin_id=2))
    assert [found.item.name for found in pool.snapshots_of("db")] == ["a", "b"]


def test_what_a_crash_left_in_preparation_is_invisible_and_tells_who_may_be_suspended() -> None:
    rows = [
        row("a", tag(Tag.VOLUME, "a"), suspended=True),
        row("b", tag(Tag.VOLUME, "b"), suspended=True),
        snapshot("whole", "a", "earlier"),
        snapshot("half", "a", "now"),
    ]
    pool = seen(*rows, preparing="now")
    assert [found.item.name for found in pool.snapshots] == ["whole"]
    assert [left.name for left in pool.leftovers] == ["a+half"]
    assert [left.name for left in pool.suspended] == ["a"]  # b is suspended by someone else, who will resume it
    assert [found.item.name for found in seen(*rows).snapshots] == ["whole", "half"]


def test_a_name_that_is_not_there_is_told_with_its_neighbours() -> None:
    with pytest.raises(NotFound) as caught:
        seen(row("x", tag(Tag.VOLUME, "photos"))).volume("photo")
    assert "photos" in caught.value.hint


def test_a_pool_that_is_not_in_the_report_is_not_there() -> None:
    assert view("other", [row("tank")]) is None


@pytest.mark.parametrize("reserved", ["snapshot", "pvmove0", "a_tdata", "x_mimage_1", "lvol0_pmspare", "c_vorigin"])
def test_names_that_lvm_reserves_are_derived(reserved: str) -> None:
    name = choose_name(reserved, (), 80)
    assert name.startswith("rok+")
    assert "_" not in name


def test_ordinary_names_are_kept() -> None:
    assert choose_name("db", {"web"}, 80) == "db"
    assert choose_name("db+nightly-1", (), 80) == "db+nightly-1"


def test_dashes_count_twice_because_device_mapper_doubles_them() -> None:
    assert choose_name("a-" * 30, (), 90) == "a-" * 30
    assert choose_name("a-" * 30, (), 89) != "a-" * 30
    with pytest.raises(Refused, match="too long"):
        name_room("g" * 100)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"report": 1}', '{"reports": []}', '{"report": [1]}'])
def test_a_report_that_is_none_is_not_accepted(text: str) -> None:
    with pytest.raises(Failed):
        parse_report(text, "lv")


def test_a_report_without_rows_is_empty() -> None:
    assert parse_report(json.dumps({"report": [{"lv": []}, {}]}), "lv") == []


def test_a_snapshot_was_created_when_its_tag_says_and_else_when_lvm_says() -> None:
    told, foreign, odd = (
        snapshot(name, "vol", "g", tags=(tag(Tag.SNAPSHOT, name), tag(Tag.OF, "vol"), *tags))
        for name, *tags in (
            ("told", tag(Tag.CREATED, "1790000000")),
            ("foreign",),
            ("odd", tag(Tag.CREATED, "9" * 40)),
        )
    )
    pool = seen(row("vol", tag(Tag.VOLUME, "vol")), told, foreign, odd)
    by_lvm = datetime(2026, 1, 1, tzinfo=UTC)
    assert {one.item.name: one.item.created for one in pool.snapshots} == {
        "told": datetime.fromtimestamp(1790000000, UTC),
        "foreign": by_lvm,
        "odd": by_lvm,
    }


def test_a_snapshot_that_was_just_made_stands_in_the_view_as_in_the_next_report() -> None:
    volume, old, new = (
        row("vol", tag(Tag.VOLUME, "vol")),
        snapshot("old", "vol", "g"),
        snapshot("new", "vol", "h", thin_id=2),
    )
    assert with_snapshots(seen(volume, old), [new]) == seen(volume, old, new)


def test_the_uuid_of_a_volume_is_read_from_that_of_its_device() -> None:
    group, volume = "aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg", "123456-1234-1234-1234-1234-1234-abcdef"
    device = row("vol", group_uuid=group, uuid=volume).device.uuid
    assert uuid_of_device(device, group) == volume
    assert uuid_of_device(f"{device}-tpool", group) is None
    assert uuid_of_device(device, "another") is None
    assert uuid_of_device("", group) is None
