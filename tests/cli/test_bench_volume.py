"""`scripts/bench volume`: it refuses what it cannot run, and pushes in earnest what it has made up."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.units import MIB

pytestmark = pytest.mark.slow

BENCH = Path(__file__).parents[2] / "scripts" / "bench"
HAS_TOOLS = shutil.which("thin_restore", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is not None


def bench(tmp_path, *words, **more):
    environment = {**os.environ, "TMPDIR": str(tmp_path), **more}
    return subprocess.run([sys.executable, BENCH, "volume", *words], env=environment, capture_output=True, text=True)


@pytest.mark.skipif(not HAS_TOOLS, reason="thin-provisioning-tools are not installed")
def test_a_change_of_a_made_up_volume_is_pushed_and_nothing_is_left(tmp_path):
    ran = bench(tmp_path, "--data-blocks", "16384", "--places", "1", "--json")

    assert ran.returncode == 0, ran.stderr
    record = json.loads(ran.stdout)
    assert (record["data_blocks"], record["places"]) == (16384, 1)
    assert MIB <= record["read"] < record["data_blocks"] * 65536 / 100, "the change and what is cut with it"
    assert MIB <= record["stored"] <= 2 * MIB
    assert record["delta_seconds"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_volume_that_cannot_be_is_refused(tmp_path):
    ran = bench(tmp_path, "--data-blocks", "1000")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "--data-blocks is a multiple of 1024, and 16384 at least" in ran.stderr
