"""Memory is bounded whatever the volume's size: a large push, restore, check and copy, measured by the kernel."""

import json
import sys

import pytest

from engine.units import GIB, MIB
from tests.node import Node, file_digest, say

pytestmark = pytest.mark.slow

SIZE = 3 * GIB
DATA = 360 * MIB  # half of it random, half of it compressible, all of it in pieces with holes between
LIMIT = 256 * MIB

# Forked by a small process: a child starts with the peak of its parent, and that of the tests is large.
MEASURE = """
import json, os, resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(json.dumps({"code": code, "peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024}))
"""


def test_a_large_push_restore_and_copy_stay_small_on_a_directory(scratch, rnd):
    node = Node(scratch / "node", str(scratch / "repository"))
    push_and_restore(node, rnd)
    node.do("repo", "init", "--no-encryption", "--repo", scratch / "other")
    copying = peak(node, "repo", "copy", "--to", scratch / "other")
    say(f"copy {copying / MIB:.0f} MiB")
    assert copying < LIMIT


@pytest.mark.s3
def test_a_large_push_and_restore_stay_small_on_s3(scratch, rnd, s3_place, s3_environment):
    push_and_restore(Node(scratch / "node", s3_place, s3_environment), rnd)


def push_and_restore(node, rnd):
    volume = node.new_volume(SIZE)
    fill(volume, rnd)
    node.do("repo", "init")
    node.do("snapshot", "create", "p/v@one")
    peaks = {
        "push": peak(node, "snapshot", "push", "p/v@one"),
        "restore": peak(node, "restore", "p/v", "--to", "p/back"),
        "check": peak(node, "repo", "check", "--read-data"),
    }
    assert file_digest(node.path_of("back")) == file_digest(volume)
    say(", ".join(f"{name} {size / MIB:.0f} MiB" for name, size in peaks.items()))
    assert max(peaks.values()) < LIMIT, peaks


def fill(volume, rnd):
    piece = 4 * MIB
    with volume.open("r+b") as file:
        for number in range(DATA // piece):
            file.seek(number * (SIZE // (DATA // piece)) // 4096 * 4096)
            text = rnd.randbytes(piece // 4).hex().encode()
            file.write(rnd.randbytes(piece // 2) + text)


def peak(node, *words):
    """The most memory that a command had in use."""
    ended = node.run(*words, "--quiet", prefix=(sys.executable, "-S", "-c", MEASURE))
    measured = json.loads(ended.out.splitlines()[-1])
    assert measured["code"] == 0, ended.err
    return measured["peak"]
