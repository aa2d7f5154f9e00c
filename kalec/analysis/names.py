"""What the notebook as a whole says about its names."""

import ast
from collections.abc import Mapping
from typing import NamedTuple

from kalec.model import NOTHING


class Names(NamedTuple):
    """What the notebook as a whole says about names: only what holds for every binding of a name stands here."""

    imports: Mapping[str, str] = NOTHING  # np -> numpy, sqrt -> math.sqrt
    members: frozenset[str] = frozenset()  # those of `imports` that are members of a module, not modules
    immutable: frozenset[str] = frozenset()  # never bound to anything that can change
    iterators: frozenset[str] = frozenset()  # maybe bound to an iterator: looking at it changes it
    pure: frozenset[str] = frozenset()  # functions of the notebook that change nothing they are given
    fresh: frozenset[str] = frozenset()  # functions of the notebook whose results share nothing with what is there
    defined: frozenset[str] = frozenset()  # only ever bound to functions and classes
    once: frozenset[str] = frozenset()  # bound by one top-level statement alone
    bound: frozenset[str] = frozenset()  # everything that the notebook binds

    def path(self, node: ast.expr) -> str:
        """The dotted path of what an expression names, as "numpy.random.seed"; "" when it is not from an import."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.imports:
            return ""
        return ".".join([self.imports[node.id], *reversed(parts)])

    def module(self, name: str) -> str:
        """The module that an imported name is, or is from."""
        path = self.imports[name]
        return path.rpartition(".")[0] if name in self.members else path

    def builtin(self, node: ast.expr) -> str:
        """The name of the builtin that an expression names, or ""."""
        return node.id if isinstance(node, ast.Name) and node.id not in self.bound else ""

    def without(self, local: set[str]) -> "Names":
        """The same inside a function that has its own meaning for some names."""
        if not local & (self.imports.keys() | self.immutable | self.pure | self.fresh | self.defined):
            return self._replace(bound=self.bound | local)
        return self._replace(
            imports={name: path for name, path in self.imports.items() if name not in local},
            immutable=self.immutable - local,
            pure=self.pure - local,
            fresh=self.fresh - local,
            defined=self.defined - local,
            bound=self.bound | local,
        )
