"""`kalec lint`: all that is wrong with notebooks, for people, for programs, and for code review."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from kalec import VERSION
from kalec.commands.options import OutputOption, PipelineOption, SeverityOption, read, severities_from, write_output
from kalec.errors import Damaged, Failed, KalecError, NotFound, Refused
from kalec.findings import RULES
from kalec.model import Diagnostic, Severity, worst


class Format(StrEnum):
    """How findings are shown."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


Findings = Sequence[tuple[Path, Diagnostic]]

_SARIF_LEVELS: Final = {Severity.NOTE: "note", Severity.WARNING: "warning", Severity.ERROR: "error"}
_GITHUB_LEVELS: Final = {Severity.NOTE: "notice", Severity.WARNING: "warning", Severity.ERROR: "error"}


def command(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Notebooks and scripts.", show_default=False)],
    output_format: Annotated[Format, typer.Option("--format", help="How findings are shown.")] = Format.TEXT,
    severity: SeverityOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings too make the exit code 1.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show errors and warnings, and no notes.")] = False,
    pipeline: PipelineOption = "",
    output: OutputOption = None,
) -> None:
    """Exit with 0 when no source has errors, else with 1; a source that cannot be read ends it with a code of its own."""
    found: list[tuple[Path, Diagnostic]] = []
    unreadable: list[KalecError] = []
    for source in sources:
        try:
            loaded = read(source, pipeline, severities_from(severity, source.parent))
        except (NotFound, Refused, Damaged, Failed) as error:
            unreadable.append(error)
            continue
        found += [(source, diagnostic) for diagnostic in loaded.diagnostics]
    shown = [one for one in found if not (quiet and one[1].severity is Severity.NOTE)]
    text = RENDERERS[output_format](shown)
    if text or output is not None:
        write_output(text, output)
    for other in unreadable[:-1]:
        typer.echo(f"kalec: {other.message}", err=True)
    if unreadable:
        raise unreadable[-1]
    highest = worst([diagnostic for _, diagnostic in found])
    if highest is Severity.ERROR or (strict and highest is Severity.WARNING):
        raise typer.Exit(1)


def as_text(findings: Findings) -> str:
    """One line for each, as editors and terminals take it, and a last line that counts them."""
    if not findings:
        return ""
    lines = [_line(source, one) for source, one in findings]
    counts = [(level, sum(1 for _, one in findings if one.severity is level)) for level in reversed(Severity)]
    summary = ", ".join(f"{count} {level}{'s' if count > 1 else ''}" for level, count in counts if count)
    return "\n".join([*lines, summary])


def _line(source: Path, one: Diagnostic) -> str:
    place = str(source) + str(one.place).removeprefix(one.place.file)
    if one.place.file != source.name:
        place = str(source.with_name(str(one.place)))
    hint = f" ({one.hint})" if one.hint else ""
    return f"{place}: {one.severity} {one.code} {one.message}{hint}"


def as_json(findings: Findings) -> str:
    """One object a line; fields are only ever added."""
    return "\n".join(
        json.dumps(
            {
                "file": str(source),
                "code": one.code,
                "severity": one.severity.value,
                "message": one.message,
                "hint": one.hint,
                "cell": one.place.cell or None,
                "cell_id": one.place.cell_id or None,
                "line": one.place.line or None,
                "column": one.place.column or None,
            },
            ensure_ascii=False,
        )
        for source, one in findings
    )


def as_sarif(findings: Findings) -> str:
    """SARIF 2.1.0, for code scanning. A line of a notebook is that of its cell, which the logical location names."""
    codes = sorted({one.code for _, one in findings})
    rules = [
        {
            "id": code,
            "shortDescription": {"text": RULES[code].title},
            "defaultConfiguration": {"level": _SARIF_LEVELS[RULES[code].severity]},
        }
        for code in codes
    ]
    results = [
        {
            "ruleId": one.code,
            "ruleIndex": codes.index(one.code),
            "level": _SARIF_LEVELS[one.severity],
            "message": {"text": one.message + (f" ({one.hint})" if one.hint else "")},
            "locations": [_sarif_location(source, one)],
        }
        for source, one in findings
    ]
    driver = {"name": "kalec", "version": VERSION, "rules": rules}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}],
    }
    return json.dumps(log, indent=2, ensure_ascii=False)


def _sarif_location(source: Path, one: Diagnostic) -> dict[str, Any]:
    place = one.place
    physical: dict[str, Any] = {"artifactLocation": {"uri": source.as_posix()}}
    if place.line:
        physical["region"] = {"startLine": place.line, "startColumn": max(place.column, 1)}
    location: dict[str, Any] = {"physicalLocation": physical}
    if place.cell:
        name = f"cell {place.cell}" + (f" [{place.cell_id}]" if place.cell_id else "")
        location["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "module"}]
    return location


def as_github(findings: Findings) -> str:
    """Workflow commands of GitHub Actions, which put findings beside the code."""
    lines = []
    for source, one in findings:
        where = f"file={_escaped(str(source), True)}"
        cell = f"cell {one.place.cell}: " if one.place.cell else ""
        if (
            one.place.line and not one.place.cell
        ):  # GitHub counts lines of the file, and a notebook's are not those of a cell
            where += f",line={one.place.line},col={one.place.column}"
        message = f"{cell}{one.message}" + (f" ({one.hint})" if one.hint else "")
        lines.append(f"::{_GITHUB_LEVELS[one.severity]} {where},title={one.code}::{_escaped(message, False)}")
    return "\n".join(lines)


def _escaped(text: str, in_property: bool) -> str:
    pairs: Iterable[tuple[str, str]] = [("%", "%25"), ("\r", "%0D"), ("\n", "%0A")]
    if in_property:
        pairs = [*pairs, (":", "%3A"), (",", "%2C")]
    for character, code in pairs:
        text = text.replace(character, code)
    return text


RENDERERS: Final[Mapping[Format, Callable[[Findings], str]]] = {
    Format.TEXT: as_text,
    Format.JSON: as_json,
    Format.SARIF: as_sarif,
    Format.GITHUB: as_github,
}
