"""The machine's own limit: what no program that does the work of a push or a restore with these libraries can be faster than.

limit IMAGE                   a push: read, hash, compress and encrypt all that is not zero, on all cores; keep nothing
limit IMAGE --pack FILE       the same, and keep it, one step after the other
limit --unpack FILE TARGET    a restore: read, decrypt, decompress, hash and write it, and sync, on all cores
"""

import argparse
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from benchmark.measure import CORES, MIB, data_extents, leave

STEP: Final = 4 * MIB
PIECE: Final = 128 * 1024  # of the size of chunks
TAG: Final = 16
KEY: Final = bytes(32)
NONCE: Final = bytes(12)

Item = TypeVar("Item")
Place = tuple[int, int, int, list[int]]  # of a step: where in the file, where in the image, how long; its sealed pieces


def main(words: Sequence[str]) -> int:
    """One file, once."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench limit", description="What a push or a restore must do; no more"
    )
    parser.add_argument("image", type=Path, help="the file to push, or to write with --unpack")
    parser.add_argument("--level", type=int, default=1, help="the zstd level (default 1)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--pack", type=Path, metavar="FILE", help="keep what a restore is measured with")
    where.add_argument("--unpack", type=Path, metavar="FILE", help="write the image from what --pack kept")
    options = parser.parse_args(words)
    source = options.unpack or options.image
    if not source.is_file():
        leave(f"{source} is no file that exists")
    if options.unpack:
        unpack(options.unpack, options.image)
    elif options.pack:
        pack(options.image, options.pack, options.level)
    else:
        push(options.image, options.level, lambda step: None)
    return 0


@dataclass(slots=True)
class Step:
    """A stretch of the image that one thread takes at a time: where its pieces are, and how long each is when sealed."""

    position: int
    length: int
    sealed: bytearray
    lengths: list[int]


def push(image: Path, level: int, keep: Callable[[Step], None]) -> None:
    """Each thread takes the next step of the file until there is none."""
    from blake3 import blake3
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from zstandard import ZstdCompressor

    def work(starts: Iterator[tuple[int, int]]) -> None:
        buffer, sealed = memoryview(bytearray(STEP)), bytearray(2 * STEP)
        compressor, cipher, zeros = ZstdCompressor(level=level), AESGCM(KEY), bytes(PIECE)
        for position, length in starts:
            os.preadv(file.fileno(), [buffer[:length]], position)
            end, lengths = 0, []
            for at in range(0, length, PIECE):
                body = buffer[at : min(at + PIECE, length)]
                if body == zeros[: len(body)]:
                    lengths.append(0)
                    continue
                blake3(body, key=KEY).digest()
                frame = compressor.compress(body)
                lengths.append(len(frame) + TAG)
                cipher.encrypt_into(NONCE, frame, None, memoryview(sealed)[end : end + lengths[-1]])
                end += lengths[-1]
            keep(Step(position, length, sealed, lengths))

    with image.open("rb", buffering=0) as file:
        steps = [
            (position, min(STEP, end - position))
            for start, end in data_extents(file.fileno())
            for position in range(start, end, STEP)
        ]
        on_all_cores(work, iter(steps))


def pack(image: Path, packed: Path, level: int) -> None:
    """Keep the sealed pieces in a file, and where each is in a last line of it."""
    places: list[Place] = []
    writing = threading.Lock()

    with packed.open("wb") as file:

        def keep(step: Step) -> None:
            with writing:
                places.append((file.tell(), step.position, step.length, step.lengths))
                file.write(memoryview(step.sealed)[: sum(step.lengths)])

        push(image, level, keep)
        table = json.dumps([image.stat().st_size, places]).encode()
        file.write(table)
        file.write(len(table).to_bytes(8, "little"))


def unpack(packed: Path, image: Path) -> None:
    """Each thread takes the next step of what was kept; the image is sparse."""
    from blake3 import blake3
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from zstandard import ZstdDecompressor

    def work(places: Iterator[Place]) -> None:
        sealed, frame = memoryview(bytearray(2 * STEP)), memoryview(bytearray(2 * PIECE))
        decompressor, cipher = ZstdDecompressor(), AESGCM(KEY)
        for offset, position, length, lengths in places:
            os.preadv(source.fileno(), [sealed[: sum(lengths)]], offset)
            start = 0
            for at, size in zip(range(0, length, PIECE), lengths, strict=True):
                if size:
                    cipher.decrypt_into(NONCE, sealed[start : start + size], None, frame[: size - TAG])
                    body = decompressor.decompress(frame[: size - TAG], max_output_size=PIECE)
                    blake3(body, key=KEY).digest()
                    os.pwrite(target.fileno(), body, position + at)
                    start += size

    with packed.open("rb", buffering=0) as source, image.open("xb", buffering=0) as target:
        size, places = read_table(source.fileno())
        target.truncate(size)
        on_all_cores(work, iter(places))
        os.fsync(target.fileno())


def read_table(packed: int) -> tuple[int, list[Place]]:
    """The size of the image, and its steps."""
    end = os.fstat(packed).st_size - 8
    length = int.from_bytes(os.pread(packed, 8, end), "little")
    size, places = json.loads(os.pread(packed, length, end - length))
    return size, places


def on_all_cores(work: Callable[[Iterator[Item]], None], steps: Iterator[Item]) -> None:
    """Several threads share the steps: a list's iterator serves them all, each step goes to whoever asks next."""
    with ThreadPoolExecutor(CORES) as threads:
        for done in [threads.submit(work, steps) for _ in range(CORES)]:
            done.result()
