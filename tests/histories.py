"""What may happen to a volume between snapshots: for tests of properties."""

import random

from hypothesis import strategies as st

from engine.extent import Extent
from engine.units import KIB, MIB

SIZES = [512, 3 * 4096 + 512, MIB, 64 * MIB - 4096, 64 * MIB, 64 * MIB + 1536, 66 * MIB]


@st.composite
def histories(draw):
    """The size of a volume, and what happens to it between snapshots."""
    size = draw(st.sampled_from(SIZES))
    step = st.tuples(
        st.sampled_from(["files", "noise", "zeros", "discard", "copy", "grow"]),
        st.integers(0, size - 1),
        st.integers(1, 700 * KIB),
        st.integers(0, 2**32),
    )
    return size, draw(st.lists(st.lists(step, max_size=6), min_size=2, max_size=4))


def files(rnd, length):
    """Small files as a filesystem lays them out: each starts at 4 KiB and is padded with zeros."""
    body = bytearray()
    while len(body) < length:
        size = rnd.choice([100, 3000, 5000, 40_000, 150_000])
        body += rnd.randbytes(size) + bytes(-size % 4096)
    return bytes(body[:length])


def happen(pool, volume, steps):
    for kind, offset, length, seed in steps:
        rnd = random.Random(seed)
        size = pool.volume(volume).size
        if kind == "grow":
            pool.resize_volume(volume, size + rnd.choice([512, 4096, MIB, 40 * MIB]))
            continue
        length = min(length, size - offset)
        with pool.open_target(volume) as target:
            if kind == "discard":
                target.discard(Extent(offset, length))
            elif kind == "files":
                start = offset // 4096 * 4096
                target.write(start, files(rnd, min(length, size - start)))
            else:
                body = {"noise": rnd.randbytes(length), "zeros": bytes(length), "copy": b"the same " * length}[kind]
                target.write(offset, body[:length])
