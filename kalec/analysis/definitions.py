"""Definitions: statements that travel as source, because what they make is known by its name wherever it is made again.

These are imports, functions, classes, names given to such (`g = f`, `f = lambda …`, `Point = namedtuple(…)`), and
conditional statements that hold nothing else (`try: import x except ImportError: x = None`).
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from kalec.analysis.effects import is_immutable, is_iterator
from kalec.analysis.functions import body_changes, gives_fresh
from kalec.analysis.names import Names
from kalec.analysis.scopes import Action, Occurrence, argument_names, bound_names, children, occurrences, walk
from kalec.model import Cell
from kalec.words import words

# Calls whose result is a class or a function that is found by the name it is given.
_DEFINING_CALLS: Final = words(
    """
    collections.namedtuple typing.NamedTuple typing.NewType typing.TypeVar typing.ParamSpec typing.TypedDict
    enum.Enum enum.IntEnum enum.Flag dataclasses.make_dataclass functools.lru_cache functools.cache
    functools.singledispatch numba.jit numba.njit jax.jit jax.grad jax.vmap numpy.vectorize pydantic.create_model
    """
)
_FUTURE: Final = "annotations"  # what `from __future__ import annotations` binds
_DEFINING_NODES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(eq=False, repr=False, slots=True)
class Definition:
    """One top-level statement that defines names, and what it needs."""

    cell: Cell
    node: ast.stmt
    names: frozenset[str]
    needs_now: tuple[Occurrence, ...]  # when the statement is executed
    needs_later: tuple[Occurrence, ...]  # when a function in it is called
    binds_later: dict[str, bool] = field(default_factory=dict)  # `global x`, with whether each call surely does
    changes_later: dict[str, bool] = field(default_factory=dict)  # outer objects, with whether it is sure
    has_state: bool = False  # a class whose methods change their own object
    keeps_state: bool = False  # a function that changes its own defaults
    gives_state: bool = False  # a function that may give a function with variables that change
    modules: tuple[str, ...] = ()  # what it imports, at once or in a function

    @property
    def is_import(self) -> bool:
        """Whether it is nothing but an import."""
        return isinstance(self.node, ast.Import | ast.ImportFrom)


def define(statement: ast.stmt, cell: Cell, names: Names, *, postponed: bool = False) -> Definition | None:
    """The definition that a top-level statement is, or None. `postponed`: annotations are not evaluated."""
    if not _is_definition(statement, names):
        return None
    found = occurrences(statement, postponed=postponed)
    if postponed and _FUTURE in names.once and not isinstance(statement, ast.Import | ast.ImportFrom):
        # Wherever it is executed again, the import that postpones its annotations comes with it.
        found.append(Occurrence(_FUTURE, Action.LOAD, statement))
    changes, _ = body_changes(statement, names)
    return Definition(
        cell,
        statement,
        frozenset(part.name for part in found if part.action is Action.STORE and not part.deferred),
        tuple(part for part in found if part.action is Action.LOAD and not part.deferred),
        tuple(part for part in found if part.action is Action.LOAD and part.deferred),
        _global_bindings(statement),
        changes,
        any(_changes_itself(node) for node in walk(statement) if isinstance(node, ast.ClassDef)),
        _changes_its_defaults(statement, names),
        isinstance(statement, ast.FunctionDef) and _has_changing_closure(statement),
        tuple(imported_modules([statement])),
    )


def imported_modules(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The modules that code imports, functions included."""
    for outer in nodes:
        for node in walk(outer):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module


def _is_definition(statement: ast.stmt, names: Names) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return True
        case (
            ast.Assign(targets=[ast.Name(id=target)], value=value)
            | ast.AnnAssign(target=ast.Name(id=target), value=value)
        ):
            return value is not None and _defines(target, value, names)
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=finalbody):
            parts = [*body, *(part for handler in handlers for part in handler.body), *orelse, *finalbody]
            return _all_definitions(parts, names)
        case ast.If(body=body, orelse=orelse):
            return _all_definitions([*body, *orelse], names)
    return False


def _all_definitions(parts: list[ast.stmt], names: Names) -> bool:
    """Whether a compound statement does nothing but define, with plain values for what is missing."""
    some = False
    if not {name for part in parts for name in _stored(part)} <= names.once:
        return False  # what it does not bind this time would be what another statement made
    for part in parts:
        if _is_definition(part, names):
            some = True
        elif not isinstance(part, ast.Pass) and not (
            isinstance(part, ast.Assign)
            and all(isinstance(t, ast.Name) for t in part.targets)
            and is_immutable(part.value, names)
        ):
            return False
    return some


