"""The registry of pools."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.device.base import Outcome
from engine.device.pools import Pools
from engine.device.sim import SimPool
from engine.errors import NotFound, Refused
from engine.units import MIB


class StoppedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nothing here sleeps, least of all {seconds} seconds")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def kernel() -> SimPool:
    """Stands for the pools that a finder finds."""
    return SimPool("kernel", 8 * MIB, StoppedClock())


@pytest.fixture
def pools(state: Path, kernel: SimPool) -> Pools:
    return Pools(state, StoppedClock(), os.urandom, finders=[lambda: [kernel]])


def test_pools_of_all_kinds_are_found_by_name(pools: Pools, tmp_path: Path, kernel: SimPool) -> None:
    made = pools.create_directory("tank", tmp_path / "tank")
    assert made.outcome is Outcome.CREATED
    assert made.item.status().location == str(tmp_path / "tank")
    assert pools.names() == ["kernel", "tank"]
    assert [pool.name for pool in pools.all()] == ["kernel", "tank"]
    assert pools.open("kernel") is kernel
    assert pools.open("tank").status().uuid == made.item.status().uuid


def test_an_unknown_pool_is_not_found_and_near_names_are_told(pools: Pools) -> None:
    with pytest.raises(NotFound, match="kernal") as caught:
        pools.open("kernal")
    assert "kernel" in caught.value.hint


def test_losing_the_state_directory_costs_nothing(pools: Pools, state: Path, tmp_path: Path) -> None:
    pools.create_directory("tank", tmp_path / "tank").item.create_volume("vol", MIB)
    shutil.rmtree(state)
    assert pools.names() == ["kernel"]

    again = pools.create_directory("tank", tmp_path / "tank")

    assert again.outcome is Outcome.ALREADY_THERE
    assert pools.open("tank").volume("vol").size == MIB


def test_a_directory_that_is_a_pool_of_another_name_is_refused(pools: Pools, tmp_path: Path) -> None:
    pools.create_directory("tank", tmp_path / "tank")
    with pytest.raises(Refused, match="tank"):
        pools.create_directory("other", tmp_path / "tank")
    assert pools.names() == ["kernel", "tank"]


def test_a_directory_that_holds_something_else_is_refused_with_a_way_out(pools: Pools, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.txt").touch()
    with pytest.raises(Refused, match=r"diary\.txt") as caught:
        pools.create_directory("tank", tmp_path / "home")
    assert str(tmp_path / "home" / "pool") in caught.value.hint
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["diary.txt"]
    assert pools.names() == ["kernel"]


def test_a_file_is_no_place_for_a_pool(pools: Pools, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="file"):
        pools.create_directory("tank", tmp_path / "file")


def test_the_root_of_a_new_filesystem_and_what_a_crash_left_will_do(pools: Pools, tmp_path: Path) -> None:
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    (tmp_path / "disk" / "rokctl-pool.json.new").write_text("{")
    assert pools.create_directory("tank", tmp_path / "disk").outcome is Outcome.CREATED


def test_a_name_is_taken_whatever_kind_of_pool_has_it(pools: Pools, tmp_path: Path) -> None:
    pools.create_directory("tank", tmp_path / "tank")
    for name in ("kernel", "tank"):
        with pytest.raises(Refused, match=f"pool {name} exists already"):
            pools.create_directory(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b"])
def test_a_bad_name_is_refused_before_anything_is_made(pools: Pools, tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused):
        pools.create_directory(name, tmp_path / "tank")
    assert not (tmp_path / "tank").exists()
    with pytest.raises(NotFound):
        pools.open(name)


def test_a_pool_whose_filesystem_is_not_mounted_is_named_but_not_opened(pools: Pools, tmp_path: Path) -> None:
    pools.create_directory("tank", tmp_path / "tank")
    (tmp_path / "tank").rename(tmp_path / "away")
    assert pools.names() == ["kernel", "tank"]
    assert [pool.name for pool in pools.all()] == ["kernel"]
    with pytest.raises(NotFound, match=str(tmp_path / "tank")) as caught:
        pools.open("tank")
    assert "mount" in caught.value.hint

    assert pools.create_directory("tank", tmp_path / "away").outcome is Outcome.ALREADY_THERE
    assert pools.open("tank").status().location == str(tmp_path / "away")


def test_removing_a_pool_removes_its_registration_and_not_its_directory(
    pools: Pools, tmp_path: Path, state: Path
) -> None:
    made = pools.create_directory("tank", tmp_path / "tank")
    made.item.create_volume("vol", MIB)
    with pytest.raises(Refused):
        pools.remove("tank")
    made.item.remove_volume("vol")
    assert pools.remove("tank") is Outcome.REMOVED
    assert pools.remove("tank") is Outcome.ALREADY_GONE
    assert pools.names() == ["kernel"]
    assert list((tmp_path / "tank").iterdir()) == []
    assert list((state / "pools").iterdir()) == []


def test_a_pool_that_is_gone_is_forgotten_by_removing_it(pools: Pools, tmp_path: Path) -> None:
    pools.create_directory("tank", tmp_path / "tank")
    shutil.rmtree(tmp_path / "tank")
    assert pools.remove("tank") is Outcome.ALREADY_GONE
    assert pools.names() == ["kernel"]
