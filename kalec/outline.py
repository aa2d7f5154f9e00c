"""The outline of a source: which cells are shared, which are parameters and metrics, and which make up each step."""

import ast
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kalec.analysis.scopes import walk
from kalec.findings import Findings, did_you_mean
from kalec.metadata import settings_from_mapping
from kalec.model import Cell, Place, StepSettings
from kalec.source.cells import Source, SourceCell
from kalec.source.magics import Translation, translate
from kalec.source.stars import Unresolved, star_names
from kalec.vocabulary import CellTags, Role, merge_settings, read_tags

Parsed = tuple[Cell, list[ast.stmt]]


@dataclass(eq=False, repr=False, slots=True)
class StepOutline:
    """A step, as tags and cells say."""

    name: str
    place: Place
    cells: list[Parsed] = field(default_factory=list)
    previous: list[str] = field(default_factory=list)
    settings: StepSettings = field(default_factory=StepSettings)
    requirements: list[str] = field(default_factory=list)
    unit: str = ""


class Reference(NamedTuple):
    """A `notebook:` cell."""

    name: str
    path: str
    place: Place
    above: list[str]  # the steps of this notebook that stand above it


class Outline:
    """All cells of a source, sorted by what they are for."""

    def __init__(self, file: str, step_functions: frozenset[str]) -> None:
        self.file = file
        self.shared: list[Parsed] = []
        self.parameters: list[Parsed] = []
        self.metrics: list[Parsed] = []
        self.steps: dict[str, StepOutline] = {}
        self.references: list[Reference] = []
        self.requirements: list[str] = []  # of shared code
        self.order: list[tuple[str, int]] = []  # all cells, as (file, number)
        self.postponed = False  # from __future__ import annotations
        self.step_functions = step_functions


def outline(source: Source, folder: Path | None, findings: Findings) -> Outline:
    """Sort the cells of a source. `folder` is where modules beside it are looked for."""
    result = Outline(source.file, source.step_functions)
    trees = {cell.number: _tree(cell.source.rstrip()) for cell in source.cells}
    names = frozenset() if all(trees.values()) else _bound_names(source, trees)
    target: tuple[Role, str] | None = None
    lost: list[SourceCell] = []
    for cell in source.cells:
        place = source.place(cell)
        tags = read_tags(cell.tags, place, findings)
        if tags.role is Role.SKIP:
            continue
        if tags.role is Role.NOTEBOOK:
            _refer(result, cell, tags, place, findings)
            target = None
            continue
        if tags.role is not None:
            target = (tags.role, tags.name)
        if target is None:
            lost.append(cell)
            continue
        if tags.role is Role.STEP:
            decorated = cell.metadata.get("settings")
            if isinstance(decorated, dict):
                tags = tags._replace(settings=settings_from_mapping(decorated, place, findings))
            _begin_step(result, tags, place, findings)
        parsed, requirements = _parse(source, cell, trees[cell.number], names, folder, findings)
        result.order.append((parsed[0].file, parsed[0].number))
        _add(result, target, parsed, requirements)
    for cell in lost:
        if cell.source.strip():
            message = "this code stands before the first tag, and no step has it"
            findings.add("KLC016", source.place(cell), message, hint="tag it imports, functions, skip or step:NAME")
    for step in result.steps.values():
        if all(not statements and _is_python(cell.source) for cell, statements in step.cells):
            findings.add("KLC017", step.place, f"step {step.name!r} has no code")
    _check_previous(result, findings)
    return result


def _add(result: Outline, target: tuple[Role, str], parsed: Parsed, requirements: list[str]) -> None:
    role, name = target
    if role is Role.STEP:
        result.steps[name].cells.append(parsed)
        result.steps[name].requirements += requirements
        return
    cells = {
        Role.IMPORTS: result.shared,
        Role.FUNCTIONS: result.shared,
        Role.PARAMETERS: result.parameters,
        Role.METRICS: result.metrics,
    }
    cells[role].append(parsed)
    result.requirements += requirements
    result.postponed = result.postponed or has_future_annotations([parsed])


def has_future_annotations(cells: Iterable[Parsed]) -> bool:
    """Whether annotations in these cells are not evaluated."""
    statements = [one for _, several in cells for one in several if isinstance(one, ast.ImportFrom)]
    return any(one.module == "__future__" and one.names[0].name == "annotations" for one in statements)


