"""`kalec explain`: the life of one variable."""

import json
from typing import Annotated

import typer

from kalec.analysis.story import Chapter, tell
from kalec.commands.options import PipelineOption, SourceArgument, severities_from
from kalec.errors import NotFound
from kalec.findings import did_you_mean
from kalec.load import Overrides, load_traced


def command(
    source: SourceArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The variable, function or class.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
    pipeline: PipelineOption = "",
) -> None:
    """Say where NAME is made, which steps change and read it, and why it travels or not."""
    overrides = Overrides(severities=severities_from(None, source.parent))
    loaded, travel = load_traced(source, pipeline=pipeline, overrides=overrides)
    chapters = tell(travel, loaded.pipeline, name)
    if not chapters:
        known = {other for draft in travel.drafts for other in draft.code.names.bound}
        raise NotFound(f"{source} has no name {name!r}{did_you_mean(name, known)}")
    for chapter in chapters:
        typer.echo(_as_json(chapter) if as_json else str(chapter))


def _as_json(chapter: Chapter) -> str:
    place = chapter.place
    record = {
        "step": chapter.step or None,
        "event": chapter.event,
        "text": chapter.text,
        "cell": place.cell or None if place else None,
        "line": place.line or None if place else None,
    }
    return json.dumps(record, ensure_ascii=False)
