"""The cuts of one content, kept for ever: another map of the same bytes would be another format, and no longer deduplicate."""

import json
from pathlib import Path

from blake3 import blake3
from xxhash import xxh3_64_intdigest

from engine.chunk.cut import BLOCK, Hole, Window, cut

VECTOR = json.loads((Path(__file__).parent.parent / "golden" / "cuts-g3.json").read_text())


def vector_content(blocks: int) -> bytes:
    """Files and zero runs of pseudorandom lengths, bytes and tails, by a counter."""
    content = bytearray()
    counter = 0
    while len(content) < blocks * BLOCK:
        name = counter.to_bytes(8, "little")
        number = xxh3_64_intdigest(name)
        counter += 1
        kind, length, tail = number % 8, number >> 8 & 0xFFFF, number >> 32
        if kind == 0:
            content += bytes((1 + length % 20) * BLOCK)
            continue
        size = (8 + length % 400 if kind == 1 else 1 + length % 12) * BLOCK
        padding = tail % BLOCK
        content += blake3(name).digest(length=size - padding) + bytes(padding)
    return bytes(content[: blocks * BLOCK])


def cut_vector() -> list[list[int | str]]:
    content = vector_content(VECTOR["blocks"])
    assert blake3(content).hexdigest() == VECTOR["blake3_of_content"], "the content is not that of the vector"

    def read(offset: int, target: memoryview) -> None:
        target[:] = content[offset : offset + len(target)]

    steps = cut(read, VECTOR["blocks"], VECTOR["seed"], Window())
    return [[step.blocks, "hole" if isinstance(step, Hole) else "chunk"] for step in steps]


def test_the_cuts_of_the_vector_have_not_changed():
    assert cut_vector() == VECTOR["entries"]
