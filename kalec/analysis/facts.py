"""What is found out about one step: the code that it has, and what that does with names."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from kalec.analysis.definitions import Definition, define
from kalec.analysis.effects import Effects, effects
from kalec.analysis.names import Names
from kalec.analysis.scopes import Occurrence, occurrences, walk
from kalec.model import Cell
from kalec.words import words

ENTRY: Final = -1
NO_ITERATION: Final = -2  # from outside, if a loop ran zero times: that is no reason to complain
DELETED: Final = -3
FROM_ENTRY: Final = frozenset({ENTRY})
DYNAMIC: Final = words("exec eval globals locals vars dir")

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)

State = dict[str, frozenset[int]]


class Known(Protocol):
    """What is known about a name as it stands when a step begins."""

    @property
    def definitions(self) -> frozenset[Definition]:
        """The definitions that its value is, or may hold."""

    @property
    def modules(self) -> frozenset[str]:
        """The modules that its value may be of."""

    @property
    def called_with(self) -> frozenset[str]:
        """The names that lambdas in its value use when they are called."""


class Use(NamedTuple):
    """A name that a step takes from outside, and where."""

    cell: Cell
    occurrence: Occurrence
    always: bool  # nothing of the step may have bound it before
    expected: bool  # it fails when the name is missing
    is_real: bool  # the value may be wanted; not for what only texts and empty loops name
    called: Definition | None = None  # the definition whose body uses it


class Kept(NamedTuple):
    """What functions of the notebook were given, and the outer names where they may keep it: a registry, a list of hooks."""

    given: frozenset[str]
    changed: frozenset[str]  # objects that may hold it since
    bound: frozenset[str]  # names that may be bound to it since
    definition: Definition | None  # that is given to its decorators and base classes, where it is not a call
    holding: frozenset[str] = frozenset()  # of those changed, the ones that surely hold more of it than its name


class Facts:
    """What one step does with names."""

    def __init__(self, effects: Effects, entry: Mapping[str, Known], names: Names) -> None:
        self.effects, self.entry, self.names = effects, entry, names
        self.uses: dict[str, Use] = {}  # the first of each name, an expected one if there is one
        self.loaded: set[str] = set()  # all names it mentions, through functions too
        self.exits: State = {}  # of the names that it binds or deletes
        self.bound_at: dict[int, ast.AST] = {}
        self.bound_in: dict[int, Cell] = {}
        self.definitions: dict[str, list[Definition]] = {}
        self.definition_sites: dict[int, Definition] = {}
        self.needed_from: dict[tuple[Definition, str], frozenset[int]] = {}  # where it was made
        self.changes: dict[str, bool] = {}  # by functions that it calls; `effects` has its own
        self.own_changes: dict[str, bool] = {}
        self.deep_changes: set[str] = set()  # of objects and all that they hold
        self.holds: dict[str, set[str]] = {}
        self.kept: list[Kept] = []
        self.deleted_uses: list[tuple[Cell, Occurrence, bool]] = []
        self.uncertain_uses: list[tuple[Cell, Occurrence]] = []
        self.dynamic: list[tuple[Cell, ast.AST]] = []
        self.unreachable: list[tuple[Cell, ast.stmt]] = []
        self.lambdas: dict[str, dict[str, Occurrence]] = {}  # name -> what lambdas in its value use
        self.modules_of: dict[str, set[str]] = {}  # import names that values are made with
        self.reached: dict[str, Reach] = {}

    def closure(self, name: str) -> tuple[Definition, ...]:
        """All definitions that the value of a name may be, hold, or use when it is called."""
        return self.reach(name).definitions

    def called_with(self, name: str) -> frozenset[str]:
        """The names that lambdas in the value of a name, or in what it holds, use when they are called."""
        return self.reach(name).called_with

    def modules(self, name: str, entry: Mapping[str, Known]) -> frozenset[str]:
        """The modules that the value of a name may be of."""
        reached = self.reach(name)
        found = {module for definition in reached.definitions for module in definition.modules}
        for other in reached.through:
            found |= {self.names.module(used) for used in self.modules_of.get(other, ())}
            if other in entry and other not in self.names.immutable:
                found |= entry[other].modules
        return frozenset(found)

    def outside(self, names: Iterable[str]) -> frozenset[str]:
        """The names that those functions among `names` read outside of themselves: what they give may be a part of it."""
        functions = (one for name in names for one in self.closure(name) if isinstance(one.node, _FUNCTIONS))
        return frozenset(need.name for function in functions for need in function.needs_later)

    def reach(self, name: str) -> "Reach":
        """What stands behind a name; worked out once for each."""
        if name not in self.reached:
            self.reached[name] = self._reach(name)
        return self.reached[name]

    def _reach(self, name: str) -> "Reach":
        found: dict[Definition, None] = {}
        seen: set[str] = set()
        used: set[str] = set()
        waiting = [name]
        while waiting:
            current = waiting.pop()
            if current in seen:
                continue
            seen.add(current)
            known = self.entry.get(current)
            here = {*self.lambdas.get(current, ()), *(known.called_with if known else ())}
            used |= here
            waiting += [*self.holds.get(current, ()), *here]
            for definition in [*self.definitions.get(current, ()), *(known.definitions if known else ())]:
                if definition not in found:
                    found[definition] = None
                    waiting += [part.name for part in (*definition.needs_now, *definition.needs_later)]
        return Reach(tuple(found), frozenset(seen), frozenset(used))


class Reach(NamedTuple):
    """What stands behind a name."""

    definitions: tuple[Definition, ...]
    through: frozenset[str]  # the names through which they were found
    called_with: frozenset[str]  # the names that lambdas on the way use


class Touched(NamedTuple):
    """The names of a piece of code, in order; which of them are called; and what names variables in texts."""

    occurrences: list[Occurrence]
    called: frozenset[int]
    texts: list[ast.Compare | ast.Call]


@dataclass(eq=False, repr=False, slots=True)
class Code:
    """The statements of a step, by cell."""

    cells: list[tuple[Cell, list[ast.stmt]]]
    names: Names
    postponed: bool = False  # from __future__ import annotations
    _effects: Effects | None = None
    _parts: dict[int, Definition | None] = field(default_factory=dict)
    _touched: dict[int, Touched] = field(default_factory=dict)

    @property
    def statements(self) -> list[ast.stmt]:
        """All of them, in order."""
        return [statement for _, statements in self.cells for statement in statements]

    def effects(self) -> Effects:
        """Of its statements; worked out once."""
        if self._effects is None:
            self._effects = effects(self.statements, self.names)
        return self._effects

    def touched(self, node: ast.AST) -> Touched:
        """What a part of the code touches; a step is walked several times, and this is most of the work."""
        key = id(node)
        if key not in self._touched:
            inner = list(walk(node))
            self._touched[key] = Touched(
                occurrences(node, postponed=self.postponed),
                frozenset(id(call.func) for call in inner if isinstance(call, ast.Call)),
                [one for one in inner if isinstance(one, ast.Compare | ast.Call) and self.names_in_text(one)],
            )
        return self._touched[key]

    def names_in_text(self, node: ast.Compare | ast.Call) -> bool:
        """Whether an expression may name variables in texts."""
        if isinstance(node, ast.Compare):
            return isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)
        by_method = isinstance(node.func, ast.Attribute) and node.func.attr in ("query", "eval")
        return by_method or self.names.builtin(node.func) in DYNAMIC

    def definition(self, statement: ast.stmt, cell: Cell) -> Definition | None:
        """The definition that a top-level statement is; the same object each time."""
        key = id(statement)
        if key not in self._parts:
            self._parts[key] = define(statement, cell, self.names, postponed=self.postponed)
        return self._parts[key]
