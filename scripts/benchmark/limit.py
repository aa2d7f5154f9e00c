"""The machine's own limits: what a push, or a restore, cannot do without, on all cores, and nothing else.

    push IMAGE             read all that is not zero, hash it, compress it, encrypt it; keep nothing
    seal IMAGE SEALED      the same, kept in a file: what the limit of a restore reads; not for measuring
    restore SEALED FILE    read, decrypt, decompress, hash, write to a new sparse file, and sync it

What they take is what these steps take alone, with these libraries and under this interpreter, and nothing else.
"""

import argparse
import os
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from benchmark.measure import CORES, MIB, data_extents

STEP: Final = 4 * MIB
PIECE: Final = 128 * 1024  # of the size of chunks
PIECES: Final = STEP // PIECE
FIELDS: Final = (
    4  # of a piece in the list: its place in the image, its length, its place in the sealed file, its length there
)
KEY: Final = bytes(32)
NONCE: Final = bytes(12)
Step = TypeVar("Step")


def main(words: Sequence[str]) -> int:
    """One of the three, once."""
    parser = argparse.ArgumentParser(prog="scripts/bench limit", description="What push and restore cannot do without")
    parser.add_argument("work", choices=("push", "seal", "restore"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, nargs="?")
    parser.add_argument("--level", type=int, default=1, help="the zstd level (default 1)")
    options = parser.parse_args(words)
    if (options.target is None) != (options.work == "push"):
        parser.error("push keeps nothing; seal and restore write to a file")
    if options.work == "push":
        push(options.source, options.level, lambda place, length, sealed: None)
    elif options.work == "seal":
        seal(options.source, options.level, options.target)
    else:
        restore(options.source, options.target)
    return 0


def push(image: Path, level: int, keep: Callable[[int, int, memoryview], None]) -> None:
    """Seal every piece that is not zero, and hand it to `keep` with its place and length in the image."""
    from blake3 import blake3
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from zstandard import ZstdCompressor

    def work(starts: Iterator[tuple[int, int]]) -> None:
        buffer, sealed = memoryview(bytearray(STEP)), memoryview(bytearray(2 * PIECE))
        compressor, cipher, zeros = ZstdCompressor(level=level), AESGCM(KEY), bytes(PIECE)
        for position, length in starts:
            os.preadv(file.fileno(), [buffer[:length]], position)
            for at in range(0, length, PIECE):
                body = buffer[at : min(at + PIECE, length)]
                if body != zeros[: len(body)]:
                    blake3(body, key=KEY).digest()
                    frame = compressor.compress(body)
                    cipher.encrypt_into(NONCE, frame, None, sealed[: len(frame) + 16])
                    keep(position + at, len(body), sealed[: len(frame) + 16])

    with image.open("rb", buffering=0) as file:
        steps = [
            (position, min(STEP, end - position))
            for start, end in data_extents(file.fileno())
            for position in range(start, end, STEP)
        ]
        use_all_cores(work, steps)


def seal(image: Path, level: int, target: Path) -> None:
    """Keep what a push seals: the size of the image and the list of the pieces in a file beside the target."""
    pieces, lock = array("Q", [image.stat().st_size]), threading.Lock()
    with target.open("wb") as file:

        def keep(place: int, length: int, sealed: memoryview) -> None:
            with lock:
                pieces.extend((place, length, file.tell(), len(sealed)))
                file.write(sealed)

        push(image, level, keep)
    list_of(target).write_bytes(pieces.tobytes())


def restore(sealed: Path, target: Path) -> None:
    """Write every piece to its place in a new sparse file, those that adjoin at once, behind those who open them."""
    from blake3 import blake3
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from zstandard import ZstdDecompressor

    from engine.ops.gather import Run
    from engine.writebehind import WriteBehind

    size, *fields = array("Q", list_of(sealed).read_bytes())
    pieces = list(zip(*(fields[field::FIELDS] for field in range(FIELDS)), strict=True))

    def work(steps: Iterator[list[tuple[int, ...]]]) -> None:
        buffer, opened = memoryview(bytearray(2 * STEP)), memoryview(bytearray(2 * PIECE))
        decompressor, cipher = ZstdDecompressor(), AESGCM(KEY)
        for step in steps:
            start, begin, end, run = step[0][2], step[0][0], step[0][0], behind.acquire()
            os.preadv(source.fileno(), [buffer[: step[-1][2] + step[-1][3] - start]], start)
            for place, length, at, stored in step:
                if place != end:
                    behind.submit(Run(run, begin, end - begin))
                    begin, end, run = place, place, behind.acquire()
                frame, body = opened[: stored - 16], run[end - begin :][:length]
                cipher.decrypt_into(NONCE, buffer[at - start : at - start + stored], None, frame)
                decompressor.stream_reader(frame).readinto(body)
                blake3(body, key=KEY).digest()
                end += length
            behind.submit(Run(run, begin, end - begin))

    file = open_around_the_cache(target)
    try:
        os.ftruncate(file, size)
        behind = WriteBehind[Run](
            lambda run, body: os.pwrite(file, body, run.start), threads=CORES, buffers=4 * CORES, size=STEP
        )
        try:
            with sealed.open("rb", buffering=0) as source:
                use_all_cores(work, [pieces[at : at + PIECES] for at in range(0, len(pieces), PIECES)])
            behind.drain()
        finally:
            behind.stop()
        os.fsync(file)
    finally:
        os.close(file)


def open_around_the_cache(target: Path) -> int:
    """A new file whose writes are not copied, where its filesystem has such writes."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(target, flags | os.O_DIRECT, 0o600)
    except OSError:
        return os.open(target, flags, 0o600)


def list_of(sealed: Path) -> Path:
    """Where the list of its pieces is."""
    return sealed.with_name(f"{sealed.name}.pieces")


def use_all_cores(work: Callable[[Iterator[Step]], None], steps: Sequence[Step]) -> None:
    """Each thread takes the next step until there is none: a list's iterator serves all of them."""
    shared = iter(steps)
    with ThreadPoolExecutor(CORES) as crew:
        for done in [crew.submit(work, shared) for _ in range(CORES)]:
            done.result()
