"""From a source to the YAML of its pipeline: the use case of `kalec compile`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kalec.emit.distributions import Installed
from kalec.emit.limits import check
from kalec.emit.lockfile import read_lock
from kalec.emit.options import EmitOptions
from kalec.emit.pipeline import pipeline_yaml
from kalec.emit.requirements import step_requirements
from kalec.errors import Refused
from kalec.findings import Findings, did_you_mean
from kalec.load import Overrides, load_pipeline
from kalec.model import NOTHING, Diagnostic, Pipeline, Severity, worst


class CompileRequest(NamedTuple):
    """What is asked for, for all sources alike."""

    search_path: Sequence[str]  # where what is installed is looked for, as sys.path
    overrides: Overrides = Overrides()
    options: EmitOptions = EmitOptions()
    pipeline: str = ""  # which of several @pipeline functions of a module
    lock: Path | None = None
    severities: Mapping[Path, Mapping[str, Severity | None]] = NOTHING  # by source, as for Overrides


class Compiled(NamedTuple):
    """What became of a source. `text` is "" when an error keeps it from being compiled."""

    source: Path
    pipeline: Pipeline
    text: str
    diagnostics: tuple[Diagnostic, ...]


def compile_sources(sources: Sequence[Path], request: CompileRequest) -> list[Compiled]:
    """Compile each source; nothing is written, executed or fetched.

    Raises what `load_pipeline` and `read_lock` raise, and Refused for a shared volume that a source does not have.
    """
    lock = read_lock(request.lock) if request.lock else None
    installed = Installed(request.search_path)
    compiled = []
    for source in sources:
        prepared = prepare(source, request, installed, lock)
        text = "" if prepared.is_wrong() else pipeline_yaml(prepared.pipeline, prepared.options)
        compiled.append(Compiled(source, prepared.pipeline, text, prepared.diagnostics))
    return compiled


class Prepared(NamedTuple):
    """A pipeline that was read and checked, with what its steps install."""

    pipeline: Pipeline
    options: EmitOptions
    loaded: tuple[Diagnostic, ...]  # what was found when it was loaded
    findings: Findings  # and since

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All findings, sorted by place."""
        return tuple(sorted([*self.loaded, *self.findings.sorted()], key=lambda finding: finding.place))

    def is_wrong(self) -> bool:
        """Whether something keeps it from being written."""
        return worst(self.diagnostics) is Severity.ERROR


def prepare(source: Path, request: CompileRequest, installed: Installed, lock: Mapping[str, str] | None) -> Prepared:
    """Read a source, find what its steps install, and check whether KFP can hold it."""
    overrides = request.overrides._replace(severities=request.severities.get(source, {}))
    loaded = load_pipeline(source, pipeline=request.pipeline, overrides=overrides)
    pipeline, options = loaded.pipeline, request.options
    _refuse_unknown_volume(pipeline, options)
    findings = Findings(loaded.severities)
    # What is not installed is judged anew, by who knows the lock file, and whether anything is to be installed at all.
    found = tuple(finding for finding in loaded.diagnostics if finding.code != "KLC205")
    prepared = Prepared(pipeline, options, found, findings)
    if prepared.is_wrong():
        return prepared
    if options.install:
        requirements = step_requirements(pipeline, installed, lock, findings)
        prepared = prepared._replace(options=options._replace(requirements=requirements))
    check(pipeline, prepared.options, findings)
    return prepared


def _refuse_unknown_volume(pipeline: Pipeline, options: EmitOptions) -> None:
    wanted = options.shared.name if options.shared else ""
    names = [volume.name for volume in pipeline.settings.volumes]
    if wanted and wanted not in names:
        raise Refused(f"{pipeline.source} has no volume {wanted!r}{did_you_mean(wanted, names)}")
