"""Which module-level names a piece of code touches, as Python's scopes have it, in the order of evaluation.

Names that belong to functions, comprehensions and class bodies are resolved away; what is left are the names of the
notebook's one namespace. What a function's body does is `deferred`: it happens when the function is called.
"""

import ast
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, NamedTuple

from kalec.words import words

# The fields of syntax trees that hold plain values, operators or contexts: nothing that has a place in the source.
_WITHOUT_NODES: Final = words("id attr arg ctx op ops module level kind type_comment conversion simple is_async")


class _Fields(dict[type[ast.AST], tuple[str, ...]]):
    """For each kind of node the fields that hold nodes, or lists that may; worked out when the first one comes by."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        plain = issubclass(kind, ast.Constant | ast.Global | ast.Nonlocal)  # values of the source, names as texts
        self[kind] = () if plain else tuple(name for name in kind._fields if name not in _WITHOUT_NODES)
        return self[kind]


_FIELDS: Final = _Fields()


class Action(Enum):
    """What is done to a name."""

    LOAD = "load"
    STORE = "store"
    DELETE = "delete"


class Occurrence(NamedTuple):
    """One place where a module-level name is touched."""

    name: str
    action: Action
    node: ast.AST  # has lineno and col_offset
    deferred: bool = False
    certain: bool = True  # False for a store that may not happen: in the right side of `or`, in a comprehension
    optional: bool = False  # named in a string annotation: nothing fails when it is missing


class _Scope(NamedTuple):
    kind: str  # function, class, comprehension
    local: set[str]
    declared_global: set[str]


def occurrences(*nodes: ast.AST | None, postponed: bool = False) -> list[Occurrence]:
    """All touches of module-level names in module-level code, in order. `postponed`: annotations are not evaluated."""
    visitor = _Visitor(postponed)
    for node in nodes:
        if node is not None:
            visitor.visit(node)
    return visitor.found


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, in no order that means anything; operators and contexts are left out.

    `ast.walk` takes four times as long, and most of the time of a compilation is here.
    """
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        for name in _FIELDS[type(current)]:
            value = getattr(current, name, None)
            if isinstance(value, list):
                waiting += [one for one in value if isinstance(one, ast.AST)]
            elif isinstance(value, ast.AST):
                waiting.append(value)


