"""`kalec graph`: the steps as a drawing, and on each edge the variables that travel."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Final

import typer

from kalec.commands.options import OutputOption, PipelineOption, SourceArgument, read, write_output
from kalec.drawing import as_dot, as_mermaid, as_svg
from kalec.model import Pipeline


class Format(StrEnum):
    """What the drawing is written in."""

    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


DRAWERS: Final[Mapping[Format, Callable[[Pipeline], str]]] = {
    Format.MERMAID: as_mermaid,
    Format.DOT: as_dot,
    Format.SVG: as_svg,
}
_SUFFIXES: Final = {".dot": Format.DOT, ".gv": Format.DOT, ".svg": Format.SVG}


def command(
    source: SourceArgument,
    output_format: Annotated[
        Format | None, typer.Option("--format", help="What it is drawn in; else by the name of the output file.")
    ] = None,
    pipeline: PipelineOption = "",
    output: OutputOption = None,
) -> None:
    """Draw a source, also one with errors: a drawing often shows what is wrong."""
    loaded = read(source, pipeline)
    chosen = output_format or (_SUFFIXES.get(output.suffix) if output else None) or Format.MERMAID
    write_output(DRAWERS[chosen](loaded.pipeline), output)
    if loaded.has_errors:
        typer.echo(f"kalec: {source} has errors; see `kalec lint {source}`", err=True)
