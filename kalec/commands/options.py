"""Arguments and options that several commands share, and how a command reads its source."""

from pathlib import Path
from typing import Annotated

import typer

from kalec.errors import Damaged, Refused
from kalec.findings import parse_severities
from kalec.load import Overrides, load_pipeline
from kalec.model import Loaded, Severity

SourceArgument = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="A notebook (.ipynb), or a script or module (.py).", show_default=False)
]
PipelineOption = Annotated[
    str, typer.Option("--pipeline", metavar="NAME", help="The @pipeline function, where a module has several.")
]
SeverityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--severity", metavar="CODE=LEVEL", help="note, warning, error or off, for one rule; may be given again."
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file, not to stdout; - is stdout.")
]


def severities_from(options: list[str] | None, folder: Path) -> dict[str, Severity | None]:
    """The severities of `[tool.kalec.severity]` in the nearest pyproject.toml, and those of the options over them.

    Raises Refused (no such rule or level), Damaged (a pyproject.toml that cannot be read).
    """
    pairs: list[tuple[str, object]] = list(_project_severities(folder).items())
    for option in options or ():
        code, equals, level = option.partition("=")
        if not equals:
            raise Refused(f"{option!r} is no severity", hint="write it as --severity CODE=LEVEL")
        pairs.append((code, level))
    return parse_severities(pairs)


def _project_severities(folder: Path) -> dict[str, object]:
    for parent in (folder.absolute(), *folder.absolute().parents):
        project = parent / "pyproject.toml"
        if project.is_file():
            import tomllib  # here, since outside of a project there is nothing to read

            try:
                settings = tomllib.loads(project.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise Damaged(f"{project} cannot be read: {error}") from None
            own = settings.get("tool", {}).get("kalec", {})
            found = own.get("severity", {}) if isinstance(own, dict) else {}
            return found if isinstance(found, dict) else {}
    return {}


def read(source: Path, pipeline: str = "", severities: dict[str, Severity | None] | None = None) -> Loaded:
    """Load a source with the severities that hold for it. Raises what `load_pipeline` raises."""
    if severities is None:
        severities = severities_from(None, source.parent)
    return load_pipeline(source, pipeline=pipeline, overrides=Overrides(severities=severities))


def write_output(text: str, output: Path | None) -> None:
    """Put a result where it is wanted. Raises NotFound, Failed, OutOfSpace."""
    if output is None or str(output) == "-":
        typer.echo(text, nl=not text.endswith("\n"))
        return
    from kalec.emit.files import replace_file

    replace_file(output, [(text if text.endswith("\n") else text + "\n").encode()])
