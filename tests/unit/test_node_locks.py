"""The locks of a node: they count the work that was done under them."""

from pathlib import Path

import pytest

from engine.device.node import Node, Work
from engine.errors import Failed


def test_a_count_that_is_the_same_and_even_means_that_nobody_worked(tmp_path: Path) -> None:
    node = Node(locks=tmp_path / "locks")
    assert node.counted(Work.CHANGE) == {}
    with node.working(Work.CHANGE, "one", "tank") as before:
        assert before == 0
        assert node.counted(Work.CHANGE) == {"one": 1}
    with node.working(Work.DELTA, "one", "tank"), node.working(Work.CHANGE, "two", "other"):
        pass
    assert node.counted(Work.CHANGE) == {"one": 2, "two": 2}
    with node.working(Work.CHANGE, "one", "tank") as before:
        assert before == 2
    assert node.counted(Work.CHANGE) == {"one": 4, "two": 2}


def test_work_that_broke_off_leaves_an_odd_count_until_the_next_has_ended(tmp_path: Path) -> None:
    node = Node(locks=tmp_path)
    with pytest.raises(Failed), node.working(Work.CHANGE, "one", "tank"):
        raise Failed("half way")
    assert node.counted(Work.CHANGE) == {"one": 1}
    with node.working(Work.CHANGE, "one", "tank") as before:
        assert before == 1
        assert node.counted(Work.CHANGE) == {"one": 3}
    assert node.counted(Work.CHANGE) == {"one": 4}


@pytest.mark.parametrize("text", [b"x", b"-2", b"4x", b"9" * 40, b" 2"])
def test_a_lock_that_holds_anything_else_counts_as_work_that_broke_off(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "one.change").write_bytes(text)
    assert Node(locks=tmp_path).counted(Work.CHANGE) == {"one": 1}
