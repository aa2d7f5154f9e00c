"""From a source file to a pipeline and all findings about it: the one way in, for every command."""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kalec.analysis.assemble import Assembled, assemble
from kalec.analysis.checks import check_names, check_shared
from kalec.analysis.definitions import survey
from kalec.analysis.facts import Code
from kalec.analysis.flow import analyse
from kalec.analysis.modules import check_modules
from kalec.analysis.names import Names
from kalec.analysis.order import sort_steps
from kalec.analysis.scopes import Action, occurrences, walk
from kalec.analysis.shared import SharedCode, make_shared
from kalec.analysis.travel import Draft, MetricCode, Travel
from kalec.analysis.values import check_values
from kalec.analysis.versions import Kind, Version
from kalec.declared import read_metrics, read_parameters
from kalec.errors import Damaged, Failed, NotFound, Refused
from kalec.findings import Findings, parse_severities
from kalec.metadata import Metadata, read_metadata
from kalec.model import NOTHING, Loaded, Metric, Parameter, ParameterType, Pipeline, Place, Severity, Step
from kalec.outline import Outline, Parsed, StepOutline, has_future_annotations, outline
from kalec.source.cells import Source
from kalec.source.module import has_pipeline, parse_module
from kalec.source.notebook import parse_notebook
from kalec.source.percent import parse_percent
from kalec.vocabulary import merge_settings


class Overrides(NamedTuple):
    """What the command line says in place of the source's metadata; "" is: not said."""

    pipeline_name: str = ""
    experiment: str = ""
    description: str = ""
    base_image: str = ""
    severities: Mapping[str, Severity | None] = NOTHING  # by code; None hides a rule


class _Part(NamedTuple):
    """One source with its cells sorted: the file itself, or a notebook that it refers to."""

    outline: Outline
    metadata: Metadata
    unit: str = ""


def load_pipeline(
    path: Path, *, text: str | None = None, pipeline: str = "", overrides: Overrides | None = None
) -> Loaded:
    """Read a notebook (.ipynb), a percent-format script or a module with @step and @pipeline (.py), and analyse it.

    `text` is the source in place of what stands at `path`, whose name still says the kind. `pipeline` picks one of several
    @pipeline functions of a module. Nothing of the source is executed, and the network is not touched.

    What is wrong in the source is in the findings. Raises NotFound (no such file), Refused (a kind of file, of notebook or
    of language that kalec does not read), Damaged (not JSON, not UTF-8, not a notebook).
    """
    return load_traced(path, text=text, pipeline=pipeline, overrides=overrides)[0]


def load_traced(
    path: Path, *, text: str | None = None, pipeline: str = "", overrides: Overrides | None = None
) -> tuple[Loaded, Travel]:
    """The same, with what the analysis knows of each name."""
    overrides = overrides or Overrides()
    source = read_source(path, text, pipeline)
    findings = Findings(_severities(source, overrides))
    try:
        return _load(path, source, overrides, findings)
    except RecursionError:
        raise Damaged(f"{path} has code that is nested too deeply to be read") from None


