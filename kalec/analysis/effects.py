"""What code may do to the objects behind names: change them, and let one hold another.

The analysis errs on one side only. What it cannot see through may change everything that it is given, so a value travels on
from the last step that may have changed it. What can be seen through stands in `known`.
"""

import ast
from collections.abc import Iterable
from typing import NamedTuple

from kalec.analysis.known import (
    CALLING,
    CHANGING,
    FRESH_FUNCTIONS,
    FRESH_PREFIXES,
    IMMUTABLE_RESULT,
    IMPURE_FUNCTIONS,
    ITERATORS,
    PURE_BUILTINS,
    PURE_METHODS,
    PURE_MODULES,
    RECEIVER_ONLY,
)
from kalec.analysis.names import Names
from kalec.analysis.scopes import argument_names, children, walk


class Change(NamedTuple):
    """Objects that may have been changed, by the names through which they are reached."""

    roots: frozenset[str]
    sure: bool
    node: ast.AST
    holds: frozenset[str] = frozenset()  # what they may hold since
    deep: bool = False  # what they hold may have been changed too
    value: ast.AST | None = None  # the expression whose value they are given


class Effects:
    """What a piece of code may do to objects."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.bindings: list[tuple[str, frozenset[str], ast.AST | None]] = []  # name, may share with, value


def effects(nodes: Iterable[ast.AST], names: Names) -> Effects:
    """The effects of statements or expressions, with the bodies of their functions left out."""
    visitor = _Effects(names)
    for node in nodes:
        visitor.visit(node)
    return visitor.effects


def roots(node: ast.AST | None, names: Names) -> frozenset[str]:
    """The names whose objects the value of an expression may be, be a part of, or hold."""
    if node is None or isinstance(node, ast.Constant | ast.JoinedStr | ast.Compare):
        return frozenset()
    if isinstance(node, ast.Name):
        return frozenset() if node.id in names.immutable or node.id in names.imports else frozenset({node.id})
    if isinstance(node, ast.Call) and _is_fresh(node, names):
        return frozenset()
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return frozenset()
    if isinstance(node, ast.Subscript):
        return roots(node.value, names)
    inner: set[str] = set()
    if isinstance(node, ast.Lambda):
        local = argument_names(node.args)
        inner |= roots(node.body, names.without(local)) - local
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
        inner |= _comprehension_roots(node, names)
    else:
        for child in children(node):
            inner |= roots(child, names)
    return frozenset(inner)


def _comprehension_roots(node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, names: Names) -> set[str]:
    local = {name.id for part in node.generators for name in walk(part.target) if isinstance(name, ast.Name)}
    elements = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    if not isinstance(node, ast.GeneratorExp) and all(is_immutable(element, names) for element in elements):
        return set()
    inner: set[str] = set()
    for part in [*elements, *(generator.iter for generator in node.generators)]:
        inner |= roots(part, names.without(local))
    return inner - local


def _is_fresh(node: ast.Call, names: Names) -> bool:
    if names.builtin(node.func) in IMMUTABLE_RESULT:
        return True
    if isinstance(node.func, ast.Name) and node.func.id in names.fresh:
        return True
    path = names.path(node.func)
    if path in FRESH_FUNCTIONS or path.startswith(FRESH_PREFIXES):
        return True
    return isinstance(node.func, ast.Attribute) and node.func.attr in ("score", "tolist", "item", "nunique", "to_csv")


def is_immutable(node: ast.AST | None, names: Names) -> bool:
    """Whether the value of an expression certainly cannot change: a number, a text, a tuple of such."""
    match node:
        case None | ast.Constant() | ast.JoinedStr():
            return True
        case ast.Name(id=name):
            return name in names.immutable
        case ast.BinOp(left=left, right=right):
            return is_immutable(left, names) and is_immutable(right, names)
        case ast.UnaryOp(operand=operand):
            return isinstance(node.op, ast.Not) or is_immutable(operand, names)
        case ast.BoolOp(values=values) | ast.Tuple(elts=values):
            return all(is_immutable(value, names) for value in values)
        case ast.IfExp(body=body, orelse=orelse):
            return is_immutable(body, names) and is_immutable(orelse, names)
        case ast.Compare(left=left, comparators=others):
            return all(is_immutable(value, names) for value in [left, *others])
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str()), attr="join" | "format")):
            return True
        case ast.Call(func=function) if names.builtin(function) in ("sum", "min", "max", "pow", "divmod"):
            return all(is_immutable(argument, names) for argument in node.args)
        case ast.Call(func=function):
            return names.builtin(function) in IMMUTABLE_RESULT or names.path(function).startswith(("math.", "time."))
    return False


def is_iterator(node: ast.AST | None, names: Names) -> bool:
    """Whether the value of an expression may be an iterator that can be saved: looking through it uses it up."""
    if isinstance(node, ast.Name):
        return node.id in names.iterators
    if not isinstance(node, ast.Call):
        return False
    return names.builtin(node.func) in ITERATORS or names.path(node.func).startswith("itertools.")


class _Effects(ast.NodeVisitor):
    def __init__(self, names: Names) -> None:
        self.names = names
        self.effects = Effects()

    def change(
        self,
        node: ast.AST,
        *parts: ast.AST | None,
        sure: bool,
        holds: frozenset[str] = frozenset(),
        value: ast.AST | None = None,
    ) -> None:
        reached = frozenset().union(*(roots(part, self.names) for part in parts))
        if reached:
            held = holds if sure else holds | reached
            through = any(isinstance(part, ast.Attribute | ast.Subscript | ast.Call) for part in parts)
            given = value or (node if isinstance(node, ast.Call) else None)
            self.effects.changes.append(Change(reached, sure, node, held, not sure or through, given))

    def target(self, node: ast.expr, value: ast.AST | None, shared: frozenset[str]) -> None:
        """`node` is given a value: a name is bound, anything else changes what it is a part of."""
        match node:
            case ast.Name(id=name):
                self.effects.bindings.append((name, shared, value))
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                values: list[ast.AST | None] = [_Unknown()] * len(parts)
                if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(parts):
                    values = list(value.elts)
                for part, one in zip(parts, values, strict=True):
                    self.target(part, one, roots(one, self.names) if not isinstance(one, _Unknown) else shared)
            case ast.Starred(value=inner):
                self.target(inner, _Unknown(), shared)
            case ast.Attribute(value=whole) | ast.Subscript(value=whole):
                self.change(node, whole, sure=True, holds=shared, value=value)
                self.visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        shared = roots(node.value, self.names)
        for target in node.targets:
            self.target(target, node.value, shared)
        if len(node.targets) > 1:  # a = b = value: the names share it
            named = [target.id for target in node.targets if isinstance(target, ast.Name)]
            for name in named[1:]:
                if not is_immutable(node.value, self.names):
                    self.effects.bindings.append((name, frozenset(named[:1]), node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)
            self.target(node.target, node.value, roots(node.value, self.names))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.target(node.target, node.value, roots(node.value, self.names))

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.value)
        shared = roots(node.value, self.names)
        if isinstance(node.target, ast.Name):
            self.change(node, node.target, sure=True, holds=shared)
            kept = frozenset({node.target.id}) - self.names.immutable
            self.effects.bindings.append((node.target.id, shared | kept, ast.BinOp(node.target, node.op, node.value)))
        elif isinstance(node.target, ast.Attribute | ast.Subscript):
            self.change(node, node.target.value, sure=True, holds=shared)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Attribute | ast.Subscript):
                self.change(node, target.value, sure=True)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.looked_through(node.iter)
        is_range = isinstance(node.iter, ast.Call) and self.names.builtin(node.iter.func) == "range"
        value = ast.Constant(0) if is_range else _Unknown()
        self.target(node.target, value, roots(node.iter, self.names))
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    visit_AsyncFor = visit_For  # noqa: N815 - ast names it

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        """Its variables are its own: what happens to them happens to what is gone through."""
        local = {name.id for part in node.generators for name in walk(part.target) if isinstance(name, ast.Name)}
        inner = _Effects(self.names.without(local))
        inner.generic_visit(node)
        found = inner.effects

        def outside(names: frozenset[str]) -> frozenset[str]:
            reached: set[str] = set()
            waiting = list(names)
            while waiting:
                name = waiting.pop()
                if name not in reached:
                    reached.add(name)
                    waiting += [
                        root for bound, shared, _ in found.bindings if bound == name in local for root in shared
                    ]
            return frozenset(reached - local)

        for change in found.changes:
            if kept := outside(change.roots):
                deep = change.deep or kept != change.roots
                self.effects.changes.append(Change(kept, change.sure, change.node, outside(change.holds), deep))
        for name, shared, value in found.bindings:
            if name not in local:  # by `:=`
                self.effects.bindings.append((name, outside(shared), value))

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp  # noqa: N815 - ast names them

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.looked_through(node.iter)
        self.target(node.target, _Unknown(), roots(node.iter, self.names))
        self.generic_visit(node)

    def looked_through(self, node: ast.expr) -> None:
        if is_iterator(node, self.names):
            self.change(node, node, sure=True)

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            self.change(node, item.context_expr, sure=False)
            if item.optional_vars:
                self.target(item.optional_vars, _Unknown(), roots(item.context_expr, self.names))
        for statement in node.body:
            self.visit(statement)

    visit_AsyncWith = visit_With  # noqa: N815 - ast names it

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        shared = roots(node.subject, self.names)
        for case in node.cases:
            for part in walk(case.pattern):
                name = getattr(part, "name", None) or getattr(part, "rest", None)
                if isinstance(part, ast.MatchAs | ast.MatchStar | ast.MatchMapping) and name:
                    self.effects.bindings.append((name, shared, _Unknown()))
            for statement in [*([case.guard] if case.guard else []), *case.body]:
                self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for part in [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(part)
            self.decorated(part)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast names it

    def decorated(self, node: ast.expr) -> None:
        if isinstance(node, ast.Attribute | ast.Name):
            self.change(node, self.callee(node), sure=False)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in [*node.decorator_list, *node.bases]:
            self.visit(part)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        local = argument_names(node.args)
        found = effects([node.body], self.names.without(local))
        for change in found.changes:
            kept = change.roots - local
            if kept:
                self.effects.changes.append(Change(kept, False, change.node, change.holds - local, deep=True))

    def visit_Await(self, node: ast.Await) -> None:
        self.change(node, node.value, sure=False)
        self.generic_visit(node)

    def visit_YieldFrom(self, node: ast.YieldFrom) -> None:
        self.change(node, node.value, sure=False)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        given: list[ast.expr] = [*node.args, *(keyword.value for keyword in node.keywords)]
        for argument in given:
            self.looked_through(argument)
        builtin, path = self.names.builtin(node.func), self.names.path(node.func)
        if builtin:
            self.call_builtin(builtin, node)
        elif path:
            self.call_library(path, node, given)
        elif isinstance(node.func, ast.Attribute):
            self.call_method(node.func, node, given)
        elif not (isinstance(node.func, ast.Name) and node.func.id in self.names.pure):
            self.change(node, self.callee(node.func), *given, sure=False)
        for function in _given_functions(builtin or path, node):
            self.change(function, self.callee(function), sure=False)

    def callee(self, node: ast.expr) -> ast.expr | None:
        """What a call of `node` may change beside its arguments: the variables of a closure, the object of a method.

        A function or class of the notebook changes what stands in its body, and its definition says that.
        """
        if isinstance(node, ast.Attribute):
            return None if node.attr in PURE_METHODS else node.value
        is_definition = isinstance(node, ast.Name) and node.id in self.names.defined
        return None if is_definition or isinstance(node, ast.Lambda) else node

    def call_builtin(self, builtin: str, node: ast.Call) -> None:
        first = node.args[0] if node.args else None
        if builtin in ("setattr", "delattr", "next", "anext"):
            self.change(node, first, sure=True, holds=frozenset().union(*(roots(a, self.names) for a in node.args[1:])))
        elif builtin not in PURE_BUILTINS:
            self.change(node, *node.args, *(keyword.value for keyword in node.keywords), sure=False)

    def call_library(self, path: str, node: ast.Call, given: list[ast.expr]) -> None:
        if path in IMPURE_FUNCTIONS:
            self.change(node, given[0] if given else None, sure=True, holds=roots(node, self.names))
        elif path.startswith(tuple(f"{module}." for module in PURE_MODULES)) or path in PURE_MODULES:
            for keyword in node.keywords:
                if keyword.arg in ("out", "inplace"):
                    self.change(node, keyword.value, sure=True)
        else:
            self.change(node, *given, sure=False)

    def call_method(self, function: ast.Attribute, node: ast.Call, given: list[ast.expr]) -> None:
        in_place = any(
            keyword.arg in ("inplace", "out")
            and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
            for keyword in node.keywords
        )
        held = frozenset().union(*(roots(argument, self.names) for argument in given))
        if function.attr in CHANGING or in_place or function.attr in RECEIVER_ONLY:
            self.change(node, function.value, sure=True, holds=held)
        elif function.attr not in PURE_METHODS:
            self.change(node, function.value, *given, sure=False)


def _given_functions(called: str, node: ast.Call) -> list[ast.expr]:
    """The arguments that a call calls in turn, where it leaves all others alone: `map(f, rows)`, `sorted(rows, key=f)`."""
    first = node.args[:1] if called in CALLING else []
    return [*first, *(keyword.value for keyword in node.keywords if keyword.arg == "key")]


class _Unknown(ast.expr):
    """A value that no expression of the source stands for: what a loop or an unpacking gives."""
