"""`scripts/bench`: it refuses what it cannot run, and what it prints can be read by a program."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from engine.units import KIB, MIB

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


def bench(tmp_path, *words):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    return subprocess.run([sys.executable, BENCH, *words], env=environment, capture_output=True, text=True)


def test_an_image_that_does_not_exist_is_refused_in_one_sentence(tmp_path):
    ran = bench(tmp_path, tmp_path / "nothing")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"scripts/bench: {tmp_path / 'nothing'} is no file that exists\n"


@pytest.mark.slow
def test_every_phase_is_measured_and_nothing_is_left(tmp_path):
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.write(random.Random(5).randbytes(6 * MIB))
        file.truncate(40 * MIB)

    ran = bench(tmp_path, image, "--json")

    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    phases = report["phases"]
    assert {
        "first push",
        "second push",
        "restore",
        "check --read-data",
        "the machine's limit",
        "the limit of a restore",
    } <= set(phases)
    # 6 MiB of noise, and 8 MiB in the file that the day adds
    assert 6 * MIB < phases["first push"]["written"] < 6 * MIB + 512 * KIB
    assert 14 * MIB < phases["restore"]["written"] < 15 * MIB + 512 * KIB
    assert all(phase["wall"] > 0 and phase["cpu"] > 0 and phase["peak"] > 8 * MIB for phase in phases.values())
    assert set(report["page_cache_changes"]) == {"a push", "a restore"}
    assert list(tmp_path.iterdir()) == [image]
