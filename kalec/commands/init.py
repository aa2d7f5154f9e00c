"""`kalec init`: tags for a notebook that has none. Headings become steps, and data becomes edges."""

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from kalec.commands.options import SourceArgument
from kalec.emit.files import replace_file
from kalec.errors import Failed, Refused
from kalec.findings import Findings
from kalec.load import load_traced, read_source
from kalec.model import Place
from kalec.outline import parse_code
from kalec.source.cells import Source, SourceCell
from kalec.source.magics import translate
from kalec.source.notebook import parse_notebook, with_tags
from kalec.vocabulary import CellTags, read_tags


class Proposal(NamedTuple):
    """What one cell is to be tagged, beside the tags that it has."""

    cell: SourceCell
    tags: tuple[str, ...]


def command(
    source: SourceArgument,
    write: Annotated[bool, typer.Option("--write", help="Write the tags into the notebook.")] = False,
) -> None:
    """Show the tags that are proposed, or write them; a notebook that has tags of kalec is left alone."""
    if source.suffix != ".ipynb":
        raise Refused(
            f"{source} is no notebook", hint='tags of a script stand in its cell markers: # %% tags=["step:train"]'
        )
    read = read_source(source)
    if any(read_tags(cell.tags, Place(read.file), Findings()) != CellTags() for cell in read.cells):
        raise Refused(f"{source} is tagged already", hint="see what is wrong with it by `kalec lint`")
    proposals = list(propose(read, source))
    for proposal in proposals:
        first = next((line for line in proposal.cell.source.splitlines() if line.strip()), "")
        tags = " ".join(proposal.tags) or "(with the cell above)"
        typer.echo(f"cell {proposal.cell.number}: {tags:<32} {first[:60]}")
    if write:
        write_tags(source, read, {proposal.cell.number: proposal.tags for proposal in proposals})
        typer.echo(f"wrote the tags to {source}", err=True)
    else:
        typer.echo("nothing is written; --write does it", err=True)


def propose(read: Source, path: Path) -> Iterator[Proposal]:
    """Tags for all code cells: imports, functions, parameters, and a step for each heading, with its prev: edges."""
    proposals = list(_roles(read.cells))
    edges = _edges(read, path, proposals)
    begun: set[str] = set()
    for proposal in proposals:
        step = proposal.tags[0].removeprefix("step:") if proposal.tags else ""
        before = edges.get(step, ()) if step not in begun else ()
        begun.add(step)
        yield proposal._replace(tags=(*proposal.tags, *(f"prev:{name}" for name in before)))


def _roles(cells: Iterable[SourceCell]) -> Iterator[Proposal]:
    step, target, heading, used = "", "", "start", set[str]()
    for cell in cells:
        if cell.headings:
            step, heading = "", cell.headings[-1]
        kind = _kind(cell)
        if not cell.source.strip():
            continue
        if kind == "step":
            if not step:
                step = _free_name(heading, used)
                used.add(step)
            kind = f"step:{step}"
        yield Proposal(cell, () if kind == target and kind.startswith("step:") else (kind,))
        target = kind


def _kind(cell: SourceCell) -> str:
    if {"parameters", "injected-parameters"} & set(cell.tags):
        return "pipeline-parameters"
    try:
        statements = parse_code(translate(cell.source).source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return "step"
    kinds = {_kind_of(statement) for statement in statements} - {""}
    if kinds <= {"imports"}:
        return "imports"
    return "functions" if kinds <= {"imports", "functions"} else "step"


def _kind_of(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return "imports"
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return "functions"
    plain = isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
    return "" if plain else "step"


def _free_name(heading: str, used: set[str]) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", heading.lower()).strip("_")[:40].strip("_") or "step"
    name = f"_{name}" if name[0].isdigit() else name
    number = 1
    while (name if number == 1 else f"{name}_{number}") in used:
        number += 1
    return name if number == 1 else f"{name}_{number}"


def _edges(read: Source, path: Path, proposals: list[Proposal]) -> dict[str, tuple[str, ...]]:
    """The edges that data asks for: those that the analysis adds when none is said."""
    cells = [
        {
            "cell_type": "code",
            "id": cell.cell_id,
            "metadata": {"tags": list(tags)},
            "source": cell.source,
        }
        for cell, tags in ((proposal.cell, proposal.tags) for proposal in proposals)
    ]
    text = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})
    _, travel = load_traced(path, text=text)
    return {
        name: tuple(sorted(journey.after, key=travel.position.__getitem__)) for name, journey in travel.journeys.items()
    }


def write_tags(path: Path, read: Source, tags: Mapping[int, Sequence[str]]) -> None:
    """Add tags to cells, by their numbers, and leave every other byte of the notebook as it is.

    Raises Failed (changed since it was read, cannot be written), Refused, OutOfSpace; then the notebook is as it was.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}") from None
    if parse_notebook(path.name, content) != read:
        raise Failed(f"{path} has changed meanwhile", hint="run it again")
    replace_file(path, with_tags(content, tags))
