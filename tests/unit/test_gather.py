"""Chunks that adjoin in a volume are written in one piece, and none that was not found good."""

from engine.ops.gather import RUN_LIMIT, Gather, write_behind
from engine.repo.map import BLOCK, CHUNK_LIMIT, REGION, Entry

LARGEST = CHUNK_LIMIT // BLOCK


class Written:
    """A target that notes what it is told to write."""

    size = 1 << 40

    def __init__(self):
        self.writes = []

    def write(self, offset, body):
        self.writes.append((offset, bytes(body)))


def put(gather, start, content):
    """Make a chunk of whole blocks, and keep it."""
    room = gather.for_chunk(Entry(start, len(content) // BLOCK, b"x" * 16))
    room[:] = content
    gather.keep(len(content))


def test_chunks_that_adjoin_are_one_write_and_others_are_not():
    target = Written()
    gather = Gather(write_behind(target, 0), 1 << 40)
    gather.region = 3
    put(gather, 0, b"a" * BLOCK)
    put(gather, 1, b"b" * 2 * BLOCK)
    put(gather, 7, b"c" * BLOCK)
    put(gather, 5, b"d" * BLOCK)
    gather.hand_over()
    gather.hand_over()
    assert target.writes == [
        (3 * REGION, b"a" * BLOCK + b"b" * 2 * BLOCK),
        (3 * REGION + 7 * BLOCK, b"c" * BLOCK),
        (3 * REGION + 5 * BLOCK, b"d" * BLOCK),
    ]


def test_a_chunk_that_is_not_kept_is_not_written_and_may_be_tried_again():
    target = Written()
    gather = Gather(write_behind(target, 0), 1 << 40)
    put(gather, 0, b"a" * BLOCK)
    gather.for_chunk(Entry(1, 1, b"x" * 16))[:] = b"?" * BLOCK
    put(gather, 1, b"b" * BLOCK)
    gather.for_chunk(Entry(2, 1, b"x" * 16))[:] = b"?" * BLOCK
    gather.hand_over()
    assert target.writes == [(0, b"a" * BLOCK + b"b" * BLOCK)]


def test_a_run_is_written_before_it_outgrows_its_memory():
    target = Written()
    gather = Gather(write_behind(target, 0), 1 << 40)
    count = RUN_LIMIT // CHUNK_LIMIT + 1
    for number in range(count):
        put(gather, number * LARGEST, bytes([number]) * CHUNK_LIMIT)
    assert [len(body) for _, body in target.writes] == [RUN_LIMIT]
    gather.hand_over()
    assert target.writes[-1] == (RUN_LIMIT, bytes([count - 1]) * CHUNK_LIMIT)


def test_a_last_short_block_ends_with_the_volume():
    target = Written()
    gather = Gather(write_behind(target, 0), BLOCK + 100)
    put(gather, 0, b"a" * BLOCK)
    put(gather, 1, b"b" * 100 + bytes(BLOCK - 100))
    gather.hand_over()
    assert target.writes == [(0, b"a" * BLOCK + b"b" * 100)]
