"""What `from module import *` brings, found without importing the module.

A module's source is read as text: `__all__` where it is plain, else all public names that it binds. Only the interpreter's own
compiled modules (math) are asked directly: they have no source, and importing them does nothing else.
"""

import ast
import importlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import Final

from kalec.analysis.scopes import Action, occurrences

_MAX_DEPTH: Final = 8  # star imports inside star imports


class Unresolved(Exception):
    """The names of a module cannot be known; says why."""


def star_names(module: str, folder: Path | None, depth: int = 0) -> frozenset[str]:
    """The names that a star import of `module` binds. A module beside the notebook, in `folder`, comes first.

    Raises Unresolved.
    """
    if module.split(".")[0] in sys.builtin_module_names or _is_own_extension(module):
        own = importlib.import_module(module)
        names = getattr(own, "__all__", None)
        return frozenset(names if names is not None else (name for name in vars(own) if not name.startswith("_")))
    path = _find(module, folder)
    if path is None:
        raise Unresolved(f"the module {module!r} is not installed here")
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise Unresolved(f"the source of {module!r} cannot be read: {error}") from None
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return _exported(tree, module, package, folder, depth)


def _is_own_extension(module: str) -> bool:
    """Whether it is a compiled module of the standard library."""
    if module not in sys.stdlib_module_names:
        return False
    found = importlib.util.find_spec(module)
    return found is not None and isinstance(found.loader, importlib.machinery.ExtensionFileLoader)


def _find(module: str, folder: Path | None) -> Path | None:
    """The source file of a module. Only its top package is looked up, so no package is executed."""
    top, *inner = module.split(".")
    roots = [folder / top] if folder and ((folder / top).is_dir() or (folder / f"{top}.py").is_file()) else []
    if not roots:
        try:
            found = importlib.util.find_spec(top)
        except (ImportError, ValueError, AttributeError):
            return None
        if found is None:
            return None
        if not inner and found.origin and found.origin.endswith(".py"):
            return Path(found.origin)
        roots = [Path(place) for place in found.submodule_search_locations or ()]
    for root in roots:
        place = root.joinpath(*inner)
        for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if path.is_file():
                return path
    return None


def _exported(tree: ast.Module, module: str, package: str, folder: Path | None, depth: int) -> frozenset[str]:
    listed: list[str] | None = None
    public: set[str] = set()
    for node in tree.body:
        target = _all_target(node)
        if target is not None:
            if not isinstance(target, ast.List | ast.Tuple) or not all(
                isinstance(e, ast.Constant) for e in target.elts
            ):
                raise Unresolved(f"the __all__ of {module!r} is worked out at run time")
            listed = [*(listed or []), *(str(e.value) for e in target.elts if isinstance(e, ast.Constant))]
    if listed is not None:
        return frozenset(listed)
    for star in [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]:
        if depth >= _MAX_DEPTH:
            raise Unresolved(f"the star imports of {module!r} go too deep")
        base = package.split(".")[: len(package.split(".")) - star.level + 1] if star.level else []
        public |= star_names(".".join([*base, *([star.module] if star.module else [])]), folder, depth + 1)
    for part in occurrences(*tree.body):
        if part.action is Action.STORE and not part.deferred:
            public.add(part.name)
    return frozenset(name for name in public if not name.startswith("_"))


def _all_target(node: ast.stmt) -> ast.expr | None:
    """What a statement gives to, or adds to, `__all__`."""
    match node:
        case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
            return value
        case ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value):
            return value
        case ast.AugAssign(target=ast.Name(id="__all__"), value=value):
            return value
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="__all__")))):
            return ast.Constant(None)
    return None
