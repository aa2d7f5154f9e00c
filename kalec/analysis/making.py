"""What decorators and base classes do when a definition is made: what they change, and where they put the definition.

Only bodies that run then are gone through: the decorator's own, those of the functions that it calls, and of the function
that a call such as `@register("name")` gives. What a wrapper does waits until the definition is called. A flow that is not
seen is left out, because a definition that registers itself cannot be made again in another step.
"""

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from kalec.analysis.effects import Change, Effects, effects
from kalec.analysis.functions import reached_by
from kalec.analysis.names import Names
from kalec.analysis.scopes import argument_names, bound_names, children, walk

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Code = Function | ast.ClassDef

_DEFINING: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_CREATING: Final = ("__new__", "__init__")


class Making:
    """What is done when one definition is made. All names are of the notebook's namespace."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self.changed: set[str] = set()  # the objects behind them may have been changed
        self.bound: set[str] = set()
        self.receiving: set[str] = set()  # objects that the definition, or something of it as its name, is put into
        self.holding: set[str] = set()  # of these, those that are given the definition itself
        self.naming: set[str] = set()  # names that are bound to the definition, or to something of it


class _Given(NamedTuple):
    """What a function gets of the definition."""

    some: bool  # it, or something of it
    itself: bool


_NOTHING: Final = _Given(False, False)
_ALL: Final = _Given(True, True)


class _Frame(NamedTuple):
    """The names that a nested function finds around it."""

    local: frozenset[str] = frozenset()
    flowing: frozenset[str] = frozenset()  # those that stand for the definition, or for something of it
    itself: frozenset[str] = frozenset()
    functions: Mapping[str, Code] = {}


def making(statement: ast.stmt, code_of: Callable[[str], Iterable[Code]], names: Names) -> Making:
    """What the decorators and base classes of `statement` do with it; `code_of` gives the functions and classes of a name."""
    runner = _Runner(code_of, names)
    for decorator in getattr(statement, "decorator_list", ()):
        runner.decorate(decorator, _Frame(), _ALL)
    for base in getattr(statement, "bases", ()):
        runner.derive(base)
    return runner.making


class _Runner:
    def __init__(self, code_of: Callable[[str], Iterable[Code]], names: Names) -> None:
        self.code_of, self.names = code_of, names
        self.making = Making()
        self.seen: set[tuple[int, frozenset[str], _Given, bool]] = set()

    def decorate(self, decorator: ast.expr, around: _Frame, given: _Given) -> None:
        if isinstance(decorator, ast.Call):
            self.call(decorator.func, around, _NOTHING, result=given)
        else:
            self.call(decorator, around, given)

    def derive(self, base: ast.expr) -> None:
        for one in self.code_of(base.id) if isinstance(base, ast.Name) else ():
            if isinstance(one, ast.ClassDef) and self.is_new(one, _Frame(), _ALL, _NOTHING):
                self.run_methods(one, ("__init_subclass__",), _Frame(), _ALL)
                for other in one.bases:
                    self.derive(other)

    def call(self, function: ast.expr, around: _Frame, given: _Given, result: _Given = _NOTHING) -> None:
        """Call a function or class; what it gives is called in turn if that is given something."""
        if isinstance(function, ast.Lambda):
            self.run(function, around, given, result)
        elif isinstance(function, ast.Name):
            inner = around.functions.get(function.id)
            if inner is not None:
                self.run_code(inner, around, given, result)
            elif function.id not in around.local:
                for one in self.code_of(function.id):
                    self.making.used |= {one.name} if isinstance(one, ast.ClassDef) else set()  # it may keep instances
                    self.run_code(one, _Frame(), given, result)

    def run_code(self, code: Code, around: _Frame, given: _Given, result: _Given) -> None:
        if isinstance(code, ast.ClassDef):
            self.run_methods(code, _CREATING, around, given)
            if result.some:
                self.run_methods(code, ("__call__",), around, result)
        else:
            self.run(code, around, given, result)

    def run_methods(self, code: ast.ClassDef, methods: tuple[str, ...], around: _Frame, given: _Given) -> None:
        for part in code.body:
            if isinstance(part, ast.FunctionDef) and part.name in methods:
                self.run(part, around, given, _NOTHING)

    def is_new(self, code: Code, around: _Frame, given: _Given, result: _Given) -> bool:
        """Whether a body has not been gone through with this; functions may call each other in a circle."""
        key = (id(code), around.flowing, given, result.some)
        is_new = key not in self.seen
        self.seen.add(key)
        return is_new

    def run(self, function: Function, around: _Frame, given: _Given, result: _Given) -> None:
        """Go through one body, and through what it calls."""
        if not self.is_new(function, around, given, result):
            return
        body: list[ast.stmt] | list[ast.expr] = [function.body] if isinstance(function, ast.Lambda) else function.body
        parameters = argument_names(function.args)
        bound, declared = bound_names(body)
        local = around.local | bound | parameters
        nodes = [node for part in body for node in _running(part)]
        found = _without_nested(effects(body, self.names.without(bound | parameters)), nodes)
        start = around.flowing | (parameters if given.some else set())
        frame = _Frame(
            local,
            _flowing(found, nodes, start, bound | parameters | declared),
            around.itself | (parameters if given.itself else set()),
            {**around.functions, **{node.name: node for node in nodes if isinstance(node, _DEFINING)}},
        )
        self.note(found, nodes, frame, declared)
        self.follow(nodes, frame)
        results = body if isinstance(function, ast.Lambda) else [n.value for n in nodes if isinstance(n, ast.Return)]
        for value in results if result.some else ():
            if isinstance(value, ast.expr):
                self.call(value, frame, result)

    def note(self, found: Effects, nodes: list[ast.AST], frame: _Frame, declared: set[str]) -> None:
        loaded = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        self.making.used |= loaded - frame.local - self.names.defined
        for change in found.changes:
            outer = (reached_by(change, found) & self.names.bound) - frame.local  # and no builtin, as `super`
            self.making.changed |= outer
            if _takes(change, frame.flowing):
                self.making.receiving |= outer
            if change.sure and any(_is_one_of(part, frame.itself) for part in _given_by(change)):
                self.making.holding |= outer
        outer_names = declared - frame.local
        self.making.bound |= {name for name, _, _ in found.bindings} & outer_names
        self.making.naming |= frame.flowing & outer_names

    def follow(self, nodes: list[ast.AST], frame: _Frame) -> None:
        for node in nodes:
            if isinstance(node, ast.Call):
                arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
                given = _Given(
                    any(_mentions(one, frame.flowing) for one in arguments),
                    any(_is_one_of(one, frame.itself) for one in arguments),
                )
                self.call(node.func, frame, given)
            elif isinstance(node, _DEFINING):
                for decorator in node.decorator_list:
                    self.decorate(decorator, frame, _Given(node.name in frame.flowing, False))


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that are executed with a node: without the bodies of the functions and classes in it."""
    yield node
    inner: list[ast.AST] = [*children(node)]
    if isinstance(node, _DEFINING):
        inner = [*node.decorator_list]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        inner = [*getattr(node, "decorator_list", ()), *node.args.defaults, *filter(None, node.args.kw_defaults)]
    for one in inner:
        yield from _running(one)


