"""Dataclasses with slots that cost little to declare, and little to make.

`dataclasses.dataclass` writes and compiles up to eleven methods for each class, half a millisecond, while its module is
imported. A command imports dozens of such classes, and makes values of forty: it was a tenth of its start. Here only
`__init__` is compiled, when the first value is made; the other methods are closures over the names of the fields. The
`__init__` fills each slot by its own descriptor, in two thirds of the time of the standard library's.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, ge, gt, le, lt
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, slots: bool, frozen: bool = False, order: bool = False):  # noqa: ANN201 - for checkers it is the one above
        """As `dataclasses.dataclass`, of classes with slots, but without `InitVar` and parameters by keyword alone."""
        assert slots

        def declare(cls: type) -> type:
            # A class and the one that it inherits from must both be frozen, or neither. Two methods are written for it.
            inherits = any(map(dataclasses.is_dataclass, cls.__bases__))
            # Where there is none, dataclasses would write one by the signature, and load a tokenizer for that.
            cls.__doc__ = cls.__doc__ or cls.__name__
            own = {name for name, value in vars(cls).items() if value is not None}  # __hash__ is, below an __eq__
            declared = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, frozen=frozen and inherits)(
                cls
            )
            declared.__dataclass_params__.frozen = frozen
            assert not any(
                isinstance(kind, dataclasses.InitVar) for kind in vars(cls).get("__annotations__", {}).values()
            )
            _check(dataclasses.fields(declared))
            for name, method in _methods(declared, order=order):
                if name not in own:
                    method.__name__, method.__qualname__ = name, f"{declared.__qualname__}.{name}"
                    setattr(declared, name, method)
            if frozen:
                assert own.isdisjoint(("__setattr__", "__delattr__", "__getstate__", "__setstate__"))
                declared.__setattr__ = declared.__delattr__ = _refuse
                declared.__getstate__, declared.__setstate__ = _get_state, _set_state
            elif "__hash__" not in own:
                declared.__hash__ = None  # what changes has no hash
            return declared

        return declare


def _check(fields: "Sequence[dataclasses.Field[Any]]") -> None:
    """What `__init__` cannot be written for is found when the class is declared, and not when its first value is made."""
    needed = [_is_needed(field) for field in fields]
    assert not any(field.kw_only for field in fields), "parameters by keyword alone are not written here"
    assert all(field.init or not one for field, one in zip(fields, needed, strict=True)), "a field gets no value"
    in_order = [one for field, one in zip(fields, needed, strict=True) if field.init]
    assert in_order == sorted(in_order, reverse=True), "a field without a default comes after one with a default"


def _is_needed(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _methods(cls: Any, *, order: bool) -> Iterator[tuple[str, Any]]:
    """What the standard library would write, by name."""
    fields = dataclasses.fields(cls)
    compared = _getter([field.name for field in fields if field.compare])
    hashed = _getter([field.name for field in fields if (field.compare if field.hash is None else field.hash)])
    shown = [field.name for field in fields if field.repr]

    def __init__(self: Any, *args: object, **kwargs: object) -> None:  # noqa: N807 - it is one
        cls.__init__ = _compiled_init(cls)
        cls.__init__(self, *args, **kwargs)

    def __repr__(self: Any) -> str:  # noqa: N807
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({values})"

    def __eq__(self: Any, other: Any) -> bool:  # noqa: N807
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(hashed(self))

    yield from (("__init__", __init__), ("__repr__", __repr__), ("__eq__", __eq__), ("__hash__", __hash__))
    for compare in (lt, le, gt, ge) if order else ():
        yield f"__{compare.__name__}__", _comparison(compare, compared)


def _comparison(compare: Callable[[Any, Any], bool], compared: Callable[[Any], object]) -> Callable[[Any, Any], bool]:
    def method(self: Any, other: Any) -> bool:
        return compare(compared(self), compared(other)) if other.__class__ is self.__class__ else NotImplemented

    return method


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[object, ...]]:
    """Gives the values of these fields as a tuple, even if there are fewer than two."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _compiled_init(cls: type) -> Any:
    """A function that takes the fields, puts each into its slot, and calls `__post_init__` where there is one."""
    known: dict[str, Any] = {"_unset": _UNSET}
    parameters, steps = [], []
    for field in dataclasses.fields(cls):
        name = field.name
        known[f"_put_{name}"] = getattr(cls, name).__set__  # the slot's own: __setattr__ refuses
        value, parameter = name, name
        if field.default is not dataclasses.MISSING:
            known[f"_default_{name}"] = field.default
            value, parameter = name if field.init else f"_default_{name}", f"{name}=_default_{name}"
        elif field.default_factory is not dataclasses.MISSING:
            known[f"_make_{name}"] = field.default_factory
            value = f"_make_{name}() if {name} is _unset else {name}" if field.init else f"_make_{name}()"
            parameter = f"{name}=_unset"
        if field.init:
            parameters.append(parameter)
        steps.append(f"_put_{name}(self, {value})")
    if hasattr(cls, "__post_init__"):
        steps.append("self.__post_init__()")
    exec(f"def __init__({', '.join(['self', *parameters])}):\n " + "\n ".join(steps or ["pass"]), known)  # noqa: S102
    init = known["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


_UNSET: Final = object()


def _refuse(self: object, name: str, *_: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change field {name!r}")


def _get_state(self: Any) -> list[object]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[object]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