def _defines(target: str, value: ast.expr, names: Names) -> bool:
    if isinstance(value, ast.Lambda):
        return True
    if isinstance(value, ast.Name | ast.Attribute):
        # An attribute of a module may be a plain value, and then it comes again with the module.
        return bool(names.path(value)) or (isinstance(value, ast.Name) and value.id in names.defined)
    if not isinstance(value, ast.Call):
        return False
    if isinstance(value.func, ast.Call) and names.path(value.func.func) in _DEFINING_CALLS:
        return True
    wraps_itself = target in names.defined and any(isinstance(a, ast.Name) and a.id == target for a in value.args)
    makes_class = names.builtin(value.func) == "type" and len(value.args) == 3
    return names.path(value.func) in _DEFINING_CALLS or wraps_itself or makes_class


def _global_bindings(statement: ast.stmt) -> dict[str, bool]:
    """What its functions bind in the notebook's namespace; sure where it stands unconditionally in a plain function."""
    bound: dict[str, bool] = {}
    for function in walk(statement):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        declared = {name for node in walk(function) if isinstance(node, ast.Global) for name in node.names}
        if not declared:
            continue
        plain = isinstance(function, ast.FunctionDef) and function is statement
        at_top = {
            name.id
            for part in function.body
            if isinstance(part, ast.Assign | ast.AugAssign | ast.AnnAssign)
            for name in walk(part)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        }
        every = {name for part in function.body for name in _stored(part)}
        for name in declared & every:
            bound[name] = bound.get(name, False) or (plain and name in at_top)
    return bound


def _stored(node: ast.stmt) -> set[str]:
    local, _ = bound_names([node])
    return local | {part.id for part in walk(node) if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)}


def _changes_itself(node: ast.ClassDef) -> bool:
    """Whether a method may change the object it is called on, other than while it is made."""
    for method in node.body:
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and method.name not in ("__init__", "__new__"):
            _, parameters = body_changes(method, Names())
            first = [*method.args.posonlyargs, *method.args.args][:1]
            if first and first[0].arg in parameters:
                return True
    return False


def _changes_its_defaults(statement: ast.stmt, names: Names) -> bool:
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    arguments = statement.args
    positional = [*arguments.posonlyargs, *arguments.args]
    last = len(positional) - len(arguments.defaults)
    defaults = [*zip(positional[last:], arguments.defaults, strict=True)]
    defaults += [(one, value) for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value]
    changing = {one.arg for one, value in defaults if not is_immutable(value, names)}
    return bool(changing) and bool(changing & body_changes(statement, names)[1])


def _has_changing_closure(function: ast.FunctionDef) -> bool:
    inner = [node for part in function.body for node in walk(part) if isinstance(node, ast.FunctionDef | ast.Lambda)]
    if any(isinstance(node, ast.Nonlocal) for part in inner for node in walk(part)):
        return True
    own = bound_names(function.body)[0] - argument_names(function.args)
    names = Names(defined=frozenset(node.name for node in inner if isinstance(node, ast.FunctionDef)))
    return any(own & body_changes(part, names)[0].keys() for part in inner)


def survey(statements: Iterable[ast.stmt], given: Mapping[str, bool] | None = None) -> Names:
    """What holds for every binding of each name, in all cells of a notebook together.

    `given` are the names that stand before any code, with whether they are immutable.
    """
    listed = list(statements)
    bound: dict[str, list[ast.AST | None]] = {
        name: [None if immutable else ast.Starred(ast.Name(name))] for name, immutable in (given or {}).items()
    }
    imports: dict[str, set[str]] = {}
    members: set[str] = set()
    for node in (inner for statement in listed for inner in _outer_nodes(statement)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or (alias.name if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0])
                if isinstance(node, ast.ImportFrom):
                    members.add(name)
                    imports.setdefault(name, set()).add(f"{node.module or ''}.{alias.name}")
                else:
                    imports.setdefault(name, set()).add(alias.name if alias.asname else name)
        else:
            _bind_known(node, bound)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.setdefault(node.id, [])
    statement_counts = _count_other_stores(listed, bound)
    every = frozenset(bound.keys() | imports.keys())
    single = {name: next(iter(paths)) for name, paths in imports.items() if len(paths) == 1 and name not in bound}
    once = frozenset(name for name, count in statement_counts.items() if count == 1)
    names = _with_immutables(Names(single, frozenset(members & single.keys()), once=once, bound=every), bound)
    names = names._replace(defined=_only_defined(names, bound))
    iterators = frozenset(name for name, values in bound.items() if any(is_iterator(value, names) for value in values))
    return _with_known_functions(names._replace(immutable=names.immutable - iterators, iterators=iterators), bound)