def _without_nested(found: Effects, nodes: Iterable[ast.AST]) -> Effects:
    """The effects without those of lambdas, which `effects` counts to where they are written."""
    running = {id(node) for node in nodes}
    found.changes = [change for change in found.changes if id(change.node) in running]
    return found


def _flowing(found: Effects, nodes: list[ast.AST], start: Iterable[str], own: set[str]) -> frozenset[str]:
    """The names that may stand for something of what the names of `start` stand for."""
    flowing = set(start)
    while True:
        reached = {name for name, shared, value in found.bindings if shared & flowing or _mentions(value, flowing)}
        reached |= {node.name for node in nodes if isinstance(node, _DEFINING) and _mentions(node, flowing)}
        for change in found.changes:
            if _takes(change, flowing):
                reached |= change.roots & own
        if reached <= flowing:
            return frozenset(flowing)
        flowing |= reached


def _mentions(node: ast.AST | None, names: Iterable[str]) -> bool:
    return node is not None and any(isinstance(one, ast.Name) and one.id in names for one in walk(node))


def _takes(change: Change, names: set[str] | frozenset[str]) -> bool:
    return _mentions(change.node, names) or _mentions(change.value, names) or bool(change.holds & names)


def _given_by(change: Change) -> list[ast.AST]:
    """The values that a change surely puts into an object."""
    if isinstance(change.node, ast.Call):
        return [*change.node.args, *(keyword.value for keyword in change.node.keywords)]
    return [change.value] if change.value is not None else []


def _is_one_of(node: ast.AST, names: frozenset[str]) -> bool:
    """Whether an expression is what one of the names stands for, or a display with it."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
        return any(_is_one_of(child, names) for child in children(node))
    return isinstance(node, ast.Name) and node.id in names