def _begin_step(result: Outline, tags: CellTags, place: Place, findings: Findings) -> None:
    step = result.steps.get(tags.name)
    if step is None:
        result.steps[tags.name] = StepOutline(tags.name, place, [], list(tags.previous), tags.settings)
        return
    merged = merge_settings(step.settings, tags.settings)
    if merge_settings(tags.settings, step.settings) != merged:
        message = (
            f"step {tags.name!r} is begun in two cells ({step.place} is the other) whose settings contradict each other"
        )
        findings.add("KLC015", place, message)
    step.settings = merged
    step.previous += [name for name in tags.previous if name not in step.previous]


def _refer(result: Outline, cell: SourceCell, tags: CellTags, place: Place, findings: Findings) -> None:
    path = cell.metadata.get("notebook_path")
    if any(line.strip() and not line.strip().startswith("#") for line in cell.source.splitlines()):
        findings.add("KLC023", place, f"the cell that refers to notebook {tags.name!r} has code of its own")
    if not isinstance(path, str) or not path:
        message = f"the notebook {tags.name!r} has no notebook_path in the metadata of its cell"
        findings.add("KLC023", place, message)
        return
    result.references.append(Reference(tags.name, path, place, list(result.steps)))


def _check_previous(result: Outline, findings: Findings) -> None:
    units = {reference.name for reference in result.references}
    for step in result.steps.values():
        for name in step.previous:
            if name == step.name:
                findings.add("KLC014", step.place, f"step {name!r} waits for itself", hint=f"remove prev:{name}")
            elif name not in result.steps and name not in units:
                near = did_you_mean(name, result.steps.keys() - {step.name})
                findings.add("KLC013", step.place, f"prev:{name} of step {step.name!r}: there is no such step{near}")
        step.previous = [name for name in step.previous if name != step.name and name in result.steps.keys() | units]


def _bound_names(source: Source, trees: Mapping[int, ast.Module | None]) -> frozenset[str]:
    """All names that the source may bind, near enough for `$name` in a shell command."""
    found: set[str] = set()
    for cell in source.cells:
        tree = trees[cell.number] or _tree(translate(cell.source).source)
        for node in walk(tree) if tree else ():
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                found.add(node.id)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                found.update(alias.asname or alias.name.split(".")[0] for alias in node.names)
    return frozenset(found)


def _tree(source: str) -> ast.Module | None:
    try:
        return parse_code(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def _is_python(source: str) -> bool:
    try:
        _compile(parse_code(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


def parse_code(source: str) -> ast.Module:
    """The syntax tree of a cell, in which `await` may stand at the top. Raises what `compile` raises."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an escape that is not one: Python says so when the step runs
        tree = compile(source, "<cell>", "exec", flags, dont_inherit=True)
        assert isinstance(tree, ast.Module)
        return tree


def _parse(
    source: Source,
    cell: SourceCell,
    tree: ast.Module | None,
    names: frozenset[str],
    folder: Path | None,
    findings: Findings,
) -> tuple[Parsed, list[str]]:
    """A cell as Python, magics translated; without statements when it is not Python. `tree` is its own, if it has no magics."""
    translation = Translation(cell.source) if tree else translate(cell.source, names)
    for remark in translation.remarks:
        findings.add(remark.code, source.place(cell, remark.line, 1), remark.message, hint=remark.hint)
    made = Cell(
        source.file, cell.number, cell.cell_id, translation.source.rstrip(), cell.first_line, source.in_notebook
    )
    statements: list[ast.stmt] = []
    try:
        tree = tree or parse_code(made.source)
        _compile(tree)
        statements = list(_without_stars(tree.body, made, folder, findings))
    except SyntaxError as error:
        place = made.place(error.lineno or 1, error.offset or 1)
        findings.add("KLC002", place, f"not Python: {error.msg}")
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        findings.add("KLC002", made.place(), f"not Python: {str(error) or type(error).__name__}")
    return (made, statements), translation.requirements


def _compile(tree: ast.Module) -> None:
    """Find what only the compiler sees: `return` outside a function, two parameters of one name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compile(tree, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def _without_stars(
    statements: list[ast.stmt], cell: Cell, folder: Path | None, findings: Findings
) -> Iterable[ast.stmt]:
    """The statements, with the names that a star import brings in its place."""
    for statement in statements:
        for node in walk(statement) if "*" in cell.source else ():
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                place = cell.place(node.lineno, node.col_offset + 1)
                try:
                    if node.level or not node.module:
                        raise Unresolved("a notebook is no package, so a relative import finds nothing")
                    found = star_names(node.module, folder)
                    node.names = [ast.alias(name) for name in sorted(found)] or [ast.alias("*")]
                except Unresolved as error:
                    hint = "import the names that are used"
                    findings.add("KLC110", place, f"`from {node.module or '.'} import *`: {error}", hint=hint)
        yield statement