def _outer_nodes(statement: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement that are executed with it; functions' bodies are not."""
    yield statement
    for child in children(statement):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child
        elif not isinstance(child, ast.Lambda) and not isinstance(
            statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ):
            yield from _outer_nodes(child)


def _bind_known(node: ast.AST, bound: dict[str, list[ast.AST | None]]) -> None:
    """Bindings whose value the source says."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                _bind(target, value, bound)
        case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
            _bind(target, value, bound)
        case ast.AugAssign(target=ast.Name(id=name), value=value):
            bound.setdefault(name, []).append(value)
        case ast.For(target=target, iter=ast.Call(func=ast.Name(id="range"))):
            _bind(target, ast.Constant(0), bound)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            bound.setdefault(name, []).append(node)


def _bind(target: ast.expr, value: ast.AST | None, bound: dict[str, list[ast.AST | None]]) -> None:
    if isinstance(target, ast.Name):
        bound.setdefault(target.id, []).append(value)
    elif isinstance(target, ast.Tuple | ast.List):
        values = value.elts if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts) else None
        for number, part in enumerate(target.elts):
            _bind(part, values[number] if values else ast.Starred(target), bound)


def _only_defined(names: Names, bound: dict[str, list[ast.AST | None]]) -> frozenset[str]:
    """The names that are only ever bound to functions and classes: in definitions, or wrapped around themselves."""

    def is_definition(name: str, value: ast.AST | None) -> bool:
        if isinstance(value, ast.Call):
            if names.path(value.func) in _DEFINING_CALLS:
                return True
            return any(isinstance(a, ast.Name) and a.id == name for a in value.args) and has_definition(name)
        return isinstance(value, _DEFINING_NODES)

    def has_definition(name: str) -> bool:
        return any(isinstance(value, _DEFINING_NODES) for value in bound[name])

    return frozenset(
        name for name, values in bound.items() if values and all(is_definition(name, value) for value in values)
    )


def _count_other_stores(statements: list[ast.stmt], bound: dict[str, list[ast.AST | None]]) -> dict[str, int]:
    """A name that is also bound in another way (a loop, `with`, `except`, `global`) is bound to something unknown.

    Gives the number of statements that bind each name.
    """
    binding: dict[str, int] = {}
    for statement in statements:
        total: dict[str, int] = {}
        for part in occurrences(statement):
            if part.action is Action.STORE:
                total[part.name] = total.get(part.name, 0) + 1
        for name in total:
            binding[name] = binding.get(name, 0) + 1
        known: dict[str, list[ast.AST | None]] = {}
        for node in _outer_nodes(statement):
            _bind_known(node, known)
            for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
                known.setdefault(alias.asname or alias.name.split(".")[0], []).append(None)
        for name, count in total.items():
            if count > len(known.get(name, ())):
                bound.setdefault(name, []).append(ast.Starred(ast.Name(name)))
    return binding


def _with_immutables(names: Names, bound: dict[str, list[ast.AST | None]]) -> Names:
    """Start with all names, and drop those of which some binding is not immutable, until nothing changes."""
    immutable = {name for name, values in bound.items() if values and name not in names.imports}
    while True:
        current = names._replace(immutable=frozenset(immutable))
        dropped = {
            name
            for name in immutable
            if not all(value is None or is_immutable(value, current) for value in bound[name])
        }
        if not dropped:
            return current
        immutable -= dropped


def _with_known_functions(names: Names, bound: dict[str, list[ast.AST | None]]) -> Names:
    """Find the functions that change nothing, and those that give nothing of what they have."""
    for name, values in bound.items():
        if len(values) == 1 and isinstance(values[0], ast.FunctionDef):
            _, changed = body_changes(values[0], names)
            if not changed:
                names = names._replace(pure=names.pure | {name})
            if gives_fresh(values[0], names):
                names = names._replace(fresh=names.fresh | {name})
    return names
