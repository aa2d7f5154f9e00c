"""What calling a function of the notebook may do: change what it is given or finds outside, and give it back."""

import ast
from typing import Final

from kalec.analysis.effects import Change, Effects, effects, roots
from kalec.analysis.names import Names
from kalec.analysis.scopes import argument_names, bound_names, walk

# What a function with these in it gives is not followed.
_OPAQUE: Final = (ast.Yield, ast.YieldFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def body_changes(node: ast.AST, names: Names) -> tuple[dict[str, bool], set[str]]:
    """What calling a function may change: outer names (with whether it is sure), and its own parameters.

    A class stands for all of its methods.
    """
    outer: dict[str, bool] = {}
    parameters: set[str] = set()
    for inner in walk(node):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            body = inner.body if isinstance(inner.body, list) else [inner.body]
            local, _ = bound_names(body)
            own = argument_names(inner.args)
            found = effects(body, names.without(local | own))
            for name, sure in _reached(found).items():
                if name in own:
                    parameters.add(name)
                elif name not in local:
                    outer[name] = outer.get(name, False) or sure
    return outer, parameters


def gives_fresh(function: ast.FunctionDef, names: Names) -> bool:
    """Whether the result of a function surely shares nothing with its arguments, nor with anything outside."""
    nodes = [node for part in function.body for node in walk(part)]
    if function.decorator_list or any(isinstance(node, _OPAQUE) for node in nodes):
        return False
    local = bound_names(function.body)[0] - argument_names(function.args)
    inside = names.without(local | argument_names(function.args))
    found = effects(function.body, inside)
    linked: dict[str, set[str]] = {name: set() for name, _, _ in found.bindings}
    links = [(frozenset({name}), shared) for name, shared, _ in found.bindings]
    links += [(change.roots, change.roots | change.holds) for change in found.changes]
    for ones, others in links:
        for name in ones & linked.keys():
            linked[name] |= others
        for name in others & linked.keys():
            linked[name] |= ones
    waiting = [root for node in nodes if isinstance(node, ast.Return) for root in roots(node.value, inside)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in local or name not in linked:  # an argument, something outside, or what no value is known of
            return False
        if name not in seen:
            seen.add(name)
            waiting += linked[name]
    return True


def reached_by(change: Change, found: Effects) -> set[str]:
    """The names that a change reaches, through names that may stand for the same object; `found` says which do."""
    shares: dict[str, set[str]] = {}
    for name, shared, _ in found.bindings:
        shares.setdefault(name, set()).update(shared)
    waiting = list(change.roots)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += shares.get(name, ())
    return seen


def _reached(found: Effects) -> dict[str, bool]:
    reached: dict[str, bool] = {}
    for change in found.changes:
        for name in reached_by(change, found):
            reached[name] = reached.get(name, False) or change.sure
    return reached
