"""The machine's own limit: read, hash, compress and encrypt all that is not zero, on all cores; keep nothing.

What it takes is what no program that does these four things with these libraries can be faster than.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmark.measure import CORES, MIB, data_extents

STEP: Final = 4 * MIB
PIECE: Final = 128 * 1024  # of the size of chunks


def main(words: Sequence[str]) -> int:
    """One file, once."""
    parser = argparse.ArgumentParser(prog="scripts/bench limit", description="Read, hash, compress, encrypt; no more")
    parser.add_argument("image", type=Path)
    parser.add_argument("--level", type=int, default=1, help="the zstd level (default 1)")
    options = parser.parse_args(words)
    use_all_cores(options.image, options.level)
    return 0


def use_all_cores(image: Path, level: int) -> None:
    """Each thread takes the next step of the file until there is none."""
    from blake3 import blake3
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from zstandard import ZstdCompressor

    def work(starts: Iterator[tuple[int, int]]) -> None:
        buffer, sealed = memoryview(bytearray(STEP)), bytearray(2 * PIECE)
        compressor, cipher, zeros = ZstdCompressor(level=level), AESGCM(bytes(32)), bytes(PIECE)
        for position, length in starts:
            os.preadv(file.fileno(), [buffer[:length]], position)
            for at in range(0, length, PIECE):
                body = buffer[at : min(at + PIECE, length)]
                if body != zeros[: len(body)]:
                    blake3(body, key=bytes(32)).digest()
                    frame = compressor.compress(body)
                    cipher.encrypt_into(bytes(12), frame, None, memoryview(sealed)[: len(frame) + 16])

    with image.open("rb", buffering=0) as file, ThreadPoolExecutor(CORES) as threads:
        steps = [
            (position, min(STEP, end - position))
            for start, end in data_extents(file.fileno())
            for position in range(start, end, STEP)
        ]
        shared = iter(steps)  # a list's iterator serves all threads: each step goes to whoever asks next
        for done in [threads.submit(work, shared) for _ in range(CORES)]:
            done.result()
