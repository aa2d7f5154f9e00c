"""What travels between steps: for each name a step takes in, the step that it comes from.

Steps are gone through in the order of the source, which is an order that their edges allow. A step sees the versions that its
ancestors left, and of each name the latest one in the order of the source. Where a step needs a name that none of its
ancestors has, and an earlier step made it, the edge is added: that is the value that the notebook gives.

An object that a step may have changed is its own version from then on, and so is everything that may be a part of the same
object. The first round finds out which objects are changed at all after they were made; in the second, steps that put such
objects together hand all of them on, so that they stay together.
"""

import ast
import builtins
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kalec.analysis.definitions import Definition
from kalec.analysis.effects import effects
from kalec.analysis.facts import DELETED, ENTRY, NO_ITERATION, Code, Facts, Use
from kalec.analysis.flow import analyse
from kalec.analysis.scopes import Action, occurrences
from kalec.analysis.shared import SharedCode
from kalec.analysis.versions import Kind, Version, representative, share, with_holders
from kalec.model import Cell, Metric, Place

# Their value is a new object, which may hold others but is none of them.
_DISPLAYS: Final = (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp)

# What is there without being made: builtins, what each module has, and what a step gets from kalec.
GIVEN: Final = frozenset(dir(builtins)) | {"__name__", "__doc__", "__builtins__", "__spec__", "__package__", "display"}


@dataclass(eq=False, repr=False, slots=True)
class Draft:
    """A step, as its tags and cells say."""

    name: str
    code: Code
    shared: SharedCode
    previous: tuple[str, ...]
    ranks: Mapping[tuple[str, int], int]  # (file, cell number) -> the place in the order of all cells
    place: Place
    defaults: dict[str, Version] = field(default_factory=dict)  # parameters and shared names, as every step finds them
    metrics: list[tuple[Cell, list[ast.stmt]]] = field(default_factory=list)  # worked out when the step has ended

    def rank_of(self, cell: Cell) -> int:
        """Where a cell stands among all."""
        return self.ranks.get((cell.file, cell.number), 0)

    @property
    def last_rank(self) -> int:
        """Where its last cell stands."""
        return max((self.rank_of(cell) for cell, _ in self.code.cells), default=0)


@dataclass(eq=False, repr=False, slots=True)
class Journey:
    """What is known of one step when all have been gone through."""

    draft: Draft
    facts: Facts
    entry: dict[str, Version]  # each name as the step finds it
    made: dict[str, Version]  # each name that it leaves in a new version
    after: set[str]
    added: dict[str, Use]  # step -> the first use for which an edge to it was added
    joined: set[str] = field(default_factory=set)  # names that it hands on only because they belong to others


class MetricCode(NamedTuple):
    """A metric, and its expression as code."""

    metric: Metric
    code: ast.stmt


# For each version, by its step and name, the place of the last step that changes what it is, holds, or is held by.
Changing = dict[tuple[str, str], int]


