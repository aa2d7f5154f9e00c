"""What is small in a store and would be huge in memory is refused in time: a process with little memory to spare survives it."""

import subprocess
import sys

import pytest

from tests.bombs import BOMBS
from tests.node import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_in_little_memory(bomb):
    command = [sys.executable, "-m", "tests.bombs", bomb]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-600:]
    assert ended.stdout
