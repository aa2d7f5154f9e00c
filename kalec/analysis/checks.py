"""What the analysis says to the user about names: undefined, not in reach, uncertain, changed in parallel."""

import ast
from collections.abc import Container, Iterable

from kalec.analysis.definitions import Definition
from kalec.analysis.facts import Use
from kalec.analysis.scopes import Occurrence
from kalec.analysis.shared import SharedCode
from kalec.analysis.travel import GIVEN, Journey, Travel, changed_after
from kalec.analysis.versions import Kind, Version
from kalec.findings import Findings, did_you_mean
from kalec.model import Cell, Place


def check_names(travel: Travel, findings: Findings, by_data: Container[str] = ()) -> None:
    """Everything that is wrong with names, in all steps. Of those `by_data`, edges are meant to come from data."""
    every = frozenset(name for draft in travel.drafts for name in draft.code.names.bound)
    known = every.union(*(draft.defaults.keys() for draft in travel.drafts))
    for journey in travel.journeys.values():
        for name, use in journey.facts.uses.items():
            _check_use(travel, journey, name, use, known, findings)
        for step, use in journey.added.items():
            if journey.draft.name not in by_data and step not in by_data:
                _check_added(journey, step, use, findings)
        _check_certainty(journey, findings)
        for several in journey.facts.definitions.values():
            for definition in several:
                check_bodies(definition, known, findings)
        for cell, statement in journey.facts.unreachable:
            findings.add("KLC206", place_of(cell, statement), "this is never reached")
        for cell, node in journey.facts.dynamic:
            message = "only a run can know which names this touches: it gets all, and what it binds does not travel"
            findings.add("KLC111", place_of(cell, node), message)


def check_shared(shared: SharedCode, given: Iterable[str], makers: dict[str, str], findings: Findings) -> None:
    """Shared code runs at the start of each step: it cannot need what a step makes."""
    given = frozenset(given) | GIVEN
    for name, use in shared.facts.uses.items():
        if name in given:
            continue
        if name in makers and use.is_real and not use.called and not use.occurrence.deferred:
            message = (
                f"{name!r} is made by step {makers[name]!r}, and this cell runs at the start of every step, before it"
            )
            findings.add("KLC114", place_of(use.cell, use.occurrence.node), message, hint="give the cell a step: tag")
        elif name not in makers and (use.expected or (use.occurrence.deferred and use.is_real)):
            near = did_you_mean(name, given | shared.code.names.bound)
            findings.add("KLC104", place_of(use.cell, use.occurrence.node), f"undefined name {name!r}{near}")
    for several in shared.facts.definitions.values():
        for definition in several:
            check_bodies(definition, given | shared.code.names.bound, findings)


def check_bodies(definition: Definition, known: frozenset[str], findings: Findings) -> None:
    """A function may use names that are made later; but somewhere they must be made."""
    for need in definition.needs_later:
        if need.name not in known and need.name not in GIVEN and not need.optional:
            _undefined(definition.cell, need, known, "", findings)


def place_of(cell: Cell, node: ast.AST) -> Place:
    """Where a node of a cell's code stands."""
    line, offset = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
    lines = cell.source.split("\n")
    text = lines[line - 1].encode() if 0 < line <= len(lines) else b""
    return cell.place(line, len(text[:offset].decode(errors="replace")) + 1)


def _undefined(cell: Cell, occurrence: Occurrence, known: Iterable[str], hint: str, findings: Findings) -> None:
    name = occurrence.name
    if name == "get_ipython":
        findings.add("KLC003", place_of(cell, occurrence.node), "get_ipython() has no meaning outside of the notebook")
        return
    message = f"undefined name {name!r}{did_you_mean(name, {*known, *GIVEN} - {name})}"
    findings.add("KLC104", place_of(cell, occurrence.node), message, hint=hint)