class Travel:
    """Goes through all steps, twice. In the second round each metric belongs to a step, `metrics`."""

    def __init__(self, drafts: Iterable[Draft], metrics: Iterable[MetricCode] = ()) -> None:
        self.drafts = list(drafts)
        self.metrics: dict[str, list[Metric]] = {}
        self.position = {draft.name: number for number, draft in enumerate(self.drafts)}
        self.journeys: dict[str, Journey] = {}
        self.ancestors: dict[str, frozenset[str]] = {}
        changing: Changing = {}
        for round_number in range(2):
            if round_number == 1:
                self.place_metrics(metrics)
            self.journeys, self.ancestors = {}, {}
            for draft in self.drafts:
                for version in draft.defaults.values():
                    version.same_as = None
                    version.holders.clear()
            for draft in self.drafts:
                self.pass_through(draft, changing)
            changing = self.changed_objects()

    def place_metrics(self, metrics: Iterable[MetricCode]) -> None:
        """Let each metric be worked out by the last step that makes a name of it."""
        for one in metrics:
            used = {part.name for part in occurrences(one.code) if part.action is Action.LOAD}
            makers = [step for step, journey in self.journeys.items() if used & journey.made.keys()]
            step = makers[-1] if makers else next(reversed(self.journeys), "")
            if step:
                draft = self.drafts[self.position[step]]
                # The cell is that of the metric, so that what is found there has its place.
                cell = Cell(one.metric.place.file, 0, "", one.metric.expression)
                draft.metrics = [*draft.metrics, (cell, [one.code])]
                self.metrics.setdefault(step, []).append(one.metric)

    def pass_through(self, draft: Draft, changing: Changing) -> None:
        """One step, again and again until no edge is added."""
        after = {name for name in draft.previous if name in self.journeys}
        added: dict[str, Use] = {}
        while True:
            ancestors = after.union(*(self.ancestors[name] for name in after))
            entry = self.visible(draft, ancestors)
            facts = analyse(draft.code, entry, draft.metrics)
            new = {
                step: use
                for name, use in reversed(facts.uses.items())  # of several the first stays
                if name not in entry and use.is_real and (step := self.last_maker(name)) and step not in after
            }
            if not new:
                break
            after |= new.keys()
            added |= new
        self.ancestors[draft.name] = frozenset(ancestors)
        journey = Journey(draft, facts, entry, {}, after, added)
        self.journeys[draft.name] = journey
        _make_versions(journey)
        _share(journey)
        _join(journey, self.position[draft.name], changing)

    def visible(self, draft: Draft, ancestors: Iterable[str]) -> dict[str, Version]:
        """Each name as a step with these ancestors finds it: the latest version, in the order of the source."""
        entry = dict(draft.defaults)
        behind = draft.last_rank
        for name in sorted(ancestors, key=self.position.__getitem__):
            for made in self.journeys[name].made.values():
                before = entry.get(made.name)
                # Shared code that stands below the step has not run yet in the notebook.
                if before is None or before.step or not behind > before.rank > made.rank:
                    entry[made.name] = made
        return entry

    def last_maker(self, name: str) -> str:
        """The last step so far that makes a name, or may change what is behind it; or ""."""
        for step in reversed(self.journeys):
            made = self.journeys[step].made.get(name)
            if made and made.kind is not Kind.DELETED:
                return step
        return ""

    def changed_objects(self) -> Changing:
        """For each version the last step that changes it, what it holds, or what it may share parts with."""
        last: dict[Version, int] = {}
        last_deep: dict[Version, int] = {}
        for step, journey in self.journeys.items():
            changed, deep = _changed(journey.facts), _deeply_changed(journey.facts) | journey.joined
            for name, made in journey.made.items():
                if made.bound and not (made.passes_through and name in changed):
                    continue
                if name in deep:
                    last_deep[representative(made)] = self.position[step]
                last |= dict.fromkeys(with_holders([made]), self.position[step])
        found: Changing = {}
        for journey in self.journeys.values():
            for version in [*journey.entry.values(), *journey.made.values()]:
                position = max(last.get(version, 0), last_deep.get(representative(version), 0))
                if position:
                    found[version.step, version.name] = position
        return found

    def parallel_makers(self, journey: Journey, name: str) -> list[Version]:
        """Versions of a name that steps before this one left, and that do not reach it as they would in the notebook."""
        own = journey.entry.get(name)
        base = self.binding_of(own)
        found = []
        for step, other in self.journeys.items():
            if step == journey.draft.name:
                break
            made = other.made.get(name)
            if made is None or made is own or _is_same_definition(made, own):
                continue
            if own and own.step and step in self.ancestors[own.step]:
                continue
            if step in self.ancestors[journey.draft.name]:
                later = [s for s in self.ancestors[journey.draft.name] if step in self.ancestors[s]]
                if any(name in self.journeys[s].made for s in later):
                    continue
            elif base is not None and base.rank > made.rank:
                continue
            found.append(made)
        return found

    def handed_on(self, journey: Journey, version: Version) -> Iterator[tuple[Journey, Version]]:
        """A step and the version that it takes; and the steps before, if they only hand on what they do not use themselves."""
        before: Version | None = version
        while before is not None:
            yield journey, before
            if not before.step or (before.bound and not before.passes_through):
                return
            journey = self.journeys[before.step]
            if before.name in journey.facts.uses:
                return  # it is said there
            before = journey.entry.get(before.name)

    def binding_of(self, version: Version | None) -> Version | None:
        """The version that surely gave a name its value, where later ones only may have, or changed it, or handed it on."""
        while version is not None and (not version.bound or version.passes_through):
            version = self.journeys[version.step].entry.get(version.name)
        return version


