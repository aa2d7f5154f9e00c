"""Blobs that are small in a store and would be huge in memory: `python -m tests.bombs NAME` reads one, with little to spare.

It ends with 0, and says why on stdout, if the bomb was refused as damage; with a traceback if it was taken or took the memory.
"""

import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import zstandard

from engine.chunk.codec import Codec, expand_frame
from engine.errors import Damaged
from engine.pages import pages
from engine.repo.document import EXPANDED_LIMIT
from engine.repo.manifest import open_manifest
from engine.repo.map import CHUNK_LIMIT, PAGE_REGIONS, REGION_BLOCKS, decode_page, decode_region
from engine.repo.seal import Keyring, seal_box
from engine.repo.segment import decode_segment
from engine.repo.tags import open_tags
from engine.units import GIB, MIB
from tests.counting_entropy import CountingEntropy
from tests.sealing import sealed

NAME = "ab" * 16
KEYRING = Keyring(bytes(32), encrypted=True)


def frame(size: int, *, declared: bool = True) -> bytes:
    """So many zeros, compressed."""
    compressor = zstandard.ZstdCompressor(write_content_size=declared)
    stream = compressor.compressobj(size=size) if declared else compressor.compressobj()
    zeros = bytes(MIB)
    return b"".join([stream.compress(zeros) for _ in range(size // MIB)]) + stream.flush()


def box(purpose: str, plaintext: bytes) -> bytes:
    return seal_box(KEYRING.cipher(purpose, NAME), plaintext, CountingEntropy())


def tags(*, listed: bytes, times: int) -> bytes:
    text = b'{"tags":[' + b",".join([listed] * times) + b"]}"
    return sealed(b"ROKTAGS\x01", KEYRING.cipher("tags", NAME), text)


def manifest(*, members: int) -> bytes:
    text = b'{"members":[' + b",".join([b'{"name":"a"}'] * members) + b"]}"
    return sealed(b"ROKVERS\x01", KEYRING.cipher("version", NAME), text)


def segment(packs: int, entries: int, rest: bytes) -> bytes:
    return b"ROKINDX\x01" + box("index", struct.pack("<II", packs, entries) + rest)


def as_document(blob: bytes) -> object:
    return expand_frame(blob, EXPANDED_LIMIT)


def as_chunk(blob: bytes) -> object:
    return Codec().expand(blob, memoryview(pages(CHUNK_LIMIT)))


def as_record(blob: bytes) -> object:
    return Codec().content(blob, CHUNK_LIMIT)


def as_tags(blob: bytes) -> object:
    return open_tags(NAME, blob, KEYRING)


def as_manifest(blob: bytes) -> object:
    return open_manifest(NAME, blob, KEYRING)


def as_segment(blob: bytes) -> object:
    return decode_segment(NAME, blob, KEYRING)


LIE = b"\x28\xb5\x2f\xfd\xe0" + (1 << 62).to_bytes(8, "little") + bytes(9)  # a frame header that declares 4 EiB

Bomb = tuple[Callable[[], bytes], Callable[[bytes], object], int]

# How it is made, how it is read, and the memory that is to spare for that.
BOMBS: dict[str, Bomb] = {
    "a frame of 1 GiB": (lambda: frame(GIB), as_document, 8 * MIB),
    "a frame that declares 4 EiB": (lambda: LIE, as_document, 8 * MIB),
    "a frame that declares nothing": (lambda: frame(GIB, declared=False), as_document, 8 * MIB),
    "a chunk of 1 GiB": (lambda: frame(GIB), as_chunk, 8 * MIB),
    "a chunk that declares nothing": (lambda: frame(GIB, declared=False), as_chunk, 8 * MIB),
    "a record of 1 GiB": (lambda: frame(GIB), as_record, 8 * MIB),
    "a record that declares 4 EiB": (lambda: LIE, as_record, 8 * MIB),
    "a record that declares nothing": (lambda: frame(GIB, declared=False), as_record, 8 * MIB),
    "tags of 1 GiB": (lambda: b"ROKTAGS\x01" + box("tags", frame(GIB)), as_tags, 8 * MIB),
    "tags in 4 million lists": (lambda: tags(listed=b"[]", times=4_000_000), as_tags, 80 * MIB),
    "tags in 4 million numbers": (lambda: tags(listed=b"1e9", times=4_000_000), as_tags, 80 * MIB),
    "a manifest of a million members": (lambda: manifest(members=1_000_000), as_manifest, 80 * MIB),
    "a segment of 4 billion entries": (lambda: segment(1, 2**32 - 1, frame(64 * MIB)), as_segment, 40 * MIB),
    "a segment of 4 billion packs": (lambda: segment(2**32 - 1, 1, bytes(100)), as_segment, 8 * MIB),
    "a segment with 1 GiB for one length": (lambda: segment(0, 1, bytes(16) + frame(GIB)), as_segment, 8 * MIB),
    "a region map of 16 million entries": (
        lambda: b"RMAP" + (16_000_000).to_bytes(4, "little") + b"\x01\x80" * 16_000_000,
        lambda blob: decode_region(blob, REGION_BLOCKS),
        80 * MIB,
    ),
    "a page of 4 million regions": (
        lambda: b"PMAP" + bytes(64 * MIB),
        lambda blob: decode_page(blob, PAGE_REGIONS),
        80 * MIB,
    ),
}


def main(name: str) -> None:
    make, read, spare = BOMBS[name]
    blob = make()
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, used + spare))
    try:
        read(blob)
    except Damaged as error:
        sys.stdout.write(error.message + "\n")
        return
    raise AssertionError("it was taken")


if __name__ == "__main__":
    main(sys.argv[1])
