"""Shared code: the imports and functions cells, of which each step gets the statements that it needs.

A statement that only defines (an import, a function, a plain value) can be left out where nothing needs it, so a step does
not need the libraries of the others. Everything else is kept, because it may do something.
"""

import ast
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kalec.analysis.definitions import Definition, imported_modules
from kalec.analysis.facts import Code, Facts
from kalec.analysis.known import IMMUTABLE_RESULT
from kalec.analysis.names import Names
from kalec.analysis.scopes import Action, occurrences, walk
from kalec.model import Cell


class Part(NamedTuple):
    """One statement of shared code."""

    cell: Cell
    node: ast.stmt
    binds: frozenset[str]
    needs: frozenset[str]
    changes: frozenset[str]
    removable: bool

    @property
    def modules(self) -> tuple[str, ...]:
        """What it imports."""
        return tuple(imported_modules([self.node]))


class SharedCode(NamedTuple):
    """All shared code of one source, in order."""

    code: Code
    facts: Facts
    parts: tuple[Part, ...]
    bound_in: Mapping[str, tuple[Cell, ...]]  # for each name, the cells that bind it

    @property
    def definitions(self) -> frozenset[Definition]:
        """The definitions among its statements."""
        return frozenset(one for several in self.facts.definitions.values() for one in several)

    def needed(self, names: Iterable[str]) -> tuple[tuple[Part, ...], frozenset[str]]:
        """The statements for a step that needs these names, and all the names that they need in turn."""
        wanted = set(names)
        kept = {number for number, part in enumerate(self.parts) if not part.removable}
        for number in kept:
            wanted |= self.parts[number].needs
        grown = True
        while grown:
            grown = False
            for number, part in enumerate(self.parts):
                if number not in kept and (part.binds | part.changes) & wanted:
                    kept.add(number)
                    wanted |= part.needs
                    grown = True
        return tuple(self.parts[number] for number in sorted(kept)), frozenset(wanted)


def make_shared(code: Code, facts: Facts, mentioned: frozenset[str]) -> SharedCode:
    """Shared code from its statements. `mentioned` are the names that any code of the notebook uses."""
    parts = shared_parts(code, mentioned)
    bound_in: dict[str, tuple[Cell, ...]] = {}
    for part in parts:
        for name in part.binds:
            bound_in[name] = (*bound_in.get(name, ()), part.cell)
    return SharedCode(code, facts, parts, bound_in)


def shared_parts(code: Code, mentioned: frozenset[str]) -> tuple[Part, ...]:
    """The statements of shared code. `mentioned` are the names that any code of the notebook uses.

    An import that nobody uses by name is there for what it does, and stays.
    """
    return tuple(_part(cell, node, code, mentioned) for cell, statements in code.cells for node in statements)


def _part(cell: Cell, node: ast.stmt, code: Code, mentioned: frozenset[str]) -> Part:
    found = occurrences(node)
    binds = frozenset(one.name for one in found if one.action is Action.STORE and not one.deferred)
    needs = frozenset(one.name for one in found if one.action is Action.LOAD)
    changes: set[str] = set()
    if not code.definition(node, cell):
        changes |= {one.id for one in walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
    return Part(cell, node, binds, needs, frozenset(changes - binds), _is_removable(node, cell, binds, code, mentioned))


def _is_removable(node: ast.stmt, cell: Cell, binds: frozenset[str], code: Code, mentioned: frozenset[str]) -> bool:
    if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return True
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return False
    if isinstance(node, ast.Import | ast.ImportFrom):
        return bool(binds & mentioned) or not binds
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return not any(_may_act(part, code.names) for part in node.decorator_list)
    if code.definition(node, cell):
        return True
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return all(isinstance(target, ast.Name) for target in targets) and not _may_act(node.value, code.names)
    return False


def _may_act(node: ast.AST | None, names: Names) -> bool:
    """Whether an expression may do more than give its value."""
    for part in walk(node) if node else ():
        if isinstance(part, ast.Await | ast.Yield | ast.NamedExpr):
            return True
        if isinstance(part, ast.Call):
            plain = names.builtin(part.func) in IMMUTABLE_RESULT - {"print", "input"}
            if not plain and names.builtin(part.func) not in (
                "list",
                "dict",
                "set",
                "tuple",
                "frozenset",
                "zip",
                "sorted",
            ):
                return not names.path(part.func).startswith(
                    ("functools.", "dataclasses.", "pathlib.", "math.", "collections.", "os.path.")
                )
    return False


def excerpt(cell: Cell, nodes: list[ast.stmt], all_of_it: bool) -> Cell:
    """A cell with some of its top-level statements alone, each on its own lines."""
    if all_of_it:
        return cell
    lines = cell.source.encode().split(b"\n")
    kept: list[bytes] = [b""] * len(lines)
    for node in sorted(nodes, key=lambda one: (one.lineno, one.col_offset)):
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        last = node.end_lineno or node.lineno
        for number in range(first, last + 1):
            line = lines[number - 1]
            if number == last:
                line = line[: node.end_col_offset]
            if number == first and not decorators:
                line = line[node.col_offset :]
            if number == first and kept[number - 1]:
                line = kept[number - 1] + b"; " + line
            kept[number - 1] = line
    return cell._replace(source=b"\n".join(kept).decode().rstrip())
