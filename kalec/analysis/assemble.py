"""From what travels to the steps of the model: openings, reads, writes.

Steps are gone through backwards, so that a step hands on only what a later one takes.
"""

import ast
from collections.abc import Mapping
from typing import Final, NamedTuple

from kalec.analysis.checks import place_of
from kalec.analysis.definitions import Definition, imported_modules
from kalec.analysis.facts import ENTRY, NO_ITERATION, Kept
from kalec.analysis.shared import Part, excerpt
from kalec.analysis.travel import Journey, Travel
from kalec.analysis.versions import Kind, Version, representative
from kalec.findings import Findings
from kalec.model import Cell, Read, Write

# IPython gives every notebook `display`; a step that uses it gets this one, which shows in the log what can be shown there.
DISPLAY: Final = "def display(*objects, **_options):\n    for shown in objects:\n        print(shown)"


class Assembled(NamedTuple):
    """The part of a step that the analysis says."""

    opening: tuple[Cell | Read, ...]
    after: tuple[str, ...]
    data_from: tuple[str, ...]
    writes: tuple[Write, ...]
    aliases: tuple[tuple[str, ...], ...]
    parameters: tuple[str, ...]
    imports: tuple[str, ...]
    value_imports: tuple[str, ...]


class _Needs:
    """What one step's opening has to bring."""

    def __init__(self) -> None:
        self.reads: dict[str, Version] = {}
        self.lifted: dict[Definition, None] = {}
        self.shared: set[str] = set()
        self.parameters: set[str] = set()


def assemble(travel: Travel, findings: Findings) -> dict[str, Assembled]:
    """Each step by its name."""
    owners = {
        definition: name
        for name, journey in travel.journeys.items()
        for several in journey.facts.definitions.values()
        for definition in several
    }
    wanted: dict[str, set[str]] = {name: set() for name in travel.journeys}
    assembled = {}
    for name in reversed(travel.journeys):
        one = _Assembler(travel, travel.journeys[name], owners, findings)
        assembled[name] = one.assemble(wanted[name])
        for read in one.needs.reads.values():
            wanted[read.step].add(read.name)
    return {name: assembled[name] for name in travel.journeys}


