"""Pickle, for what has no format of its own: notebook classes stay what they are, and any function travels.

A class or function that the notebook defines at its top is pickled as its name in `__main__`: every step executes its
source, so `type(a) is type(b)` holds. A function that has no such name (a lambda, a closure, one that was redefined)
travels as code, and its globals are those of the step that it comes to. Modules travel as their names.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import marshal
import pickle
import sys
import types
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator
from enum import Enum
from typing import IO, Any

from kalec.runtime.failure import StepError
from kalec.runtime.formats import make_view, owner, window

UNNOTICED = (type(None), bool, int, float, complex, str, bytes, tuple, frozenset, type, types.FunctionType,
             types.BuiltinFunctionType, types.ModuleType, Enum)  # fmt: skip

# Views of a dictionary, which show what it holds now: each is asked of its dictionary again.
VIEWS: dict[type, Callable[[Any], Any]] = {
    type(ask(kind())): ask for kind in (dict, OrderedDict) for ask in (kind.keys, kind.values, kind.items)
}


class ByValue:
    """What a pickler needs to take functions of the notebook along. `parts` are the objects whose identity can be noticed."""

    def __init__(self, file: IO[bytes], shared: Collection[int] = (), **options: Any) -> None:
        super().__init__(file, **options)  # type: ignore[call-arg]  # of the pickler that this is mixed into
        self.parts: dict[int, Any] = {}
        self.windows: Counter[int] = Counter()  # by the id of an array that owns memory: how many arrays lie in it
        self._met: set[int] = set()
        self.shared = shared  # the ids of those that several arrays of this pickle lie in
        self.last: Any = None  # what was being pickled when it failed

    def persistent_id(self, value: Any) -> str | None:
        """The name of a function of this file, which has no module to be found in. This sees every object, also lists."""
        if type(value) is types.FunctionType and TRAVELLING.get(value.__name__) is value:
            return value.__name__
        if isinstance(value, UNNOTICED) or type(value).__name__.lower().endswith("dtype") or id(value) in self._met:
            return None
        self._met.add(id(value))
        whole = owner(value)
        self.parts[id(value)] = value  # kept, so that no other object gets the same id
        self.parts[id(whole)] = whole
        self.windows[id(whole)] += 1
        return None

    def reducer_override(self, value: Any) -> Any:
        """Reduce a function that no name leads to, a module, and a view of a dictionary."""
        self.last = value
        if id(owner(value)) in self.shared and owner(value) is not value:
            return make_view, (owner(value), window(value, owner(value)))
        if isinstance(value, types.ModuleType):
            return importlib.import_module, (value.__name__,)
        if isinstance(value, types.CellType):
            return make_cell, ()
        if type(value) in VIEWS:
            return VIEWS[type(value)], (gc.get_referents(value)[0],)  # its `mapping` is only a proxy of the dictionary
        if isinstance(value, types.FunctionType):
            if not _has_name(value):
                return _function(value)
        elif isinstance(value, type) and _has_name(value):
            return NotImplemented
        else:
            return self.other(value)
        return NotImplemented

    def other(self, value: Any) -> Any:
        """How anything else is reduced."""
        return NotImplemented


class Pickler(ByValue, pickle.Pickler):
    """The standard pickler, and functions by value."""


def cloud_pickler() -> Any:
    """The same on top of cloudpickle, which also takes classes that no name leads to; None where it is not installed."""
    try:
        import cloudpickle
    except ImportError:
        return None

    class CloudPickler(ByValue, cloudpickle.Pickler):  # type: ignore[misc]  # untyped
        def other(self, value: Any) -> Any:
            if isinstance(value, (io.TextIOWrapper, memoryview)):
                raise TypeError(
                    f"cannot pickle {type(value).__name__!r} object"
                )  # it would come back as something else
            return cloudpickle.Pickler.reducer_override(self, value)

    return CloudPickler


class Unpickler(pickle.Unpickler):
    """Loads what the picklers above wrote. Raises StepError for a definition that the step does not have."""

    def persistent_load(self, name: str) -> Any:
        """The function of this file."""
        return TRAVELLING[name]

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name."""
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:
            if module == "__main__":
                raise StepError(
                    f"it needs {name!r} of the notebook, which this step does not define; "
                    f"define it in a `functions` cell, or name it in this step"
                ) from error
            raise StepError(
                f"it needs {name!r} of the module {module}, which this step cannot import: {error}"
            ) from error


@contextlib.contextmanager
def culprit(pickler: Any) -> Iterator[None]:
    """Turn whatever a `__reduce__` raises into `Unpicklable`, which holds the object that was being pickled."""
    try:
        yield
    except RecursionError as error:
        raise Unpicklable(pickler.last, "it is nested too deeply") from error
    except OSError:  # the file that the pickle is written to
        raise
    except Exception as error:  # `__reduce__` and `__getstate__` are code of the user and of any library
        raise Unpicklable(pickler.last, str(error) or type(error).__name__) from error


class Unpicklable(Exception):
    """`value` cannot be pickled, for `reason`."""

    def __init__(self, value: Any, reason: str) -> None:
        super().__init__(reason)
        self.value, self.reason = value, reason


def make_cell() -> types.CellType:
    """An empty cell of a closure, filled by `fill_function`; closures that share it in one step share it in the next."""
    return types.CellType()


def make_function(
    version: list[int], code: bytes, name: str, cells: tuple[types.CellType, ...], module: str
) -> types.FunctionType:
    """A function from its code, over the globals of its module: for one of the notebook, those of this step."""
    if version != list(sys.version_info[:2]):
        raise StepError(
            f"the function {name!r} was stored by Python {version[0]}.{version[1]}, and this is "
            f"{sys.version_info[0]}.{sys.version_info[1]}; define it with `def` at the top of a cell"
        )
    home = vars(importlib.import_module(module))
    return types.FunctionType(marshal.loads(code), home, name, None, cells)  # noqa: S302 - no worse than the pickle around it


def fill_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    """The rest of a function: what it may refer to itself by."""
    for cell, content in zip(function.__closure__ or (), state.pop("cells")):
        if content:
            cell.cell_contents = content[0]
    function.__dict__.update(state.pop("dict"))
    for name, value in state.items():
        setattr(function, name, value)


def _function(value: types.FunctionType) -> tuple[Any, ...]:
    cells = value.__closure__ or ()
    state: dict[str, Any] = {
        "cells": [_content(cell) for cell in cells],
        "dict": dict(value.__dict__),
        "__defaults__": value.__defaults__,
        "__kwdefaults__": value.__kwdefaults__,
        "__annotations__": value.__annotations__,
        "__qualname__": value.__qualname__,
        "__doc__": value.__doc__,
        "__module__": value.__module__,
    }
    made = (
        list(sys.version_info[:2]),
        marshal.dumps(value.__code__),
        value.__name__,
        cells,
        value.__globals__["__name__"],
    )
    return make_function, made, state, None, None, fill_function


def _content(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # the variable is not assigned yet
        return []


def _has_name(value: Any) -> bool:
    """Whether `module.qualname` leads to this very object, or it is of a module that the other step can import."""
    module = getattr(value, "__module__", None)
    found: Any = sys.modules.get(module) if module else None
    if found is None:
        return False
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


TRAVELLING: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (make_cell, make_function, fill_function, make_view)
}