def _is_same_definition(one: Version, other: Version | None) -> bool:
    """Whether two steps say the same, as with an import that each of them has."""
    if not one.sources or other is None or not other.sources:
        return False
    return [ast.dump(source.node) for source in one.sources] == [ast.dump(source.node) for source in other.sources]


def _make_versions(journey: Journey) -> None:
    """The versions that a step leaves: what it binds, deletes, and may change."""
    draft, facts, entry = journey.draft, journey.facts, journey.entry
    for name, origins in facts.exits.items():
        sites = [origin for origin in origins if origin >= 0]
        from_entry = bool(origins & {ENTRY, NO_ITERATION})
        before = entry.get(name)
        if not sites:
            if DELETED in origins and not (from_entry and before):
                journey.made[name] = Version(name, draft.name, Kind.DELETED, draft.last_rank)
            elif DELETED in origins:
                journey.made[name] = _value(journey, name, sure=False, optional=True, passes_through=True)
                journey.made[name].doubtful = True
            continue
        rank = max(draft.rank_of(facts.bound_in[site]) for site in sites)
        definitions = [facts.definition_sites.get(site) for site in sites]
        if all(definitions) and not from_entry and DELETED not in origins:
            journey.made[name] = Version(
                name,
                draft.name,
                Kind.DEFINITION,
                rank,
                definitions=frozenset(facts.closure(name)),
                sources=_sources(facts, name, sites),
                modules=facts.modules(name, entry),
            )
            continue
        missing = from_entry and (before is None or before.optional or before.kind is Kind.DELETED)
        version = _value(journey, name, sure=True, optional=DELETED in origins or missing, passes_through=from_entry)
        version.rank = rank
        version.doubtful = (
            DELETED in origins or (missing and ENTRY in origins) or bool(missing and before and before.doubtful)
        )
        version.sure = not from_entry
        journey.made[name] = version
    for name, sure in _changed(facts).items():
        if name not in journey.made and _may_change(entry.get(name), name, draft):
            journey.made[name] = _value(journey, name, sure=sure, bound=False, optional=entry[name].optional)
            journey.made[name].doubtful = entry[name].doubtful


def _sources(facts: Facts, name: str, sites: Iterable[int]) -> tuple[Definition, ...]:
    """The statements that make a definition: the one that is left, and those that it wraps."""
    needed: set[Definition] = set()
    waiting = [facts.definition_sites[site] for site in sites]
    while waiting:
        definition = waiting.pop()
        if definition not in needed:
            needed.add(definition)
            before = facts.needed_from.get((definition, name), frozenset())
            waiting += [facts.definition_sites[site] for site in before if site in facts.definition_sites]
    return tuple(definition for definition in facts.definitions[name] if definition in needed)


def _value(
    journey: Journey, name: str, *, sure: bool, optional: bool = False, bound: bool = True, passes_through: bool = False
) -> Version:
    immutable = name in journey.draft.code.names.immutable
    return Version(
        name,
        journey.draft.name,
        Kind.VALUE,
        journey.draft.last_rank,
        sure=sure,
        bound=bound,
        optional=optional,
        passes_through=passes_through,
        definitions=frozenset() if immutable else frozenset(journey.facts.closure(name)),
        modules=frozenset() if immutable else journey.facts.modules(name, journey.entry),
        called_with=frozenset() if immutable else journey.facts.called_with(name),
    )


