"""Chunks made shorter, and back: one zstd frame each (RFC 8878), or the bytes as they are where that is not shorter."""

from typing import Final

import zstandard

from engine.chunk.identity import Buffer
from engine.errors import Damaged

_HINT: Final = "run `rokctl repo check` to find what else is damaged"


class Codec:
    """Compresses at one zstd level. A thread needs its own: the contexts in it serve one call at a time."""

    def __init__(self, level: int = 1) -> None:
        # A frame says how long the chunk is, so that a reader can refuse before it makes room. It carries no checksum:
        # every chunk is checked against its id.
        self._compressor = zstandard.ZstdCompressor(
            level=level, write_content_size=True, write_checksum=False, write_dict_id=False
        )
        self._decompressor = zstandard.ZstdDecompressor()

    def compress(self, body: Buffer) -> tuple[Buffer, bool]:
        """The payload to store, and whether it is raw: then it is `body` itself, because a frame is not shorter."""
        # One call for the whole chunk lets zstd choose its tables by the length. Writing into a buffer of our own would
        # not pay: its streams, the only way to, are 3 % slower than this allocation.
        frame = self._compressor.compress(body)
        return (frame, False) if len(frame) < len(body) else (body, True)

    def expand(self, frame: Buffer, target: memoryview) -> None:
        """Fill `target` with the content of the frame. A frame that is cut short may take about as much memory again, and
        no frame takes more, whatever it says of itself.

        Raises Damaged when that has another length. What follows a frame is not looked at: whoever calls compares the
        content with its id.
        """
        try:
            if _stated_length(frame) != len(target):
                raise _damaged(len(target), "its zstd frame is of another length")
            # Where there is room for all, zstd writes straight into the target: as fast as `decompress`, which allocates.
            filled = self._decompressor.stream_reader(frame).readinto(target)
        except zstandard.ZstdError as error:
            raise _damaged(len(target), str(error)) from error
        if filled != len(target):
            raise _damaged(len(target), "its zstd frame is cut short")

    def content(self, frame: Buffer, limit: int) -> bytes:
        """The content of a frame, of which only the frame tells how long it is: `expand_frame` in this codec's memory."""
        return expand_frame(frame, limit, self._decompressor)


def expand_frame(frame: Buffer, limit: int, decompressor: zstandard.ZstdDecompressor | None = None) -> bytes:
    """The content of a frame that states its length. Raises Damaged; for more than `limit` bytes before they take any memory.

    A frame that is cut short may take about as much memory again, and none takes more, whatever it says of itself. What
    follows a frame is not looked at, nor is one that states no bytes at all: whoever calls knows the content by its id, or by
    the seal around the frame.
    """
    try:
        declared = zstandard.get_frame_parameters(bytes(memoryview(frame)[:32])).content_size
        if declared > limit:  # CONTENTSIZE_UNKNOWN is 2^64 - 1
            raise Damaged(f"a compressed piece declares {declared} bytes, beyond the limit of {limit}")
        return (decompressor or zstandard.ZstdDecompressor()).decompress(frame, max_output_size=limit)
    except zstandard.ZstdError as error:
        raise Damaged(f"decompression failed: {error}") from None


def _stated_length(frame: Buffer) -> int:
    """How many bytes a frame says that it holds. Raises Damaged where it says nothing, or is none."""
    try:
        length = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise Damaged(f"a zstd frame is damaged: {error}", hint=_HINT) from error
    if length < 0:
        raise Damaged("a zstd frame does not state its length", hint=_HINT)
    return length


def _damaged(length: int, reason: str) -> Damaged:
    return Damaged(
        f"a stored chunk of {length} bytes cannot be expanded: {reason}",
        hint=_HINT,
    )