class _Assembler:
    def __init__(self, travel: Travel, journey: Journey, owners: Mapping[Definition, str], findings: Findings) -> None:
        self.travel, self.journey, self.owners, self.findings = travel, journey, owners, findings
        self.draft, self.facts, self.entry = journey.draft, journey.facts, journey.entry
        self.needs = _Needs()

    def assemble(self, wanted: set[str]) -> Assembled:
        for name in self.facts.uses:
            self.need(name)
        for name in wanted:
            made = self.journey.made[name]
            if made.passes_through or not made.bound:
                self.need(name)
        self.refuse_registries()
        parts, mentioned = self.draft.shared.needed(self.needs.shared)
        for name in mentioned:
            version = self.draft.defaults.get(name)
            if version and version.kind is Kind.PARAMETER:
                self.needs.parameters.add(name)
        opening = self.opening(parts)
        writes = tuple(Write(name, self.journey.made[name].optional) for name in sorted(wanted))
        imports = self.imports(parts)
        carried = {module for version in self.needs.reads.values() for module in version.modules} - imports
        data_from = {version.step for version in self.needs.reads.values()}
        return Assembled(
            opening=opening,
            after=tuple(sorted(self.journey.after | data_from)),
            data_from=tuple(sorted(data_from)),
            writes=writes,
            aliases=self.aliases(wanted),
            parameters=tuple(sorted(self.needs.parameters)),
            imports=tuple(sorted(imports)),
            value_imports=tuple(sorted(carried)),
        )

    def need(self, name: str) -> None:
        """Bring a name as the step finds it, with all that stands behind it."""
        version = self.entry.get(name)
        if version is None or version.kind is Kind.DELETED:
            return
        if version.kind is Kind.PARAMETER:
            self.needs.parameters.add(name)
        elif version.kind is Kind.SHARED:
            self.needs.shared.add(name)
        elif version.kind is Kind.DEFINITION:
            for source in version.sources:
                self.lift(source)
        else:
            self.read(version)

    def read(self, version: Version) -> None:
        if self.needs.reads.get(version.name) is version:
            return
        self.needs.reads[version.name] = version
        facts = self.travel.journeys[version.step].facts
        for site in facts.exits.get(version.name, frozenset()):
            node = facts.bound_at.get(site)
            by_name = (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == version.name
            )
            if node and (by_name or isinstance(node, ast.Import | ast.ImportFrom)):
                message = f"{version.name!r} may be defined here or elsewhere, so step {self.draft.name!r} cannot define it again"
                self.cannot_travel(facts.bound_in[site], node, message)
        for definition in sorted(version.definitions, key=self.place_of):
            # A value finds its modules by itself. What registers itself is brought by who names it, or not at all: whether
            # the value holds it, or its name alone, is not known.
            if not definition.is_import and not self.registered_in(definition):
                self.lift(definition)

    def lift(self, definition: Definition) -> None:
        """Bring a definition, and what it needs: at once the values, later only other definitions."""
        owner = self.owners.get(definition)
        if owner is None:
            self.needs.shared |= definition.names
        elif owner == self.draft.name or definition in self.needs.lifted:
            return
        else:
            self.needs.lifted[definition] = None
            for name in sorted(self.registered_in(definition))[:1]:
                message = f"{_named(definition)} would be put into {name!r} again in step {self.draft.name!r}"
                self.cannot_travel(definition.cell, definition.node, f"{message}, by its decorator")
            for need in definition.needs_now:
                self.need_as_defined(definition, need.name)
        for need in definition.needs_later:
            version = self.entry.get(need.name)
            if version and version.kind in (Kind.DEFINITION, Kind.SHARED, Kind.PARAMETER):
                self.need(need.name)

    def registered_in(self, definition: Definition) -> set[str]:
        """The names of steps' values that its decorators or base classes may put a definition into when it is made."""
        names = {name for one in self.kept_of(definition) for name in one.changed}
        return names - self.draft.defaults.keys() - self.draft.code.names.defined

    def kept_of(self, definition: Definition) -> list[Kept]:
        owner = self.owners.get(definition)
        return [one for one in self.travel.journeys[owner].facts.kept if one.definition is definition] if owner else []

    def refuse_registries(self) -> None:
        """A value that holds a definition can be loaded only where that is made, which would put it into the value again."""
        for name, version in sorted(self.needs.reads.items()):
            for definition in sorted(version.definitions - self.needs.lifted.keys(), key=self.place_of):
                holding = {held for one in self.kept_of(definition) for held in one.holding}
                if name in holding & self.registered_in(definition):
                    message = f"{_named(definition)} is in {name!r}, which step {self.draft.name!r} takes"
                    self.cannot_travel(
                        definition.cell,
                        definition.node,
                        f"{message}, and would be put into it again there, by its decorator",
                    )

    def need_as_defined(self, definition: Definition, name: str) -> None:
        """Bring a name as it was where a definition was made: a default argument, a base class."""
        version = self.as_defined(definition, name)
        if version is None or definition in version.sources:
            return
        if self.entry.get(name) is version and version.kind is not Kind.DELETED:
            self.need(name)
            return
        self.cannot_travel(
            definition.cell,
            definition.node,
            f"{_named(definition)} needs {name!r} as it is when it is defined, and step {self.draft.name!r} has another one",
        )

    def as_defined(self, definition: Definition, name: str) -> Version | None:
        """The version that a definition found when it was made; None for what every step has, as builtins."""
        owner = self.travel.journeys[self.owners[definition]]
        origins = owner.facts.needed_from.get((definition, name), frozenset())
        if origins <= {ENTRY, NO_ITERATION}:
            return owner.entry.get(name)
        made = owner.made.get(name)
        sites = owner.facts.definition_sites
        wrapped = made is not None and all(origin in sites and sites[origin] in made.sources for origin in origins)
        if made and made.bound and (origins == owner.facts.exits.get(name) or wrapped):
            return made
        return Version(name, owner.draft.name, Kind.DELETED, 0)

    def cannot_travel(self, cell: Cell, node: ast.AST, message: str) -> None:
        self.findings.add("KLC112", place_of(cell, node), message, hint="move it to a functions cell")

    def place_of(self, definition: Definition) -> tuple[int, int, int]:
        owner = self.owners.get(definition)
        rank = self.travel.journeys[owner].draft.rank_of(definition.cell) if owner else -1
        return rank, definition.node.lineno, definition.node.col_offset

    def opening(self, parts: tuple[Part, ...]) -> tuple[Cell | Read, ...]:
        """Shared code; then definitions and values, each after what it needs."""
        line = _Line(self)
        for definition in sorted(self.needs.lifted, key=self.place_of):
            line.place_definition(definition)
        for name in sorted(self.needs.reads):
            line.place_read(self.needs.reads[name])
        shown = [one if isinstance(one, Read) else excerpt(*one, all_of_it=False) for one in line.placed]
        return (*self.given(), *self.shared_cells(parts), *shown)

    def given(self) -> list[Cell]:
        if "display" in self.facts.uses and "display" not in self.entry:
            return [Cell(self.draft.place.file, 0, "", DISPLAY)]
        return []

    def shared_cells(self, parts: tuple[Part, ...]) -> list[Cell]:
        whole = {id(cell): statements for cell, statements in self.draft.shared.code.cells}
        kept: dict[int, tuple[Cell, list[ast.stmt]]] = {}
        for part in parts:
            kept.setdefault(id(part.cell), (part.cell, []))[1].append(part.node)
        return [excerpt(cell, nodes, all_of_it=len(nodes) == len(whole[key])) for key, (cell, nodes) in kept.items()]

    def imports(self, parts: tuple[Part, ...]) -> set[str]:
        found = set(imported_modules(self.draft.code.statements))
        for part in parts:
            found.update(part.modules)
        for definition in self.needs.lifted:
            found.update(definition.modules)
        return found

    def aliases(self, wanted: set[str]) -> tuple[tuple[str, ...], ...]:
        groups: dict[Version, list[str]] = {}
        for name in sorted(wanted):
            if name not in self.draft.code.names.immutable:
                groups.setdefault(representative(self.journey.made[name]), []).append(name)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)