def children(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes right below a node, in the order of the source; operators and contexts are left out."""
    for name in _FIELDS[type(node)]:
        value = getattr(node, name, None)
        if isinstance(value, list):
            yield from [one for one in value if isinstance(one, ast.AST)]
        elif isinstance(value, ast.AST):
            yield value


def bound_names(nodes: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """The names that a function's body binds, and those it declares global or nonlocal."""
    binder = _Binder()
    for node in nodes:
        binder.visit(node)
    return binder.bound - binder.foreign, binder.foreign


def argument_names(arguments: ast.arguments) -> set[str]:
    """The parameters of a function."""
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    named += [star for star in (arguments.vararg, arguments.kwarg) if star]
    return {argument.arg for argument in named}


class _Reader(ast.NodeVisitor):
    """Visits the nodes that have a place in the source."""

    def generic_visit(self, node: ast.AST) -> None:
        """Everything right below a node, in the order of the source."""
        for child in children(node):
            self.visit(child)


class _Visitor(_Reader):
    def __init__(self, postponed: bool) -> None:
        self.found: list[Occurrence] = []
        self.scopes: list[_Scope] = []
        self.postponed = postponed
        self.deferred = 0
        self.uncertain = 0
        self.optional = 0

    def touch(self, name: str, action: Action, node: ast.AST) -> None:
        for depth, scope in enumerate(reversed(self.scopes)):
            if name in scope.declared_global:
                break
            if scope.kind == "class" and depth:
                continue  # names of a class body are not seen by the functions in it
            if scope.kind == "class" and action is Action.STORE:
                scope.local.add(name)
                return
            if name in scope.local:
                return
        certain = not self.uncertain and not self.deferred
        self.found.append(Occurrence(name, action, node, bool(self.deferred), certain, bool(self.optional)))

    def visit_Name(self, node: ast.Name) -> None:
        action = {ast.Load: Action.LOAD, ast.Store: Action.STORE, ast.Del: Action.DELETE}[type(node.ctx)]
        self.touch(node.id, action, node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.touch(node.target.id, Action.LOAD, node.target)
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not any(scope.kind == "function" for scope in self.scopes[-1:]):
            self.annotation(node.annotation)
        if node.value:
            self.visit(node.value)
            self.visit(node.target)
        elif not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def annotation(self, node: ast.expr | None) -> None:
        if node is None:
            return
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except (SyntaxError, ValueError, RecursionError):
                return
            self.optional += 1
            for name in walk(node):
                if isinstance(name, ast.Name):
                    self.touch(name.id, Action.LOAD, name)
            self.optional -= 1
            return
        self.optional += self.postponed
        self.visit(node)
        self.optional -= self.postponed

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        comprehensions = 0
        while self.scopes and self.scopes[-1 - comprehensions].kind == "comprehension":
            comprehensions += 1
            if comprehensions == len(self.scopes):
                break
        inner = [self.scopes.pop() for _ in range(comprehensions)]
        self.uncertain += bool(comprehensions)
        self.touch(node.target.id, Action.STORE, node.target)
        self.uncertain -= bool(comprehensions)
        self.scopes += reversed(inner)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        self.uncertain += 1
        for value in node.values[1:]:
            self.visit(value)
        self.uncertain -= 1

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        self.uncertain += 1
        self.visit(node.body)
        self.visit(node.orelse)
        self.uncertain -= 1

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self.defaults(node.args)
        named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        for argument in named:
            self.annotation(argument.annotation if argument else None)
        self.annotation(node.returns)
        self.function(node.args, node.body)
        self.touch(node.name, Action.STORE, node)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast names it

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.defaults(node.args)
        self.function(node.args, [node.body])

    def defaults(self, arguments: ast.arguments) -> None:
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                self.visit(default)

    def function(self, arguments: ast.arguments, body: list[ast.stmt] | list[ast.expr]) -> None:
        local, foreign = bound_names(body)
        outer = {name for scope in self.scopes if scope.kind == "function" for name in scope.local}
        self.scopes.append(_Scope("function", local | argument_names(arguments), foreign - outer))
        self.deferred += 1
        for part in body:
            self.visit(part)
        self.deferred -= 1
        self.scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in [*node.decorator_list, *node.bases, *node.keywords]:
            self.visit(part)
        self.scopes.append(_Scope("class", {"__module__", "__qualname__"}, set()))
        for statement in node.body:
            self.visit(statement)
        self.scopes.pop()
        self.touch(node.name, Action.STORE, node)

    def visit_Global(self, node: ast.Global) -> None:
        if self.scopes:
            self.scopes[-1].declared_global.update(node.names)

    def comprehension(self, node: ast.expr, elements: list[ast.expr], generators: list[ast.comprehension]) -> None:
        self.visit(generators[0].iter)
        local: set[str] = set()
        for generator in generators:
            local |= {name.id for name in walk(generator.target) if isinstance(name, ast.Name)}
        self.scopes.append(_Scope("comprehension", local, set()))
        for number, generator in enumerate(generators):
            if number:
                self.visit(generator.iter)
            self.visit(generator.target)
            for condition in generator.ifs:
                self.visit(condition)
        for element in elements:
            self.visit(element)
        self.scopes.pop()

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> None:
        self.comprehension(node, [node.elt], node.generators)

    visit_SetComp = visit_ListComp  # noqa: N815 - ast names it
    visit_GeneratorExp = visit_ListComp  # noqa: N815 - ast names it

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self.comprehension(node, [node.key, node.value], node.generators)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.touch(alias.asname or alias.name.split(".")[0], Action.STORE, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name != "*":
                self.touch(alias.asname or alias.name, Action.STORE, node)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.visit(node.target)
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    visit_AsyncFor = visit_For  # noqa: N815 - ast names it

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type:
            self.visit(node.type)
        if node.name:
            self.touch(node.name, Action.STORE, node)
        for statement in node.body:
            self.visit(statement)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.pattern:
            self.visit(node.pattern)
        if node.name:
            self.touch(node.name, Action.STORE, node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self.touch(node.name, Action.STORE, node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest:
            self.touch(node.rest, Action.STORE, node)


class _Binder(_Reader):
    """The names that one scope binds, without those of the scopes inside it."""

    def __init__(self) -> None:
        self.bound: set[str] = set()
        self.foreign: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.bound.add(node.id)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self.bound.add(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast names it
    visit_ClassDef = visit_FunctionDef  # noqa: N815 - ast names it

    def visit_Lambda(self, node: ast.Lambda) -> None:
        pass

    def visit_ListComp(self, node: ast.expr) -> None:
        for inner in walk(node):
            if isinstance(inner, ast.NamedExpr):
                self.bound.add(inner.target.id)

    visit_SetComp = visit_ListComp  # noqa: N815 - ast names it
    visit_GeneratorExp = visit_ListComp  # noqa: N815 - ast names it
    visit_DictComp = visit_ListComp  # noqa: N815 - ast names it

    def visit_Global(self, node: ast.Global | ast.Nonlocal) -> None:
        self.foreign.update(node.names)

    visit_Nonlocal = visit_Global  # noqa: N815 - ast names it

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            self.bound.add(alias.asname or alias.name.split(".")[0])

    visit_ImportFrom = visit_Import  # noqa: N815 - ast names it

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.bound.add(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        if node.name:
            self.bound.add(node.name)
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs  # noqa: N815 - ast names it

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.bound.add(node.rest)
        self.generic_visit(node)