def read_source(path: Path, text: str | None = None, pipeline: str = "") -> Source:
    """The cells of a file. Raises NotFound, Refused, Damaged."""
    try:
        content = path.read_bytes() if text is None else text.encode("utf-8", errors="surrogatepass")
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except IsADirectoryError:
        raise Refused(f"{path} is a folder", hint="name a notebook in it") from None
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}") from None
    if path.suffix == ".ipynb":
        return parse_notebook(path.name, content)
    if path.suffix != ".py":
        raise Refused(f"{path} is neither a notebook (.ipynb) nor a script (.py)")
    try:
        script = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise Damaged(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
    if "\x00" in script:
        raise Damaged(f"{path} is not text: it holds NUL bytes")
    return parse_module(path.name, script, pipeline) if has_pipeline(script) else parse_percent(path.name, script)


def require(loaded: Loaded) -> Pipeline:
    """The pipeline, when nothing keeps it from being used. Raises Failed, which counts the errors."""
    if loaded.has_errors:
        count = sum(1 for finding in loaded.diagnostics if finding.severity is Severity.ERROR)
        raise Failed(
            f"{loaded.pipeline.source} has {count} error{'s' if count > 1 else ''}",
            hint=f"see `kalec lint {loaded.pipeline.source}`",
        )
    return loaded.pipeline


def _severities(source: Source, overrides: Overrides) -> dict[str, Severity | None]:
    own = source.metadata.get("kalec")
    said = own.get("severity") if isinstance(own, dict) else None
    return {**(parse_severities(said.items()) if isinstance(said, dict) else {}), **overrides.severities}


def _load(path: Path, source: Source, overrides: Overrides, findings: Findings) -> tuple[Loaded, Travel]:
    parts = list(_read_parts(path, source, findings))
    own = parts[-1]
    parameters = _parameters(parts, findings)
    metrics = tuple(metric for part in parts for metric in read_metrics(part.outline.metrics, findings))
    steps = _order_steps(parts, findings)
    if not steps:
        findings.add(
            "KLC001", Place(source.file), "it has no step", hint="tag cells step:NAME, or see `kalec init --help`"
        )
    names = _survey(parts, parameters)
    drafts = _drafts(parts, steps, parameters, names, findings)
    travel = Travel(drafts, [MetricCode(metric, _metric_code(metric)) for metric in metrics])
    check_names(travel, findings, {name for name, step in steps.items() if step.unit or own.outline.step_functions})
    check_modules(travel, path.parent, findings)
    check_values(travel, parameters, own.metadata.settings, findings)
    assembled = assemble(travel, findings)
    pipeline = Pipeline(
        name=overrides.pipeline_name or own.metadata.name,
        description=overrides.description or own.metadata.description,
        experiment=overrides.experiment or own.metadata.experiment,
        parameters=parameters,
        steps=tuple(_step(outline, assembled[name], travel, parts) for name, outline in steps.items()),
        settings=own.metadata.settings._replace(base_image=overrides.base_image or own.metadata.settings.base_image),
        source=source.file,
    )
    return Loaded(pipeline, findings.sorted(), findings.severities), travel


def _read_parts(path: Path, source: Source, findings: Findings) -> Iterable[_Part]:
    """The notebooks that a source refers to, and the source itself, last."""
    metadata = read_metadata(source.metadata, path.stem, Place(source.file), findings)
    own = outline(source, path.parent, findings)
    units: dict[str, list[str]] = {}
    for reference in own.references:
        other = path.parent / reference.path
        try:
            inner_source = read_source(other)
        except (NotFound, Refused, Damaged, Failed) as error:
            findings.add("KLC023", reference.place, f"the notebook {reference.name!r}: {error.message}")
            continue
        inner = outline(inner_source, other.parent, findings)
        if inner.references or other.resolve() == path.resolve():
            message = f"the notebook {reference.name!r} refers to notebooks itself: refer to all of them from here"
            findings.add("KLC023", reference.place, message)
            continue
        _rename(inner, reference.name)
        leaves = inner.steps.keys() - {name for step in inner.steps.values() for name in step.previous}
        units[reference.name] = sorted(leaves)
        for step in inner.steps.values():
            step.previous += [] if step.previous else reference.above
        yield _Part(
            inner,
            read_metadata(inner_source.metadata, other.stem, Place(inner_source.file), findings),
            reference.name,
        )
    _follow_units(own, units)
    yield _Part(own, metadata)


def _rename(inner: Outline, unit: str) -> None:
    """Steps of a referenced notebook are named after the reference too."""
    steps = {f"{unit}_{name}": step for name, step in inner.steps.items()}
    for name, step in steps.items():
        step.name, step.unit = name, unit
        step.previous = [f"{unit}_{before}" for before in step.previous]
    inner.steps = steps


def _follow_units(own: Outline, units: Mapping[str, list[str]]) -> None:
    """A step waits for the referenced notebooks above it, so that a notebook runs as it reads."""
    for name, step in own.steps.items():
        above = [r.name for r in own.references if name not in r.above]
        step.previous += [unit for unit in above if unit not in step.previous]
        step.previous = [leaf for before in step.previous for leaf in units.get(before, [before])]
        step.previous = [before for before in step.previous if before not in {r.name for r in own.references}]


def _parameters(parts: list[_Part], findings: Findings) -> tuple[Parameter, ...]:
    """All parameters; those of the notebook itself win over those of notebooks it refers to."""
    read: dict[str, Parameter] = {}
    for part in parts:
        for parameter in read_parameters(part.outline.parameters, findings):
            read[parameter.name] = parameter
    return tuple(read.values())


def _order_steps(parts: list[_Part], findings: Findings) -> dict[str, StepOutline]:
    steps = {name: step for part in parts for name, step in part.outline.steps.items()}
    order, cycle = sort_steps({name: step.previous for name, step in steps.items()})
    if cycle:
        places = " -> ".join(cycle)
        findings.add("KLC014", steps[cycle[0]].place, f"these steps wait for each other: {places}")
        for step in steps.values():
            step.previous = [name for name in step.previous if name not in cycle]
        order, _ = sort_steps({name: step.previous for name, step in steps.items()})
    return {name: steps[name] for name in order}


def _survey(parts: list[_Part], parameters: tuple[Parameter, ...]) -> Names:
    statements = [
        statement
        for part in parts
        for cells in (part.outline.shared, *(step.cells for step in part.outline.steps.values()))
        for _, several in cells
        for statement in several
    ]
    plain = {p.name: p.type not in (ParameterType.LIST, ParameterType.DICT) for p in parameters}
    names = survey(statements, plain)
    copying = frozenset().union(*(part.outline.step_functions for part in parts))
    return names._replace(pure=names.pure | copying)


def _drafts(
    parts: list[_Part],
    steps: Mapping[str, StepOutline],
    parameters: tuple[Parameter, ...],
    names: Names,
    findings: Findings,
) -> list[Draft]:
    ranks: dict[tuple[str, int], int] = {}
    for part in parts:
        for key in part.outline.order:
            ranks.setdefault(key, len(ranks) + 1)
    mentioned = _mentioned(parts)
    given = {p.name: Version(p.name, "", Kind.PARAMETER, 0) for p in parameters}
    makers: dict[str, str] = {}
    for name, step in steps.items():
        for _, statements in step.cells:
            for found in occurrences(*statements):
                if found.action is Action.STORE and not found.deferred:
                    makers.setdefault(found.name, name)
    drafts: dict[str, Draft] = {}
    for part in parts:
        shared = _shared(part, given, names, mentioned)
        check_shared(shared, given, makers, findings)
        defaults = {**given, **_shared_versions(shared, ranks)}
        for name, step in part.outline.steps.items():
            code = Code(step.cells, names, part.outline.postponed or has_future_annotations(step.cells))
            drafts[name] = Draft(name, code, shared, tuple(step.previous), ranks, step.place, defaults)
    return [drafts[name] for name in steps]


def _mentioned(parts: list[_Part]) -> frozenset[str]:
    """All names that any code of the source uses."""
    found: set[str] = set()
    for part in parts:
        outlines: list[list[Parsed]] = [part.outline.shared, part.outline.metrics]
        outlines += [step.cells for step in part.outline.steps.values()]
        for cells in outlines:
            for _, statements in cells:
                found.update(
                    node.id
                    for statement in statements
                    for node in walk(statement)
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
                )
    return frozenset(found)


def _shared(part: _Part, given: Mapping[str, Version], names: Names, mentioned: frozenset[str]) -> SharedCode:
    code = Code(part.outline.shared, names, part.outline.postponed)
    facts = analyse(code, given)
    return make_shared(code, facts, mentioned)


def _shared_versions(shared: SharedCode, ranks: Mapping[tuple[str, int], int]) -> dict[str, Version]:
    """What shared code leaves for every step."""
    facts, made = shared.facts, {}
    for name, origins in facts.exits.items():
        sites = [origin for origin in origins if origin >= 0]
        if not sites:
            continue
        rank = max(ranks.get((facts.bound_in[site].file, facts.bound_in[site].number), 0) for site in sites)
        definitions = facts.definitions.get(name, [])
        all_defined = all(site in facts.definition_sites for site in sites)
        made[name] = Version(
            name,
            "",
            Kind.SHARED,
            rank,
            definitions=frozenset(facts.closure(name)),
            sources=tuple(definitions) if all_defined else (),
            modules=facts.modules(name, {}),
            called_with=facts.called_with(name),
        )
    return made


def _metric_code(metric: Metric) -> ast.stmt:
    return ast.parse(metric.expression).body[0]


def _step(outline: StepOutline, found: Assembled, travel: Travel, parts: list[_Part]) -> Step:
    part = next(part for part in parts if outline.name in part.outline.steps)
    settings = merge_settings(
        parts[-1].metadata.step_defaults, merge_settings(part.metadata.step_defaults, outline.settings)
    )
    if part.unit and not settings.base_image:
        settings = settings._replace(base_image=part.metadata.settings.base_image)
    requirements = list(part.outline.requirements)
    every = {name: step for one in parts for name, step in one.outline.steps.items()}
    for name in travel.journeys:
        if name in travel.ancestors[outline.name] or name == outline.name:
            requirements += every[name].requirements
    return Step(
        name=outline.name,
        cells=tuple(cell for cell, _ in outline.cells),
        opening=found.opening,
        after=found.after,
        data_from=found.data_from,
        writes=found.writes,
        aliases=found.aliases,
        parameters=found.parameters,
        metrics=tuple(travel.metrics.get(outline.name, ())),
        imports=found.imports,
        value_imports=found.value_imports,
        requirements=tuple(dict.fromkeys(requirements)),
        settings=settings,
        place=outline.place,
        unit=outline.unit,
    )
