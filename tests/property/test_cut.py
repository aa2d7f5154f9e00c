"""Where chunks begin and end, against the words of the rule, read one block at a time."""

import os
import random
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from engine.chunk.cut import BLOCK, Fresh, Hole, Kept, Window, cut, recut

SEED = 0x5EED_0F_7E57
SMALL = 144 * BLOCK  # the smallest window there may be
WINDOWS = {size: Window(size) for size in (SMALL, 256 * BLOCK, 1024 * BLOCK)}

# The rule in words ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """What the rule knows of a block."""

    hash: int
    zero: bool
    tail: bool


@cache
def look(block: bytes, seed: int) -> Look:
    zero = block == bytes(BLOCK)
    return Look(xxh3_64_intdigest(block, seed), zero, not zero and block[-8:] == bytes(8))


def may_end(looks: list[Look], p: int, q: int) -> bool:
    """Whether the chunk that starts at p ends at q, when it has not ended before: the words of the rule, in its order."""
    n = len(looks)

    def middle_of_a_file(first: int, last: int) -> bool:
        return all(not looks[i].tail and not looks[i].zero for i in range(first, last + 1))

    if q == n or looks[q].zero:
        return True
    if looks[q - 1].tail:
        if q - p >= 64:
            return True
        if q + 8 <= n and middle_of_a_file(q, q + 6):
            return True
        if q - 8 >= 0 and middle_of_a_file(q - 8, q - 2):
            return True
    if q - p >= 16 and looks[q].hash < 2**64 // 128:
        return True
    if q - p >= 48 and looks[q].hash < 2**64 // 8:
        return True
    return q - p == 128


def cut_by_the_words(content: list[bytes], seed: int = SEED) -> list[tuple[int, bool]]:
    looks = [look(block, seed) for block in content]
    entries: list[tuple[int, bool]] = []
    p = 0
    while p < len(looks):
        q = p + 1
        if looks[p].zero:
            while q < len(looks) and looks[q].zero:
                q += 1
        else:
            while not may_end(looks, p, q):
                q += 1
        entries.append((q - p, looks[p].zero))
        p = q
    return entries


# Content -------------------------------------------------------------------------------------------------------------


def numbered_block(number: int, tail: bool) -> bytes:
    return number.to_bytes(8, "little") * 511 + (bytes(8) if tail else number.to_bytes(8, "little"))


