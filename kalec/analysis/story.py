"""The life of one name: where it is made, who changes and reads it, and why it travels or not."""

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kalec.analysis.checks import place_of
from kalec.analysis.travel import Journey, Travel
from kalec.analysis.versions import Kind, Version
from kalec.model import Pipeline, Place, Step


class Chapter(NamedTuple):
    """One thing that happens to a name. `event` is a word: parameter, shared, made, changed, deleted, read, written, kept."""

    step: str  # "" where it is of no step
    event: str
    text: str
    place: Place | None = None

    def __str__(self) -> str:
        """One line, for a person."""
        where = f"{self.place}: " if self.place else ""
        return where + (f"step {self.step!r} " if self.step else "") + self.text


def tell(travel: Travel, pipeline: Pipeline, name: str) -> tuple[Chapter, ...]:
    """All that happens to a name, in the order of the steps; nothing for a name that the source does not have."""
    chapters = list(_before(travel, pipeline, name))
    for step in pipeline.steps:
        chapters += _in_step(travel, step, name)
    return tuple(chapters)


def _before(travel: Travel, pipeline: Pipeline, name: str) -> Iterator[Chapter]:
    for parameter in pipeline.parameters:
        if parameter.name == name:
            yield Chapter(
                "", "parameter", f"{name!r} is a pipeline parameter ({parameter.type.value})", parameter.place
            )
    for draft in travel.drafts[:1]:
        facts = draft.shared.facts
        for site in sorted(origin for origin in facts.exits.get(name, frozenset()) if origin >= 0):
            place = place_of(facts.bound_in[site], facts.bound_at[site])
            yield Chapter("", "shared", f"{name!r} is made by shared code, anew in each step that needs it", place)


def _in_step(travel: Travel, step: Step, name: str) -> Iterator[Chapter]:
    journey = travel.journeys[step.name]
    use = journey.facts.uses.get(name)
    version = journey.entry.get(name)
    if use and version:
        place = place_of(use.cell, use.occurrence.node) if use.cell.number else None
        through = f", through {sorted(use.called.names)[0]!r}" if use.called and use.called.names else ""
        yield Chapter(step.name, "read", f"uses it{through}: {_origin(version)}", place)
    elif version and any(read.name == name for read in step.reads):
        yield Chapter(step.name, "read", f"takes it in only to hand it on: {_origin(version)}")
    made = journey.made.get(name)
    if made:
        yield from _made(journey, made, step)


def _origin(version: Version) -> str:
    match version.kind:
        case Kind.PARAMETER:
            return "the pipeline parameter"
        case Kind.SHARED:
            return "as shared code makes it"
        case Kind.DEFINITION:
            return f"its source is executed again, as in step {version.step!r}"
        case Kind.DELETED:
            return f"it was deleted in step {version.step!r}"
    return f"its value comes from step {version.step!r}"


def _made(journey: Journey, made: Version, step: Step) -> Iterator[Chapter]:
    facts, name = journey.facts, made.name
    for site in sorted(origin for origin in facts.exits.get(name, frozenset()) if origin >= 0):
        place = place_of(facts.bound_in[site], facts.bound_at[site])
        what = "defines it" if made.kind is Kind.DEFINITION else "makes it"
        yield Chapter(step.name, "made", what + (", perhaps" if made.passes_through else ""), place)
    if made.kind is Kind.DELETED:
        yield Chapter(step.name, "deleted", "deletes it")
    if name in journey.joined:
        yield Chapter(
            step.name, "changed", "may change it through another name, or puts it together with one that changes"
        )
    else:
        for change in facts.effects.changes:
            if name in change.roots:
                sure = "changes" if change.sure else "may change"
                cell = next(
                    (c for c, statements in journey.draft.code.cells if _stands_in(change.node, statements)), None
                )
                yield Chapter(step.name, "changed", f"{sure} it", place_of(cell, change.node) if cell else None)
        if name in facts.changes and name not in facts.own_changes:
            yield Chapter(step.name, "changed", "may change it, in a function that it calls")
    if any(write.name == name for write in step.writes):
        yield Chapter(step.name, "written", "hands it on, because a later step reads it")
    elif made.kind is Kind.VALUE:
        yield Chapter(step.name, "kept", "keeps it to itself: no later step reads it from here")


def _stands_in(node: ast.AST, statements: Iterable[ast.stmt]) -> bool:
    return any(node is other for statement in statements for other in ast.walk(statement))