def _changed(facts: Facts) -> dict[str, bool]:
    changed = dict(facts.changes)
    for name, sure in facts.own_changes.items():
        changed[name] = changed.get(name, False) or sure
    return changed


def _deeply_changed(facts: Facts) -> set[str]:
    """The names of objects that are changed with all that they hold."""
    return facts.deep_changes | facts.changes.keys()


def _may_change(version: Version | None, name: str, draft: Draft) -> bool:
    if version is None or version.kind in (Kind.DEFINITION, Kind.DELETED) or name in draft.code.names.immutable:
        return False
    return not version.sources


def _share(journey: Journey) -> None:
    """Unite the versions that may share objects since this step."""
    facts, entry, made = journey.facts, journey.entry, journey.made
    immutable = journey.draft.code.names.immutable

    def both(name: str) -> list[Version]:
        if name in immutable:
            return []
        found = [made[name]] if name in made else []
        if name in entry and (name in facts.uses or name not in made):
            found.append(entry[name])
        return [
            version for version in found if version.kind not in (Kind.DEFINITION, Kind.DELETED) and not version.sources
        ]

    for name, version in made.items():
        before = entry.get(name)
        if (not version.bound or version.passes_through) and before and name not in immutable:
            share(before, version, both_ways=True)
    for name, shared, value in facts.effects.bindings:
        whole = not isinstance(value, _DISPLAYS)
        reached = shared | facts.outside(shared)
        _share_all([one for other in reached for one in both(other)], both(name), both_ways=whole)
    for change in facts.effects.changes:
        changed = [one for root in change.roots for one in both(root)]
        _share_all([one for other in change.holds for one in both(other)], changed, both_ways=change.deep)
    for kept in facts.kept:
        given = [one for other in kept.given for one in both(other)]
        for name in kept.changed | kept.bound:
            _share_all(given, both(name), both_ways=name in kept.bound)


def _share_all(parts: list[Version], holders: list[Version], *, both_ways: bool) -> None:
    for holder in holders:
        for part in parts:
            share(part, holder, both_ways=both_ways)
        if holder is not holders[0]:
            share(holders[0], holder, both_ways=True)


def _join(journey: Journey, position: int, changing: Changing) -> None:
    """Hand on whatever may be a part of an object that this step changes, or puts together with others to be changed."""
    facts, entry, made = journey.facts, journey.entry, journey.made
    immutable = journey.draft.code.names.immutable
    shallow: list[Version] = []
    deep: set[Version] = set()
    for name in _changed(facts):
        found = [one for one in (made.get(name), entry.get(name) if name in facts.uses else None) if one]
        shallow += found
        if name in _deeply_changed(facts):
            deep |= {representative(one) for one in found}
    for name, one in made.items():
        if one.kind is Kind.VALUE and position < changing.get((one.step, name), 0):
            deep.add(representative(one))
    affected = with_holders(shallow)
    if not affected and not deep:
        return
    joined = [
        before
        for name, before in entry.items()
        if name not in made and name not in immutable and before.kind is not Kind.DELETED and not before.sources
        # Found before any is handed on, because that unites versions, and so changes who stands for them.
        if before in affected or representative(before) in deep
    ]
    for before in joined:
        made[before.name] = _value(journey, before.name, sure=False, bound=False, optional=before.optional)
        made[before.name].doubtful = before.doubtful
        share(before, made[before.name], both_ways=True)
        journey.joined.add(before.name)


def changed_after(journey: Journey, name: str, rank: int) -> bool:
    """Whether a step binds or changes a name in a cell that stands after `rank`."""
    draft, facts = journey.draft, journey.facts
    if any(
        origin >= 0 and draft.rank_of(facts.bound_in[origin]) > rank for origin in facts.exits.get(name, frozenset())
    ):
        return True
    later = [
        statement for cell, statements in draft.code.cells if draft.rank_of(cell) > rank for statement in statements
    ]
    return any(name in change.roots for change in effects(later, draft.code.names).changes)
