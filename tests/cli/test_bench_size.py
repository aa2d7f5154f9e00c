"""`scripts/bench size`: it refuses what it cannot run, and what it prints can be read by a program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.units import MIB

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


def bench(tmp_path, *words):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    return subprocess.run([sys.executable, BENCH, "size", *words], env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_sizes_that_cannot_be_are_refused(tmp_path):
    for words in (["--chunks", "0"], ["--objects", "7", "--versions", "6"]):
        ran = bench(tmp_path, *words)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "scripts/bench size: error: --chunks and --objects start at 1" in ran.stderr


@pytest.mark.slow
def test_an_index_commands_and_a_list_of_versions_are_measured_and_nothing_is_left(tmp_path):
    ran = bench(tmp_path, "--chunks", "1000", "--versions", "20", "--objects", "5", "--json")

    assert ran.returncode == 0, ran.stderr
    record = json.loads(ran.stdout)
    (row,) = record["index"]
    # 1000 chunks are in 2 regions, whose maps, page and top are in a pack of their own, and so in a segment
    assert (row["chunks"], row["packs"], row["segments"], row["read"]["entries"]) == (1000, 5, 2, 1004)
    assert row["commands"].keys() == {"push", "check", "first gc", "gc"}
    assert all(cost["wall"] > 0 and cost["peak"] > 8 * MIB for cost in row["commands"].values())
    assert all(row[phase]["seconds"] > 0 for phase in ("read", "cold", "warm", "other"))
    assert all(row["warm"][rate] > 0 for rate in ("batched_hits", "batched_misses", "single_hits", "single_misses"))
    assert 24 * 1000 < row["cache_bytes"] < 30 * 1000 + 30 * 17280
    assert (record["versions"]["listed"], record["versions"]["warm"]["versions"]) == (4, 4)
    assert list(tmp_path.iterdir()) == []