def sorted_blocks(tail: bool) -> list[list[bytes]]:
    """Blocks by what their hash permits: nothing, an end from 192 KiB on, an end from 64 KiB on."""
    kinds: list[list[bytes]] = [[], [], []]
    for number in range(1, 3000):
        block = numbered_block(number, tail)
        value = look(block, SEED).hash
        kinds[(value < 2**64 // 8) + (value < 2**64 // 128)].append(block)
    return kinds


ZERO = bytes(BLOCK)
MIDDLES, TAILS = sorted_blocks(tail=False), sorted_blocks(tail=True)


def random_content(rng: random.Random, blocks: int) -> list[bytes]:
    """Files and zero runs, or some share of tails and of zero runs; of hashes that permit an end, and of equal blocks."""
    weights = rng.choice([[112, 15, 1], [1, 0, 0], [20, 1, 0], [10, 0, 1], [1, 1, 1]])
    few = rng.random() < 0.2
    zero_run = rng.choice([0, 0, 0.005, 0.02, 0.1])
    tails = rng.choice([0, 0.02, 0.05, 0.1, 0.2, 0.5, 0.95])
    lengths = rng.choice([None, [7, 8, 9], [1, 2, 6, 7, 8, 9, 10, 30, 130], [16, 17, 24, 63, 65, 127, 128, 129]])

    def file_of(length: int) -> list[bytes]:
        kinds = [rng.choices(kind, weights)[0] for kind in [MIDDLES] * (length - 1) + [TAILS]]
        return [kind[0] if few else rng.choice(kind) for kind in kinds]

    content: list[bytes] = []
    while len(content) < blocks:
        if rng.random() < zero_run:
            content += [ZERO] * rng.choice([1, 1, 2, 5, 7, 9, 40, 200])
        elif lengths:
            content += file_of(rng.choice(lengths))
        else:
            content += file_of(1) if rng.random() < tails else file_of(2)[:1]
    return content[:blocks]


def random_range(rng: random.Random, blocks: int) -> range:
    length = min(rng.choice([1, 1, 2, 3, 6, 8, 9, 16, 40, 150]), blocks)
    start = rng.choice([0, blocks - length, *[rng.randrange(blocks - length + 1) for _ in range(6)]])
    return range(start, start + length)


def disjoint(ranges: list[range]) -> list[range]:
    marked = sorted({block for blocks in ranges for block in blocks})
    starts = [block for block in marked if block - 1 not in set(marked)]
    ends = [block + 1 for block in marked if block + 1 not in set(marked)]
    return [range(start, end) for start, end in zip(starts, ends, strict=True)]


def zero_ranges(content: list[bytes]) -> list[range]:
    return disjoint([range(i, i + 1) for i, block in enumerate(content) if block == ZERO])


@dataclass
class Region:
    """A region to read, that knows what was read of it. To read outside it or in a hole is an error."""

    content: list[bytes]
    holes: list[range]

    def __post_init__(self) -> None:
        self.was_read: list[int] = []
        self.reads = 0
        self._joined = b"".join(self.content)

    def read(self, offset: int, target: memoryview) -> None:
        assert offset % BLOCK == len(target) % BLOCK == 0
        assert 0 <= offset < offset + len(target) <= len(self._joined)
        blocks = range(offset // BLOCK, (offset + len(target)) // BLOCK)
        assert not any(max(hole.start, blocks.start) < min(hole.stop, blocks.stop) for hole in self.holes), (
            "read a hole"
        )
        self.was_read += blocks
        self.reads += 1
        target[:] = self._joined[offset : offset + len(target)]


Steps = list[tuple[int, bool]]


def collect(region: Region, steps) -> Steps:
    """The map that the steps make, each step checked against the content of the region."""
    entries: Steps = []
    position = 0
    for step in steps:
        assert step.start == position
        if isinstance(step, Fresh):
            assert bytes(step.body) == b"".join(region.content[position : position + step.blocks])
        position += step.blocks
        entries.append((step.blocks, isinstance(step, Hole)))
    assert position == len(region.content)
    return entries


def cut_all(content: list[bytes], holes: list[range] | None = None, window: int = SMALL, seed: int = SEED) -> Steps:
    region = Region(content, holes or [])
    entries = collect(region, cut(region.read, len(content), seed, WINDOWS[window], region.holes))
    assert len(region.was_read) == len(set(region.was_read)), "a block was read twice"
    return entries


# cut -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case_seed", range(8))
def test_cuts_are_those_of_the_rule_in_words(case_seed):
    rng = random.Random(case_seed)
    for _ in range(150):
        content = random_content(rng, rng.choice([1, 2, 7, 8, 9, 17, 64, 128, 129, rng.randrange(1, 700)]))

        assert cut_all(content) == cut_by_the_words(content)


kinds_of_block = st.one_of(st.sampled_from([ZERO]), *(st.sampled_from(kind[:2]) for kind in (*MIDDLES, *TAILS)))
runs = st.tuples(kinds_of_block, st.one_of(st.integers(1, 10), st.integers(1, 140)))
small_contents = st.lists(runs, min_size=1, max_size=12).map(
    lambda parts: [b for block, n in parts for b in [block] * n]
)


@pytest.mark.slow
@given(small_contents)
@settings(max_examples=300, deadline=None)
def test_cuts_are_those_of_the_rule_in_words_for_any_runs_of_blocks(content):
    assert cut_all(content) == cut_by_the_words(content)


@given(st.integers(0, 2**64 - 1), st.integers(1, 400))
@settings(max_examples=30, deadline=None)
def test_every_seed_gives_the_cuts_of_the_rule(seed, blocks):
    content = random_content(random.Random(seed), blocks)

    assert cut_all(content, seed=seed) == cut_by_the_words(content, seed)


@pytest.mark.slow
def test_the_size_of_the_window_does_not_matter():
    rng = random.Random(3)
    for _ in range(20):
        content = random_content(rng, rng.randrange(1, 3000))

        assert len({tuple(cut_all(content, window=window)) for window in WINDOWS}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("case_seed", range(4))
def test_known_holes_are_not_read_and_change_nothing(case_seed):
    rng = random.Random(case_seed)
    for _ in range(100):
        content = random_content(rng, rng.randrange(1, 600))
        content[rng.randrange(len(content)) :][:300] = []  # some regions end in a hole, some do not
        content += [ZERO] * rng.choice([0, 1, 300])
        if not content:
            continue
        zero = [block for blocks in zero_ranges(content) for block in blocks]
        known = disjoint([range(block, block + 1) for block in zero if rng.random() < 0.7])

        for holes in (zero_ranges(content), known):
            assert cut_all(content, holes) == cut_by_the_words(content)


@pytest.mark.slow
def test_chunks_have_at_most_512_kib_and_no_two_holes_touch():
    rng = random.Random(5)
    for _ in range(50):
        entries = cut_all(random_content(rng, 1500))

        assert all(1 <= blocks <= 128 for blocks, is_hole in entries if not is_hole)
        assert not any(left and right for (_, left), (_, right) in pairwise(entries))


def test_a_big_region_is_read_in_big_pieces():
    content = random_content(random.Random(6), 4096)
    region = Region(content, [])

    collect(region, cut(region.read, 4096, SEED, WINDOWS[1024 * BLOCK]))

    assert region.reads == 5  # 4 MiB, then what is left of 4 MiB beside an unfinished chunk


def test_equal_regions_are_cut_alike_whatever_stood_in_the_window_before():
    rng = random.Random(8)
    content = random_content(rng, 500)
    before = cut_all(content)
    cut_all(random_content(rng, 700))

    assert cut_all(content) == before


def test_a_file_of_32_kib_is_a_chunk_of_its_own_among_small_files():
    small = [MIDDLES[0][0], TAILS[0][0]] * 4
    big = MIDDLES[0][1:8] + TAILS[0][1:2]

    assert cut_all([*small, *big, *small]) == [(8, False), (8, False), (8, False)]


def test_a_hash_is_asked_for_only_where_it_can_say_where_a_chunk_ends(monkeypatch):
    asked: list[tuple[int, int]] = []
    hashes = Window.hashes
    monkeypatch.setattr(Window, "hashes", lambda self, *given: asked.append(given[:2]) or hashes(self, *given))
    small, file = [*MIDDLES[0][:15], TAILS[0][0]], [*MIDDLES[0][:99], TAILS[0][0]]

    assert cut_all([*small, ZERO, *file]) == [(16, False), (1, True), (100, False)]
    assert asked == [(17 + 16, 117)]


def test_a_block_made_to_have_the_hash_of_the_zero_block_is_not_lost():
    # Of xxh3 with a seed: the first two words of its secret, and words that leave its sums as zeros would. In each, one
    # half meets a half of the secret that the seed has made zero, and together they add up to zero.
    first, second = 0xBE4BA423396CFEB8, 0x1CAD21F72C81017C
    low = -first % 2**32
    seed = (((second >> 32) - (low > second % 2**32)) % 2**32 << 32) | low
    first_key, second_key = (first + seed) % 2**64, (second - seed) % 2**64
    assert first_key % 2**32 == second_key >> 32 == 0
    word = (first_key >> 32 << 32) | (-second_key % 2**32)
    made = bytearray(BLOCK)
    made[0:8] = word.to_bytes(8, "little")
    made[64:72] = (-word % 2**64).to_bytes(8, "little")
    assert xxh3_64_intdigest(bytes(made), seed) == xxh3_64_intdigest(ZERO, seed)

    assert cut_all([ZERO, bytes(made), ZERO], seed=seed) == [(1, True), (1, False), (1, True)]


def test_a_body_cannot_be_used_after_the_next_step():
    content = random_content(random.Random(2), 300)
    region = Region(content, [])
    steps = cut(region.read, 300, SEED, WINDOWS[SMALL])
    chunk = next(step for step in steps if isinstance(step, Fresh))
    next(steps)

    with pytest.raises(ValueError, match="released"):
        bytes(chunk.body)


def test_a_body_cannot_be_changed():
    region = Region([MIDDLES[0][0]], [])
    chunk = next(cut(region.read, 1, SEED, WINDOWS[SMALL]))

    assert isinstance(chunk, Fresh)
    assert chunk.body.readonly


def test_a_window_serves_one_pass_at_a_time():
    region = Region(random_content(random.Random(2), 300), [])
    first = cut(region.read, 300, SEED, WINDOWS[SMALL])
    next(first)
    next(cut(region.read, 300, SEED, WINDOWS[SMALL]))

    with pytest.raises(AssertionError, match="another pass"):
        list(first)


def test_what_read_raises_passes_through():
    def broken(offset: int, target: memoryview) -> None:
        raise OSError(f"no bytes at {offset}")

    with pytest.raises(OSError, match="no bytes at 0"):
        list(cut(broken, 10, SEED, WINDOWS[SMALL]))


# recut ---------------------------------------------------------------------------------------------------------------


def changed_content(rng: random.Random, old: list[bytes]) -> tuple[list[bytes], list[range]]:
    """Another content, and ranges that cover where it differs."""
    new, ranges = list(old), [random_range(rng, len(old)) for _ in range(rng.randrange(1, 6))]
    for blocks in ranges:
        match rng.randrange(4):
            case 0:
                new[blocks.start : blocks.stop] = [ZERO] * len(blocks)
            case 1:
                new[blocks.start : blocks.stop] = random_content(rng, len(blocks))
            case 2:  # a byte here and there; the rest of the range is as it was
                at = rng.choice(blocks)
                new[at] = rng.choice([ZERO, rng.choice(TAILS[0]), rng.choice(MIDDLES[0]), rng.choice(MIDDLES[2])])
            case 3:  # moved, as a file that was written again
                source = rng.randrange(len(old))
                copy = old[source : source + len(blocks)]
                new[blocks.start : blocks.start + len(copy)] = copy
                new[len(old) :] = []
    return new, disjoint(ranges)


def check_recut(rng: random.Random, old: list[bytes]) -> None:
    new, changed = changed_content(rng, old)
    old_map = cut_all(old)
    now_zero = [blocks for blocks in zero_ranges(new) if rng.random() < 0.5]
    window = WINDOWS[rng.choice(list(WINDOWS))]
    region = Region(new, now_zero)

    steps = []

    def watched():
        for step in recut(region.read, len(new), SEED, window, old_map, changed, now_zero):
            steps.append(step)
            yield step

    assert collect(region, watched()) == cut_by_the_words(new)
    check_what_is_kept(steps, old_map, changed)
    check_what_was_read(region, steps, changed)


def check_what_is_kept(steps: list[Fresh | Hole | Kept], old_map: Steps, changed: list[range]) -> None:
    starts = [sum(blocks for blocks, _ in old_map[:entry]) for entry in range(len(old_map))]
    differs = {block for blocks in changed for block in blocks}
    for step in steps:
        if isinstance(step, Kept):
            assert (starts[step.entry], old_map[step.entry]) == (step.start, (step.blocks, False))
            assert differs.isdisjoint(range(step.start, step.start + step.blocks))


def check_what_was_read(region: Region, steps: list[Fresh | Hole | Kept], changed: list[range]) -> None:
    """Only what was cut anew is read, with what is looked at around it, and once."""
    near: set[int] = set()
    for step in steps:
        if not isinstance(step, Kept):
            near.update(range(step.start - 7, step.start + step.blocks + 128 + 7))
    assert near.issuperset(region.was_read)
    assert len(region.was_read) == len(set(region.was_read)), "a block was read twice"


def check_many_recuts(rng: random.Random, cases: int) -> None:
    for _ in range(cases):
        blocks = rng.choice([rng.randrange(1, 60), rng.randrange(1, 300), rng.randrange(200, 700)])
        check_recut(rng, random_content(rng, blocks))


@pytest.mark.slow
@pytest.mark.parametrize("case_seed", range(3))
def test_recut_gives_what_cut_gives(case_seed):
    check_many_recuts(random.Random(case_seed), 250)


@pytest.mark.slow
@pytest.mark.parametrize("case_seed", range(100, 110))
def test_recut_gives_what_cut_gives_in_many_more_cases(case_seed):
    check_many_recuts(random.Random(case_seed), int(os.environ.get("ROKCTL_TEST_RECUTS", "250")))


@pytest.mark.slow
@given(st.randoms(use_true_random=False), small_contents)
@settings(max_examples=100, deadline=None)
def test_recut_gives_what_cut_gives_for_any_runs_of_blocks(rng, content):
    check_recut(rng, content)


def test_nothing_is_read_when_nothing_changed():
    content = random_content(random.Random(4), 800)
    old_map = cut_all(content)
    region = Region(content, [])

    assert collect(region, recut(region.read, 800, SEED, WINDOWS[SMALL], old_map, [])) == old_map
    assert region.was_read == []


def test_scattered_changes_cost_what_stands_around_them():
    rng = random.Random(9)
    old = [block for _ in range(80) for block in [*rng.sample(MIDDLES[0], 99), rng.choice(TAILS[0])]]
    old_map = cut_all(old)
    new, changed = list(old), [range(start, start + 1) for start in range(250, 8000, 500)]
    for blocks in changed:
        new[blocks.start] = rng.choice(MIDDLES[0])
    region = Region(new, [])

    assert collect(region, recut(region.read, 8000, SEED, WINDOWS[SMALL], old_map, changed)) == cut_all(new)
    assert region.reads <= 2 * len(changed)
    assert len(region.was_read) <= 116 * len(changed)  # a file of 100 blocks, and 7 and 7 around


def test_changes_that_touch_the_same_chunks_are_read_together():
    rng = random.Random(10)
    old = [*rng.sample(MIDDLES[0], 1000), *[ZERO] * 3, *rng.sample(MIDDLES[0], 1000)]
    changed = [range(start, start + 4) for start in range(100, 1900, 8)]
    region = Region(old, [])

    collect(region, recut(region.read, 2003, SEED, WINDOWS[1024 * BLOCK], cut_all(old), changed))

    assert region.reads == 2


def test_a_long_old_hole_is_not_read_again_nor_what_stands_before_it():
    old = [*MIDDLES[0][:20], *[ZERO] * 16, *MIDDLES[0][:20]]
    region = Region(old, [])

    steps = recut(region.read, 56, SEED, WINDOWS[SMALL], cut_all(old), [range(40, 41)])

    assert collect(region, steps) == [(20, False), (16, True), (20, False)]
    assert region.was_read == list(range(36, 56))


def test_recut_looks_at_as_many_blocks_before_a_chunk_as_decide_where_it_ends():
    middle, other, tail = *MIDDLES[0][:2], TAILS[0][0]
    old = [*[middle] * 128, tail, *[middle] * 30]  # block 121 makes it a big file that ends at 129
    new = [*old[:135], other, *old[136:]]
    region = Region(new, [])

    steps = recut(region.read, 159, SEED, WINDOWS[SMALL], cut_all(old), [range(135, 136)])

    assert collect(region, steps) == [(128, False), (1, False), (30, False)]
    assert region.was_read == list(range(121, 159))


def test_a_new_hole_counts_as_a_change():
    old = MIDDLES[0][:100]
    new = [*old[:50], ZERO, *old[51:]]
    region = Region(new, [range(50, 51)])

    steps = recut(region.read, 100, SEED, WINDOWS[SMALL], cut_all(old), [], [range(50, 51)])

    assert collect(region, steps) == [(50, False), (1, True), (49, False)]


def test_a_hole_that_fills_the_gap_between_two_old_ones_makes_one_of_them():
    middle = MIDDLES[0][:20]
    old = [*middle, *[ZERO] * 20, *middle, *[ZERO] * 20, *middle]
    region = Region([*middle, *[ZERO] * 60, *middle], [range(20, 80)])

    steps = recut(region.read, 100, SEED, WINDOWS[SMALL], cut_all(old), [], [range(40, 60)])

    assert list(steps) == [Kept(0, 20, 0), Hole(20, 60), Kept(80, 20, 4)]


def test_an_old_map_of_another_size_is_not_taken():
    region = Region([ZERO] * 10, [])

    with pytest.raises(AssertionError, match="old map covers 9 blocks"):
        recut(region.read, 10, SEED, WINDOWS[SMALL], [(9, True)], [])
