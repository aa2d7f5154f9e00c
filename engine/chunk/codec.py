"""Chunks made shorter, and back: one zstd frame each (RFC 8878), or the bytes as they are where that is not shorter."""

import zstandard

from engine.chunk.identity import Buffer
from engine.errors import Damaged


class Codec:
    """Compresses at one zstd level. A thread needs its own: the contexts in it serve one call at a time."""

    def __init__(self, level: int = 1) -> None:
        # A frame says how long the chunk is, so that `expand` can refuse before it allocates. It carries no checksum:
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

    def expand(self, payload: Buffer, raw: bool, length: int) -> Buffer:
        """The chunk of `length` bytes; when raw, `payload` itself.

        Raises Damaged when the payload is anything but that chunk, whatever it is, having allocated no more than `length`.
        """
        if raw:
            if len(payload) != length:
                raise _damaged(length, f"{len(payload)} bytes are stored")
            return payload
        try:
            declared = zstandard.frame_content_size(payload)
            if declared != length:
                raise _damaged(length, "its zstd frame is of another length")
            body = self._decompressor.decompress(payload, max_output_size=length, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise _damaged(length, str(error)) from error
        assert len(body) == length, "zstd gives what the frame states, or an error"
        return body


def _damaged(length: int, reason: str) -> Damaged:
    return Damaged(
        f"a stored chunk of {length} bytes cannot be expanded: {reason}",
        hint="run `rokctl repo check` to find what else is damaged",
    )