class _Line:
    """Definitions and values in an order in which each finds what it needs."""

    def __init__(self, assembler: _Assembler) -> None:
        self.assembler = assembler
        self.placed: list[tuple[Cell, list[ast.stmt]] | Read] = []
        self.seen: set[Definition | Version] = set()

    def place_definition(self, definition: Definition) -> None:
        if definition in self.seen:
            return
        self.seen.add(definition)
        for need in definition.needs_now:
            version = self.assembler.as_defined(definition, need.name)
            for source in version.sources if version and version.kind is Kind.DEFINITION else ():
                if source in self.assembler.needs.lifted:
                    self.place_definition(source)
            if version and self.assembler.needs.reads.get(need.name) is version:
                self.place_read(version)
        last = self.placed[-1] if self.placed else None
        if last and not isinstance(last, Read) and last[0] == definition.cell:
            last[1].append(definition.node)
        else:
            self.placed.append((definition.cell, [definition.node]))

    def place_read(self, version: Version) -> None:
        if version in self.seen:
            return
        self.seen.add(version)
        for definition in sorted(version.definitions, key=self.assembler.place_of):
            if definition in self.assembler.needs.lifted:
                self.place_definition(definition)
        self.placed.append(Read(version.name, version.step, version.optional))


def _named(definition: Definition) -> str:
    return ", ".join(repr(name) for name in sorted(definition.names))
