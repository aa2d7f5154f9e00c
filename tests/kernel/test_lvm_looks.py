"""How seldom an LVM pool is looked at, and that what was seen before is never taken for what is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lvm_fixture import GROUP, lvm

from engine.device import lvmgroup, tool
from engine.device.base import Outcome
from engine.device.dm import Control
from engine.device.lvm import LvmPool, find_pools
from engine.device.lvmreport import logical_volumes
from engine.device.node import Node
from engine.errors import NotFound, Refused
from engine.units import MIB
from tests.manual_clock import ManualClock


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The programs that were run, by name."""
    started: list[str] = []
    start = tool._start

    def note(argv, stdout, stderr):
        started.append(argv[0])
        return start(argv, stdout, stderr)

    monkeypatch.setattr(tool, "_start", note)
    return started


def find(tmp_path: Path) -> LvmPool:
    """The pool, as a command finds it by its name; no time passes for it, so that what it has seen stays fresh."""
    (found,) = find_pools(Node(clock=ManualClock(), locks=tmp_path / "locks"))
    assert isinstance(found, LvmPool)
    return found


def test_a_snapshot_takes_two_programs_from_the_name_of_the_pool_to_its_record(
    pool: LvmPool, tmp_path: Path, programs: list[str]
) -> None:
    pool.create_volume("vol", 8 * MIB)
    programs.clear()

    made = find(tmp_path).create_snapshots({"vol": "s"})

    assert programs == ["lvs", "lvcreate"]
    assert pool.snapshots() == [made[0].item]


def test_a_delta_and_its_reading_take_no_look_at_all(pool: LvmPool, tmp_path: Path, programs: list[str]) -> None:
    pool.create_volume("vol", 8 * MIB)
    pool.create_snapshots({"vol": "one"})
    with pool.open_target("vol") as target:
        target.write(0, b"changed")
    found = find(tmp_path)
    found.create_snapshots({"vol": "two"})
    programs.clear()

    changes = found.delta("vol", "one", "two")
    assert changes is not None
    assert [change.extent.start for change in changes] == [0]
    with found.open_source("vol", "two") as source:
        body = bytearray(7)
        source.read_into(0, memoryview(body))

    assert (bytes(body), programs) == (b"changed", ["thin_delta"])


def test_what_another_process_changed_since_the_pool_was_found_is_seen(pool: LvmPool, tmp_path: Path) -> None:
    for name in ("marked", "removed"):
        pool.create_volume(name, 8 * MIB)
    for change, error in (
        (lambda: pool.mark_restoring("marked", "v1"), Refused),
        (lambda: pool.remove_volume("removed"), NotFound),
    ):
        found = find(tmp_path)
        change()
        with pytest.raises(error):
            found.create_snapshots({"marked" if error is Refused else "removed": "s"})
    assert pool.snapshots() == []


def test_a_snapshot_that_was_replaced_under_its_name_is_not_taken_for_the_old_one(
    pool: LvmPool, tmp_path: Path
) -> None:
    pool.create_volume("vol", 8 * MIB)
    found = find(tmp_path)
    old = found.create_snapshots({"vol": "s"})[0].item
    assert pool.remove_snapshot("vol", "s") is Outcome.REMOVED
    with pytest.raises(NotFound):
        found.open_source("vol", "s").__enter__()
    pool.create_snapshots({"vol": "heir"})  # which gets the id in the pool that the old one had
    with pool.open_target("vol") as target:
        target.write(0, b"later")
    new = pool.create_snapshots({"vol": "s"})[0].item

    changes = found.delta("vol", "s", None)
    assert changes is not None
    assert list(changes) == []
    with found.open_source("vol", "s") as source:
        body = bytearray(5)
        source.read_into(0, memoryview(body))
    assert (bytes(body), new.uuid != old.uuid) == (b"later", True)


def test_a_pool_that_only_its_volumes_keep_active_needs_no_activation(pool: LvmPool, programs: list[str]) -> None:
    pool.create_volume("vol", 8 * MIB)
    programs.clear()
    assert pool.status().health == "ok"
    assert programs == ["lvs"]
    lvm("lvchange", "-an", f"{GROUP}/vol", f"{GROUP}/tank")
    programs.clear()
    assert pool.status().health == "ok"
    assert programs == ["lvs", "lvchange", "lvchange"]


def test_a_pool_into_which_somebody_put_a_volume_since_it_was_found_is_not_removed(
    pool: LvmPool, tmp_path: Path
) -> None:
    found = find(tmp_path)
    lvm("lvcreate", "--type", "thin", "--thinpool", f"{GROUP}/tank", "--virtualsize", "8m", "--name", "theirs")

    with pytest.raises(Refused, match="theirs"):
        found.remove()

    assert [volume.name for volume in pool.volumes()] == ["theirs"]


def test_a_volume_that_somebody_activates_while_a_group_is_prepared_is_suspended_like_the_others(
    pool: LvmPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        pool.create_volume(name, 8 * MIB)
    lvm("lvchange", "-an", f"{GROUP}/two")
    announce, suspend = lvmgroup.announce, Control.suspend
    suspended: list[str] = []

    def activate(seen, group):
        announce(seen, group)
        lvm("lvchange", "-ay", f"{GROUP}/two")

    def note(devices, address):
        suspended.append(address.called)
        suspend(devices, address)

    monkeypatch.setattr(lvmgroup, "announce", activate)
    monkeypatch.setattr(Control, "suspend", note)

    pool.create_snapshots({"one": "s", "two": "s"})

    assert suspended == [f"{GROUP}/one", f"{GROUP}/two"]
    assert not any(row.suspended for row in logical_volumes(GROUP))


def test_a_volume_that_somebody_deactivates_while_a_group_is_prepared_is_snapshotted_as_it_is(
    pool: LvmPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        pool.create_volume(name, 8 * MIB)
    announce = lvmgroup.announce

    def deactivate(seen, group):
        announce(seen, group)
        lvm("lvchange", "-an", f"{GROUP}/two")

    monkeypatch.setattr(lvmgroup, "announce", deactivate)

    assert [made.outcome for made in pool.create_snapshots({"one": "s", "two": "s"})] == [Outcome.CREATED] * 2


def test_a_snapshot_that_was_replaced_since_its_pool_was_found_is_looked_up_anew(pool: LvmPool, tmp_path: Path) -> None:
    pool.create_volume("vol", 8 * MIB)
    pool.create_snapshots({"vol": "s"})
    found = find(tmp_path)
    pool.remove_snapshot("vol", "s")
    pool.create_snapshots({"vol": "s"})
    with pool.open_target("vol") as target:
        target.write(0, b"later")

    changes = found.delta("vol", "s", None)

    assert changes is not None
    assert [change.extent.start for change in changes] == [0]
