"""Frozen dataclasses whose methods are written when the first value is made.

`dataclasses.dataclass` writes and compiles up to eleven methods for each class, half a millisecond, while its module is
imported. A command imports dozens of such classes, and uses a few: it was a fifth of its start.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool, slots: bool, order: bool = False):  # noqa: ANN201 - for checkers it is the one above
        """As `dataclasses.dataclass`, of frozen classes with slots; until the first value is made, its methods are stand-ins."""
        assert frozen
        assert slots

        def declare(cls: type) -> type:
            lines = {name: value for name, value in vars(cls).items() if name not in ("__dict__", "__weakref__")}
            lines["__qualname__"] = cls.__qualname__
            # A class and the one that it inherits from must both be frozen, or neither. Two methods are written for it.
            inherits = any(map(dataclasses.is_dataclass, cls.__bases__))
            declared = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, frozen=inherits)(cls)
            declared.__dataclass_params__.frozen = True

            def complete() -> None:
                """Take the methods from a class that the standard library makes of the same lines."""
                whole = dataclasses.dataclass(frozen=True, slots=True, order=order)(
                    type(cls)(cls.__name__, cls.__bases__, lines)
                )
                for name in _METHODS:
                    if name in vars(whole):
                        setattr(declared, name, vars(whole)[name])
                # What makes values comes last: another thread has either all methods, or completes the class once more.
                declared.__setstate__ = _set_state
                declared.__init__ = vars(whole)["__init__"]

            # These two make every value: `_set_state` the copied and the unpickled ones.
            def __init__(self: Any, *args: object, **kwargs: object) -> None:  # noqa: N807 - it is one
                complete()
                self.__init__(*args, **kwargs)

            def __setstate__(self: Any, state: list[object]) -> None:  # noqa: N807 - it is one
                complete()
                self.__setstate__(state)

            declared.__init__, declared.__setstate__, declared.__getstate__ = __init__, __setstate__, _get_state
            declared.__setattr__ = declared.__delattr__ = _refuse
            return declared

        return declare


_METHODS: Final = ("__repr__", "__eq__", "__hash__", "__lt__", "__le__", "__gt__", "__ge__")


def _refuse(self: object, name: str, *_: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot change field {name!r}")


def _get_state(self: Any) -> list[object]:
    return [getattr(self, entry.name) for entry in dataclasses.fields(self)]


def _set_state(self: Any, state: list[object]) -> None:
    for entry, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, entry.name, value)
