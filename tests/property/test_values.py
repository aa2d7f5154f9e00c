"""A class of `engine.values` is as one of `dataclasses`, however its first value comes to be."""

import copy
import dataclasses
import inspect
import itertools
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import values

Item = TypeVar("Item")


def declared_by(dataclass: Callable[..., Callable[[type], type]]) -> tuple[type, type]:
    @dataclass(frozen=True, slots=True, order=True)
    class Pair:
        """Two numbers, the first not negative."""

        first: int
        second: int = 7
        rest: tuple[int, ...] = dataclasses.field(default_factory=tuple)
        kind: str = dataclasses.field(default="pair", init=False)

        def __post_init__(self) -> None:
            if self.first < 0:
                raise ValueError("negative")

        @property
        def total(self) -> int:
            return self.first + self.second

    @dataclass(frozen=True, slots=True)
    class Holder(Generic[Item]):
        """What another class says of itself in its own words is kept."""

        item: Item

        def __repr__(self) -> str:
            return f"<{self.item}>"

    return Pair, Holder


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    name: str
    size: int = 0


@values.dataclass(frozen=True, slots=True)
class Ours:
    name: str
    size: int = 0


numbers = st.integers(-2, 9)


@given(st.lists(numbers, max_size=4), st.dictionaries(st.sampled_from(["first", "second", "rest", "other"]), numbers))
def test_it_takes_and_refuses_the_same_arguments_and_gives_the_same_values(args, kwargs):
    def outcome(dataclass):
        pair, _ = declared_by(dataclass)
        try:
            made = pair(*args, **kwargs)
        except (TypeError, ValueError) as error:
            return type(error), str(error)
        return repr(made), made.total, dataclasses.asdict(made), hash(made), made == pair(*args, **kwargs)

    assert outcome(values.dataclass) == outcome(dataclasses.dataclass)


@given(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_values_are_equal_and_ordered_as_those_of_the_standard_library(one, other):
    def outcome(dataclass):
        pair, holder = declared_by(dataclass)
        a, b = pair(*one), pair(*other)
        return a == b, a < b, a <= b, a > b, a >= b, hash(a) == hash(b), holder(one) == holder(other), repr(holder(one))

    assert outcome(values.dataclass) == outcome(dataclasses.dataclass)


def test_values_of_two_classes_are_never_equal():
    assert Ours("a") != Known("a")
    assert Ours("a") != ("a", 0)


@pytest.mark.parametrize("change", [lambda one: setattr(one, "size", 1), lambda one: delattr(one, "size")])
def test_a_value_does_not_change(change):
    one = Ours("a", 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        change(one)
    assert one == Ours("a", 0)


def test_one_that_is_not_frozen_changes_has_no_hash_and_is_else_the_same():
    def outcome(dataclass):
        @dataclass(slots=True)
        class Counts:
            name: str
            seen: list[int] = dataclasses.field(default_factory=list)

        one, same = Counts("a"), Counts("a", [])
        one.seen.append(1)
        one.name = "b"
        copied = copy.deepcopy(one)
        return repr(one), one == same, copied == one, copied is one, Counts.__hash__, same == Counts("a")

    assert outcome(values.dataclass) == outcome(dataclasses.dataclass)


def test_it_has_the_fields_the_patterns_and_the_replacement_of_a_dataclass():
    assert [entry.name for entry in dataclasses.fields(Ours)] == ["name", "size"]
    assert dataclasses.replace(Ours("a", 1), size=2) == Ours("a", 2)
    match Ours("a", 3):
        case Ours(name, size):
            assert (name, size) == ("a", 3)
    assert not hasattr(Ours("a"), "__dict__")


@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copied_or_unpickled_value_is_equal(through):
    assert through(Ours("a", 5)) == Ours("a", 5)


@pytest.mark.parametrize(
    ("below", "above"), list(itertools.product([values.dataclass, dataclasses.dataclass], repeat=2))
)
def test_one_class_inherits_from_another_whichever_of_them_is_ours(below, above):
    @below(frozen=True, slots=True)
    class Base:
        name: str

    @above(frozen=True, slots=True)
    class Derived(Base):
        size: int = 3

    assert dataclasses.asdict(Derived("a")) == {"name": "a", "size": 3}
    assert Derived("a") == Derived("a", 3) != Base("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Derived("a").name = "b"


@pytest.mark.parametrize("number", range(20))
def test_the_first_values_may_be_made_by_several_threads_at_once(number):
    @values.dataclass(frozen=True, slots=True)
    class Fresh:
        name: str
        size: int = 0

    start = threading.Barrier(6)

    def make(size):
        start.wait()
        return Fresh("a", size)

    with ThreadPoolExecutor(6) as crew:
        made = list(crew.map(make, range(6)))
    assert [one.size for one in made] == list(range(6))


@pytest.mark.parametrize(
    "fields",
    [
        {"later": (int, dataclasses.field(kw_only=True))},
        {"never": (int, dataclasses.field(init=False))},
        {"first": (int, 1), "second": (int, dataclasses.MISSING)},
    ],
    ids=["by keyword alone", "without a value", "out of order"],
)
def test_what_no_value_can_be_made_of_is_found_when_it_is_declared(fields):
    lines = {name: value for name, (_, value) in fields.items() if value is not dataclasses.MISSING}
    lines["__annotations__"] = {name: kind for name, (kind, _) in fields.items()}
    with pytest.raises(AssertionError):
        values.dataclass(frozen=True, slots=True)(type("Wrong", (), lines))


def test_the_first_value_may_be_an_unpickled_one():
    @values.dataclass(frozen=True, slots=True)
    class Fresh:
        name: str

    first, second = Fresh.__new__(Fresh), Fresh.__new__(Fresh)
    first.__setstate__(["a"])
    second.__setstate__(["a"])
    assert first == second
    assert repr(first).endswith("Fresh(name='a')")


def test_a_class_without_words_of_its_own_is_declared_without_a_look_at_its_signature(monkeypatch):
    monkeypatch.setattr(inspect, "signature", lambda _: pytest.fail("looked at"))

    @values.dataclass(frozen=True, slots=True)
    class Wordless:
        number: int

    assert Wordless.__doc__ == "Wordless"
