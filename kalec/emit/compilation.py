"""From a source to the YAML of its pipeline: the use case of `kalec compile`."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from errno import EDQUOT, ENOSPC
from pathlib import Path

from kalec.emit.distributions import Installed
from kalec.emit.limits import check
from kalec.emit.lockfile import read_lock
from kalec.emit.options import EmitOptions
from kalec.emit.pipeline import pipeline_yaml
from kalec.emit.requirements import step_requirements
from kalec.errors import Failed, NotFound, OutOfSpace, Refused
from kalec.findings import Findings, did_you_mean
from kalec.load import Overrides, load_pipeline
from kalec.model import Diagnostic, Pipeline, Severity, worst


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """What is asked for, for all sources alike."""

    search_path: Sequence[str]  # where what is installed is looked for, as sys.path
    overrides: Overrides = field(default_factory=Overrides)
    options: EmitOptions = field(default_factory=EmitOptions)
    pipeline: str = ""  # which of several @pipeline functions of a module
    lock: Path | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
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
    return [_compile(source, request, installed, lock) for source in sources]


def stale_lines(compiled: Compiled, target: Path) -> list[str]:
    """The differences, as `diff -u`, between the file and what it should be; none when it is up to date."""
    try:
        committed = target.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        raise NotFound(f"there is no file {target} to check", hint=f"write it with -o {target}") from None
    except OSError as error:
        raise Failed(f"{target} cannot be read: {error.strerror}") from None
    return list(
        unified_diff(
            committed.splitlines(keepends=True),
            compiled.text.splitlines(keepends=True),
            f"{target} (committed)",
            f"{target} (from {compiled.source})",
        )
    )


def write_text(target: Path, text: str) -> bool:
    """Replace a file in one instant, and say whether it had to be: one that is right is left alone.

    A reader sees the old text or the new one, and after a crash there is one of them. Raises Failed, OutOfSpace.
    """
    target = target.resolve()  # a link stays one
    content = text.encode()
    try:
        if target.is_file() and target.read_bytes() == content:
            return False
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(handle)
            Path(name).chmod(_mode(target))
            Path(name).replace(target)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        kind = OutOfSpace if error.errno in (ENOSPC, EDQUOT) else Failed
        raise kind(f"{target} cannot be written: {error.strerror}") from None
    return True


def _compile(source: Path, request: CompileRequest, installed: Installed, lock: dict[str, str] | None) -> Compiled:
    loaded = load_pipeline(source, pipeline=request.pipeline, overrides=request.overrides)
    pipeline, options = loaded.pipeline, request.options
    _refuse_unknown_volume(pipeline, options)
    if loaded.has_errors:
        return Compiled(source, pipeline, "", loaded.diagnostics)
    findings = Findings(loaded.severities)
    if options.install:
        options = replace(options, requirements=step_requirements(pipeline, installed, lock, findings))
    check(pipeline, options, findings)
    diagnostics = tuple(sorted([*loaded.diagnostics, *findings.sorted()], key=lambda finding: finding.place))
    text = "" if worst(diagnostics) is Severity.ERROR else pipeline_yaml(pipeline, options)
    return Compiled(source, pipeline, text, diagnostics)


def _refuse_unknown_volume(pipeline: Pipeline, options: EmitOptions) -> None:
    wanted = options.shared.name if options.shared else ""
    names = [volume.name for volume in pipeline.settings.volumes]
    if wanted and wanted not in names:
        raise Refused(f"{pipeline.source} has no volume {wanted!r}{did_you_mean(wanted, names)}")


def _mode(target: Path) -> int:
    """The permissions that the file has, or that a new one would get."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
