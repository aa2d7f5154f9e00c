"""Whether the modules that steps import can be installed there: what is not installed here has no version to ask for."""

import ast
import importlib.util
import sys
from pathlib import Path

from kalec.analysis.checks import place_of
from kalec.analysis.scopes import walk
from kalec.analysis.travel import Travel
from kalec.findings import Findings
from kalec.model import Cell


def check_modules(travel: Travel, folder: Path, findings: Findings) -> None:
    """Look up the top package of each import, without importing it. `folder` is that of the source."""
    looked_up: dict[str, str] = {}
    seen: set[int] = set()
    for draft in travel.drafts:
        for cell, statements in [*draft.shared.code.cells, *draft.code.cells]:
            for statement in statements:
                if id(statement) not in seen:
                    seen.add(id(statement))
                    _check(statement, cell, folder, looked_up, findings)


def _check(statement: ast.stmt, cell: Cell, folder: Path, looked_up: dict[str, str], findings: Findings) -> None:
    inner = list(walk(statement))
    guarded = {
        id(node) for attempt in inner if isinstance(attempt, ast.Try) for part in attempt.body for node in walk(part)
    }
    for node in inner:
        if id(node) in guarded:
            continue  # who catches the failure of an import expects it
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top not in looked_up:
                looked_up[top] = _problem(top, folder)
            if looked_up[top]:
                findings.add("KLC205", place_of(cell, node), looked_up[top])


def _problem(top: str, folder: Path) -> str:
    if top in sys.stdlib_module_names:
        return ""
    if (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file():
        return f"the module {top!r} is a file beside the notebook, which a step has only from its image or a volume"
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        found = None
    return (
        ""
        if found
        else f"the module {top!r} belongs to no distribution that is installed here, so its version is not known"
    )
