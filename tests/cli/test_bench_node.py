"""`scripts/bench node`: what it judges by, and what it says of what was missed. What it measures on a kernel needs one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "scripts" / "bench"
sys.path.append(str(ROOT / "scripts"))

from benchmark.guest_snapshot import FROM_SUSPEND_TO_RESUME  # noqa: E402 - the scripts are no package of ours
from benchmark.node import Row, missed, push_rows, snapshot_rows  # noqa: E402 - the scripts are no package of ours
from benchmark.standstill import longest_gap  # noqa: E402

COST = {"wall": 1.0, "cpu": 1.0, "read": 0, "written": 0, "peak": 0}
PUSHED = {
    "allocated": 1000,
    "read": 40,
    "read_by_disk": 50,
    "daily": {"rokctl": COST, "restic": {**COST, "wall": 10.0, "cpu": 20.0}},
    "page_cache": {"before": 5, "after": 5},
    "profile": {"push of nothing": 0.5},
}


def test_i_o_stands_still_for_the_longest_gap_that_touches_the_stretch():
    moments = [0.0, 3.0, 3.1, 3.2, 3.5, 3.6, 9.0]
    assert longest_gap(moments, 3.15, 3.55) == pytest.approx(0.3)
    assert longest_gap(moments, 3.3, 3.4) == pytest.approx(0.3)
    assert longest_gap(moments, 3.15, 4.0) == pytest.approx(5.4)
    assert longest_gap(moments, 10, 11) == 0


def test_a_push_that_reads_more_or_takes_longer_than_it_may_is_told():
    good = {"thin": PUSHED, "reflink": PUSHED}
    assert missed(push_rows(good), good) == []
    slow = {**PUSHED, "read": 51, "page_cache": {"before": 5, "after": 4}}
    slow["daily"] = {"rokctl": COST, "restic": {**COST, "wall": 9.0, "cpu": 20.0}}
    told = missed(push_rows({**good, "thin": slow}), good)
    assert [sentence.rpartition(", and may be ")[2] for sentence in told] == ["0.05", "0.1", "0"]


def test_without_restic_the_check_fails_and_the_rest_is_shown():
    alone = {"thin": {**PUSHED, "daily": {"rokctl": COST}}, "reflink": PUSHED}
    assert missed(push_rows(alone), alone) == ["the daily push was not compared with restic"]
    assert len(push_rows(alone)) == len(push_rows({"thin": PUSHED, "reflink": PUSHED})) - 2


def test_a_snapshot_may_take_a_fifth_more_than_lvcreate_and_the_start():
    one = {"rokctl": 1.3, "lvcreate": 0.6, "lvs": 0.2, "start": 0.4, "python": 0.1}
    still = {"rokctl": 0.009, "lvcreate": 0.1, "dmsetup": 0.2, "nothing": 0.001}
    rows = snapshot_rows({"one": one, "group": {"standstill": still, "inside": {FROM_SUSPEND_TO_RESUME: 0.008}}})
    assert [row.what for row in rows if row.most is not None and row.ratio > row.most] == [rows[0].what]
    assert Row("alone", 3.0, None, None).ratio == 3.0


@pytest.mark.slow
def test_the_starts_are_measured_without_root_and_without_a_kernel(tmp_path):
    words = ["node", "--no-guest", "--start-runs", "1", "--json"]
    ran = subprocess.run([sys.executable, BENCH, *words], env={"TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    starts = json.loads(ran.stdout)["start"]
    assert {"import typer", "rokctl --help", "rokctl --version", "kalec --help"} < set(starts)
    assert all(cost["cpu"] > 0 and cost["wall"] > 0 for cost in starts.values())
    assert list(tmp_path.iterdir()) == []
