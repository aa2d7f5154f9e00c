"""Hostile input for parsers: valid bytes and documents, changed as chance or malice would.

ROKCTL_TEST_FUZZ=N makes N times as many examples as usual of every test that is `fuzzed`.
"""

import json
import os
import random
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st

_TIMES = int(os.environ.get("ROKCTL_TEST_FUZZ") or 1)


def fuzzed(share: float = 1) -> Callable:
    """The settings of a fuzz test: `share` of the usual number of examples, and no limit to the time of one."""
    return settings(max_examples=max(1, round(settings.default.max_examples * share * _TIMES)), deadline=None)


@st.composite
def spoiled(draw: st.DrawFn, blob: bytes) -> bytes:
    """The blob with bytes flipped, cut out, doubled, put in, or with its end missing; never as it was."""
    seeds = draw(st.lists(st.integers(0, 2**32), min_size=1, max_size=3))
    body = bytearray(blob)
    for seed in seeds:
        rnd = random.Random(seed)
        first, last = sorted((rnd.randrange(len(body) + 1), rnd.randrange(len(body) + 1)))
        match rnd.randrange(5):
            case 0:
                body[first : first + 1] = bytes([rnd.randrange(256)])
            case 1:
                del body[first:last]
            case 2:
                body[first:first] = body[first:last]
            case 3:
                body[first : first + rnd.choice((1, 2, 4, 8))] = rnd.choice((b"\0", b"\xff")) * rnd.choice((1, 2, 4, 8))
            case _:
                del body[first:]
    return bytes(body) if body != blob else bytes(body) + b"\0"


_INTEGERS = [0, -1, 1, 2, 255, 2**16, 2**31, 2**32, 2**53, 2**62, 2**63, 2**64, 10**30, -(10**30), 10**400]
_FLOATS = [0.0, 0.5, -1.5, 1e308, float("inf"), float("-inf"), float("nan")]
_TEXTS = [
    "", "x", "\0", "\n", "\x1b[2J", "\ud800", "\udcff", "a\u0301", "\u202e", "..", "/", "a/b", "@", "ab" * 16, "AB" * 16,
    "ab" * 15, "00" * 16, "x" * 5000, "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59+00:00",
    "0001-01-01T00:00:00+00:00", "2026-11-24T08:00:00", "2026-11-24", "20261124T08Z", "2026-11-24T08:00:00+00:00:00.000001",
]  # fmt: skip


def nested(depth: int) -> object:
    """A list in a list in a list."""
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from(_INTEGERS)
    | st.sampled_from(_FLOATS)
    | st.sampled_from(_TEXTS)
    | st.integers()
    | st.text(max_size=20)
)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.sampled_from(_TEXTS) | st.text(max_size=5), scalars, max_size=3),
    st.sampled_from([30, 40, 300, 900]).map(nested),
)


@st.composite
def twisted(draw: st.DrawFn, document: object) -> object:
    """The JSON document with one to three of its values replaced, taken out, or joined by another."""
    twist = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        holders = [holder for holder in _containers(twist) if holder]
        if not holders:
            break
        holder = draw(st.sampled_from(holders))
        place = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"])):
            case "replace":
                holder[place] = draw(values)
            case "remove":
                del holder[place]
            case _ if isinstance(holder, dict):
                holder[draw(st.sampled_from(_TEXTS) | st.text(max_size=5))] = draw(values)
            case _:
                holder.append(draw(values))
    return twist


def _containers(value: object) -> list:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    found = [value] if isinstance(value, dict | list) else []
    for one in inner:
        found += _containers(one)
    return found


def as_json(value: object) -> bytes:
    """JSON as no careful program writes it: NaN and halves of surrogate pairs included."""
    return json.dumps(value).encode()
