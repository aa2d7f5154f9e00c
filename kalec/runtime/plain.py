"""Plain data as JSON, and back with exactly the types it had: tuples, sets, bytes, dates, any dictionary key.

What JSON has stands as itself. Everything else is an object with one key that begins with "$": `{"$tuple": [1, 2]}`. An
object that is met again is written once, as `{"$shared": [0, …]}`, and is `{"$ref": 0}` after that, so that what was one
object is one object again. Arrays and frames are left to a `Leaves`, which writes files of their own.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import fractions
import itertools
import math
import pathlib
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, Protocol

from kalec.runtime.formats import make_view, owner, window

ATOMS = frozenset({type(None), bool, int, str})
NUMBERS = ATOMS | {float}


class NotPlain(Exception):
    """A value holds something that JSON and the leaves cannot carry exactly; it is pickled instead."""


class Leaves(Protocol):
    """What is not plain data itself and may stand inside it."""

    def fits(self, value: Any) -> bool:
        """Whether `write` keeps this value exactly."""

    def write(self, value: Any) -> dict[str, Any]:
        """Keep the value, and return the JSON object that `read` knows it by. Its keys begin with "$"."""

    def read(self, node: dict[str, Any]) -> Any:
        """The value again."""


class Shape:
    """How one type of container is taken apart and made again. `shared` is whether its identity can be noticed."""

    def __init__(self, kind: type, take: Callable[[Any], Any], make: Callable[[list[Any]], Any], shared: bool) -> None:
        self.kind, self.take, self.make, self.shared = kind, take, make, shared


def _pairs(value: Any) -> list[Any]:
    return list(itertools.chain.from_iterable(value.items()))


def _paired(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2]))


SHAPES = {
    "tuple": Shape(tuple, list, tuple, shared=False),
    "set": Shape(set, list, set, shared=True),
    "frozenset": Shape(frozenset, list, frozenset, shared=False),
    "dict": Shape(dict, _pairs, lambda items: dict(_paired(items)), shared=True),
    "OrderedDict": Shape(OrderedDict, _pairs, lambda items: OrderedDict(_paired(items)), shared=True),
    "Counter": Shape(Counter, _pairs, lambda items: Counter(dict(_paired(items))), shared=True),
    "deque": Shape(deque, lambda v: [v.maxlen, *v], lambda items: deque(items[1:], items[0]), shared=True),
    "slice": Shape(slice, lambda v: [v.start, v.stop, v.step], lambda items: slice(*items), shared=False),
    "range": Shape(range, lambda v: [v.start, v.stop, v.step], lambda items: range(*items), shared=False),
}
SHAPE_OF = {shape.kind: (tag, shape) for tag, shape in SHAPES.items()}


def _base64(value: Any) -> str:
    return base64.b64encode(value).decode("ascii")


# Types whose values are one text: how to write it, and how to read it. Only a naive datetime is told whole by isoformat.
TEXTS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "float": (float, repr, float),
    "complex": (complex, lambda v: f"{v.real!r} {v.imag!r}", lambda text: complex(*map(float, text.split()))),
    "bytes": (bytes, _base64, base64.b64decode),
    "bytearray": (bytearray, _base64, lambda text: bytearray(base64.b64decode(text))),
    "Decimal": (decimal.Decimal, str, decimal.Decimal),
    "Fraction": (fractions.Fraction, str, fractions.Fraction),
    "UUID": (uuid.UUID, str, uuid.UUID),
    "Path": (type(pathlib.Path()), str, pathlib.Path),
    "PurePosixPath": (pathlib.PurePosixPath, str, pathlib.PurePosixPath),
    "date": (datetime.date, str, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "timedelta": (
        datetime.timedelta,
        lambda v: f"{v.days} {v.seconds} {v.microseconds}",
        lambda text: datetime.timedelta(*map(int, text.split())),
    ),
    "Ellipsis": (type(...), str, lambda _: ...),
}
TEXT_OF = {kind: (tag, write) for tag, (kind, write, _) in TEXTS.items()}


class Survey:
    """A walk through values: whether they are plain, and which objects in them can be noticed to be the same.

    `visits` counts, for the id of each such object, how often it was met.
    """

    def __init__(self, leaves: Leaves) -> None:
        self.visits: dict[int, int] = {}
        self._leaves = leaves
        self._open: set[int] = set()

    def walk(self, value: Any) -> None:
        """Take `value` in. Raises NotPlain."""
        kind = type(value)
        if kind in ATOMS or kind is float or (kind in TEXT_OF and kind is not bytearray):
            if getattr(value, "tzinfo", None) is not None or getattr(value, "fold", False):
                raise NotPlain("a time zone has no format of its own")
            return
        children = self._children(value)
        if children is None:
            if self._meet(value) and owner(value) is not value:
                self._meet(owner(value))  # another window into that memory must show what is written through this one
            return
        if id(value) in self._open:
            raise NotPlain("it contains itself")
        if _shared(value) and not self._meet(value):
            return
        self._open.add(id(value))
        for child in children:
            self.walk(child)
        self._open.discard(id(value))

    def _children(self, value: Any) -> Any:
        """What a container holds; None for what holds nothing. Runs of atoms are left out."""
        kind = type(value)
        if kind is bytearray:
            return None
        if kind is list or (kind in SHAPE_OF and kind is not range):
            children = value if kind in (list, tuple, set, frozenset) else SHAPE_OF[kind][1].take(value)
            return () if _is_json(children) else children
        if kind is range:
            return ()
        if objects(value):
            return value.ravel(order="K").tolist()
        if self._leaves.fits(value):
            return None
        raise NotPlain(f"{kind.__qualname__} has no format of its own")

    def _meet(self, value: Any) -> bool:
        """Count the object; whether it is new."""
        self.visits[id(value)] = self.visits.get(id(value), 0) + 1
        return self.visits[id(value)] == 1


def encode(value: Any, visits: dict[int, int], numbers: dict[int, int], leaves: Leaves) -> Any:
    """The JSON form of a value that a `Survey` has walked, whose `visits` these are.

    `numbers` are those of the shared objects so far; hand the same one to every call for one document.
    """

    def inner(child: Any) -> Any:
        return encode(child, visits, numbers, leaves)

    if visits.get(id(value), 1) < 2:
        return _encode_new(value, inner, visits, leaves)
    if id(value) in numbers:
        return {"$ref": numbers[id(value)]}
    number = numbers[id(value)] = len(numbers)
    return {"$shared": [number, _encode_new(value, inner, visits, leaves)]}


def decode(node: Any, shared: dict[int, Any], leaves: Leaves) -> Any:
    """The value again. `shared` collects the shared objects; hand the same one to every call for one document."""
    if isinstance(node, list):
        return node if NUMBERS.issuperset(map(type, node)) else [decode(child, shared, leaves) for child in node]
    if not isinstance(node, dict):
        return node
    tag = next(iter(node), "")
    if not tag.startswith("$"):
        return {key: decode(child, shared, leaves) for key, child in node.items()}
    body = node[tag]
    if tag == "$ref":
        return shared[body]
    if tag == "$shared":
        shared[body[0]] = decode(body[1], shared, leaves)
        return shared[body[0]]
    if tag == "$objects":
        return _object_array([decode(child, shared, leaves) for child in body], node["shape"], node["order"])
    if tag == "$view":
        return make_view(decode(body, shared, leaves), node["place"])
    if tag[1:] in SHAPES:
        return SHAPES[tag[1:]].make(decode(body, shared, leaves))
    if tag[1:] in TEXTS:
        return TEXTS[tag[1:]][2](body)
    return leaves.read(node)


def objects(value: Any) -> bool:
    """Whether this is an array of Python objects: its items stand in the JSON, each as itself."""
    kind = type(value)
    return (
        kind.__module__ == "numpy" and kind.__name__ == "ndarray" and value.dtype.str == "|O" and value.flags.writeable
    )


def _is_json(items: Any) -> bool:
    """Whether JSON has every item as it is. In C: the long lists are of numbers."""
    kinds = set(map(type, items))
    return kinds <= ATOMS or (kinds <= NUMBERS and all(math.isfinite(item) for item in items if type(item) is float))


def _shared(value: Any) -> bool:
    kind = type(value)
    return kind not in SHAPE_OF or SHAPE_OF[kind][1].shared


def _encode_new(value: Any, inner: Callable[[Any], Any], visits: dict[int, int], leaves: Leaves) -> Any:
    kind = type(value)
    if kind in ATOMS:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return value if _is_json(value) else [inner(child) for child in value]
    if kind is dict and all(type(key) is str and not key.startswith("$") for key in value):
        return {key: inner(child) for key, child in value.items()}
    if kind in SHAPE_OF:
        tag, shape = SHAPE_OF[kind]
        taken = shape.take(value)
        items = taken if _is_json(taken) else [inner(child) for child in taken]
        return {f"${tag}": sorted(items, key=repr) if kind in (set, frozenset) else items}
    if kind in TEXT_OF:
        tag, write = TEXT_OF[kind]
        return {f"${tag}": write(value)}
    if objects(value):
        order = "F" if value.flags.fnc else "C"
        items = [inner(child) for child in value.ravel(order=order).tolist()]
        return {"$objects": items, "shape": list(value.shape), "order": order}
    whole = owner(value)
    if whole is not value and visits[id(whole)] > 1:
        return {"$view": inner(whole), "place": window(value, whole)}
    return leaves.write(value)


def _object_array(items: list[Any], shape: list[int], order: Any) -> Any:
    import numpy as np

    flat = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):  # a slice assignment would take a list among them apart
        flat[position] = item
    return flat.reshape(shape, order=order)
