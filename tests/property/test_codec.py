"""Chunks made shorter, and back: any chunk, and anything that is not one."""

import random
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from engine.chunk.codec import Codec
from engine.errors import Damaged

CODEC = Codec(1)
KIB = 1024
NOISE = random.Random(1).randbytes(256 * KIB)
PROSE = b"the same words again and again, " * 4096  # 128 KiB


def expanded(frame, length):
    body = bytearray(length)
    CODEC.expand(frame, memoryview(body))
    return body


bodies = st.one_of(
    st.binary(min_size=1, max_size=5000),
    st.builds(lambda part, times: part * times, st.binary(min_size=1, max_size=50), st.integers(1, 2000)),
    st.integers(1, 256 * KIB).map(lambda length: NOISE[:length]),
)


@given(bodies, st.sampled_from([-5, 1, 3]))
def test_every_chunk_comes_back(body, level):
    payload, raw = Codec(level).compress(body)

    assert (payload is body) if raw else (len(payload) < len(body) and expanded(payload, len(body)) == body)
    assert raw or CODEC.content(payload, len(body)) == body


def test_a_buffer_within_a_window_comes_back():
    window = memoryview(bytearray(b"before" + PROSE + b"after"))

    payload, raw = CODEC.compress(window[6:-5])

    assert not raw
    assert expanded(memoryview(payload), len(PROSE)) == PROSE


def test_what_does_not_get_shorter_is_stored_as_it_is():
    body = memoryview(NOISE)

    payload, raw = CODEC.compress(body)

    assert raw
    assert payload is body


def test_frames_state_their_length_and_carry_no_checksum():
    payload, _ = CODEC.compress(PROSE)

    parameters = zstandard.get_frame_parameters(bytes(payload))
    assert (parameters.content_size, parameters.has_checksum, parameters.dict_id) == (len(PROSE), False, 0)


def test_a_frame_written_long_ago_can_be_read():
    frame = bytes.fromhex("28b52ffd600801a50000687a65726f20616e64206f6e65200100f8a0ce2f")

    assert expanded(frame, 520) == b"zero and one " * 40


@given(st.integers(0, 2 * len(PROSE)).filter(lambda length: length != len(PROSE)))
def test_a_chunk_of_another_length_is_damaged(length):
    payload, _ = CODEC.compress(PROSE)

    with pytest.raises(Damaged, match=f"a stored chunk of {length} bytes"):
        expanded(payload, length)


@given(st.data())
def test_a_frame_cut_short_is_damaged(data):
    payload, _ = CODEC.compress(PROSE)

    short = payload[: data.draw(st.integers(0, len(payload) - 1))]
    with pytest.raises(Damaged):
        expanded(short, len(PROSE))
    with pytest.raises(Damaged):
        CODEC.content(short, len(PROSE))


def test_a_frame_that_states_more_than_the_limit_is_damaged_and_takes_no_memory():
    payload, _ = CODEC.compress(PROSE)
    with pytest.raises(Damaged, match="limit"):
        CODEC.content(payload, len(PROSE) - 1)


@given(st.binary(max_size=20))
def test_what_follows_a_frame_does_not_change_its_content(more):
    payload, _ = CODEC.compress(PROSE)

    assert expanded(payload + more, len(PROSE)) == PROSE
    assert CODEC.content(payload + more, len(PROSE)) == PROSE


def test_a_frame_fills_its_room_and_nothing_beside_it():
    payload, _ = CODEC.compress(PROSE)
    around = bytearray(b"x" * (len(PROSE) + 10))

    CODEC.expand(payload, memoryview(around)[5:-5])

    assert around == b"xxxxx" + PROSE + b"xxxxx"


@given(st.binary(max_size=200), st.integers(1, 1000))
def test_noise_is_damaged_or_what_zstd_makes_of_it(noise, length):
    for payload in (noise, b"\x28\xb5\x2f\xfd" + noise):
        try:
            assert expanded(payload, length) == zstandard.ZstdDecompressor().decompress(payload, max_output_size=length)
        except Damaged as damaged:
            assert damaged.hint  # noqa: PT017  (either way is right, and both are checked)


def test_a_frame_without_a_length_is_damaged():
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(PROSE)

    with pytest.raises(Damaged, match="does not state its length"):
        expanded(frame, len(PROSE))


def test_a_decompression_bomb_is_refused_before_it_takes_memory():
    bomb = zstandard.ZstdCompressor().compress(bytes(64 * KIB * KIB))
    lying = bytearray(CODEC.compress(bytes(8 * KIB))[0])
    tracemalloc.start()
    try:
        with pytest.raises(Damaged):
            expanded(bomb, 4 * KIB)
        with pytest.raises(Damaged):  # more content than the length it states
            expanded(_state_length(lying, 4 * KIB), 4 * KIB)
        with pytest.raises(Damaged):
            CODEC.content(_state_length(lying, 4 * KIB), 64 * KIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * KIB


def _state_length(frame: bytearray, length: int) -> bytes:
    """The frame of a chunk of 8 KiB, made to say another length (RFC 8878, 3.1.1.1: two bytes, less 256)."""
    assert frame[4] >> 6 == 1, "two bytes of content size"
    frame[5:7] = (length - 256).to_bytes(2, "little")
    return bytes(frame)