def _check_use(
    travel: Travel, journey: Journey, name: str, use: Use, known: frozenset[str], findings: Findings
) -> None:
    version = journey.entry.get(name)
    step = journey.draft.name
    place = place_of(use.cell, use.occurrence.node)
    if version is None:
        bound_here = name in journey.facts.exits and any(o >= 0 for o in journey.facts.exits[name])
        elsewhere = use.occurrence.deferred and (name in known or bound_here)
        missing = use.expected or (use.occurrence.deferred and use.is_real and use.called is None)
        if name not in GIVEN and missing and not elsewhere and (use.always or not bound_here):
            later = next((s for s, j in travel.journeys.items() if name in j.made and s != step), "")
            hint = f"step {later!r} makes it, and stands below" if later else ""
            _undefined(use.cell, use.occurrence, known, hint, findings)
        return
    if version.kind is Kind.DELETED:
        if use.expected:
            findings.add("KLC107", place, f"{name!r} was deleted in step {version.step!r}")
        return
    if version.doubtful and use.expected:
        findings.add(
            "KLC106", place, f"{name!r} may not have been made: step {version.step!r} makes it only under a condition"
        )
    if version.kind is Kind.SHARED:
        _check_shared_order(journey, name, use, place, findings)
    if use.is_real:
        _check_parallel(travel, journey, version, place, findings)
    rank = journey.draft.rank_of(use.cell)  # 0 for a metric, which stands below all cells
    if version.step and rank and changed_after(travel.journeys[version.step], name, rank):
        findings.add(
            "KLC113",
            place,
            f"step {version.step!r} changes {name!r} again in a cell below this one, so this step would get a later value",
            hint="give the cells below another step name",
        )


def _check_shared_order(journey: Journey, name: str, use: Use, place: Place, findings: Findings) -> None:
    """Shared code runs before the step, all of it; in the notebook only what stands above the use."""
    draft = journey.draft
    here = draft.rank_of(use.cell)
    ranks = [draft.rank_of(cell) for cell in draft.shared.bound_in.get(name, ())]
    if here and any(rank < here for rank in ranks) and any(rank > here for rank in ranks):
        message = f"shared code makes {name!r} again in a cell below this one, and the step would get that one"
        findings.add("KLC116", place, message, hint="give the cell below a step: tag, or use two names")


def _check_parallel(travel: Travel, journey: Journey, version: Version, place: Place, findings: Findings) -> None:
    said: set[str] = set()
    for reader, found in travel.handed_on(journey, version):
        for other in travel.parallel_makers(reader, version.name):
            if other.step in said:
                continue
            said.add(other.step)
            beside = other.step in travel.ancestors[reader.draft.name]
            code, message, hint = _parallel(found, other, beside)
            findings.add(code, place, message, hint=hint)


def _parallel(version: Version, other: Version, beside: bool) -> tuple[str, str, str]:
    """The code, message and hint for a version that a step gets, and another one that it would have in the notebook."""
    name = version.name
    source = f"step {version.step!r}" if version.step else "the start of the step"
    if not other.sure:
        message = (
            f"step {other.step!r} may change {name!r} before this in the notebook; this step gets that of {source}"
        )
        return "KLC117", message, f"add prev:{other.step} where that matters"
    if beside:
        message = f"steps {other.step!r} and {version.step!r} both change {name!r} side by side; this step gets that of {source}"
        return "KLC108", message, f"add prev:{other.step} to step {version.step!r}, or use two names"
    message = (
        f"in the notebook step {other.step!r} changes {name!r} before this; it is no ancestor, "
        f"so this step gets that of {source}"
    )
    return "KLC109", message, f"add prev:{other.step}, or use two names"


def _check_added(journey: Journey, step: str, use: Use, findings: Findings) -> None:
    name = use.occurrence.name
    through = f" (through {sorted(use.called.names)[0]!r})" if use.called and use.called.names else ""
    place = use.cell.place() if use.called else place_of(use.cell, use.occurrence.node)
    message = (
        f"{name!r}{through} is made in step {step!r}, which is no ancestor of {journey.draft.name!r}; it is made one"
    )
    findings.add("KLC105", place, message, hint=f"add prev:{step}")


def _check_certainty(journey: Journey, findings: Findings) -> None:
    for cell, occurrence in journey.facts.uncertain_uses:
        version = journey.entry.get(occurrence.name)
        if (version is None or version.doubtful) and occurrence.name not in GIVEN:
            findings.add(
                "KLC106", place_of(cell, occurrence.node), f"{occurrence.name!r} may not have been made when this runs"
            )
    for cell, occurrence, always in journey.facts.deleted_uses:
        if always:
            findings.add("KLC107", place_of(cell, occurrence.node), f"{occurrence.name!r} was deleted before this")
        else:
            findings.add(
                "KLC106", place_of(cell, occurrence.node), f"{occurrence.name!r} may have been deleted before this"
            )
