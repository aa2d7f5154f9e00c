"""kalec compile: the YAML of a pipeline."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kalec.commands.options import PipelineOption, SeverityOption, severities_from

if TYPE_CHECKING:
    from kalec.emit.compilation import Compiled
    from kalec.emit.options import SharedVolume, Toleration


class PullPolicy(StrEnum):
    """When a node fetches an image anew."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


Sources = Annotated[
    list[Path], typer.Argument(help="Notebooks, percent-format scripts, modules with @step and @pipeline.")
]
Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        help="The file to write, a folder for several, or - for standard output. [SOURCE.pipeline.yaml]",
    ),
]
Check = Annotated[
    bool, typer.Option("--check", help="Write nothing; show what the file should be, and end with 1, when it is not.")
]
Name = Annotated[str, typer.Option("--name", help="The name of the pipeline.")]
Experiment = Annotated[str, typer.Option("--experiment", help="The experiment that its runs belong to.")]
Description = Annotated[str, typer.Option("--description", help="What the pipeline is for.")]
Image = Annotated[str, typer.Option("--image", help="The image that steps run in which do not name one.")]
Lock = Annotated[
    Path | None,
    typer.Option("--lock", help="Take versions from requirements.txt, uv.lock, poetry.lock or pylock.toml."),
]
ImageOnly = Annotated[bool, typer.Option("--image-only", help="Install nothing: the images hold all that steps need.")]
Way = Annotated[
    str,
    typer.Option(
        "--data", help="How values travel: artifacts, volume (one made for each run), or volume:NAME of the notebook."
    ),
]
ValuesSize = Annotated[str, typer.Option("--values-size", help="The size of the volume made for each run. [10Gi]")]
ValuesClass = Annotated[str, typer.Option("--values-storage-class", help="Its storage class.")]
Pull = Annotated[PullPolicy | None, typer.Option("--image-pull-policy", help="When a node fetches the images anew.")]
PullSecret = Annotated[
    list[str] | None, typer.Option("--image-pull-secret", help="A secret for the registry; repeatable.")
]
Tolerate = Annotated[
    list[str] | None, typer.Option("--toleration", help="A taint to bear, KEY[=VALUE][:EFFECT]; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="Say what was done as JSON, one object a line.")]


def command(
    sources: Sources,
    output: Output = "",
    check: Check = False,
    name: Name = "",
    experiment: Experiment = "",
    description: Description = "",
    image: Image = "",
    pipeline: PipelineOption = "",
    lock: Lock = None,
    image_only: ImageOnly = False,
    data: Way = "artifacts",
    values_size: ValuesSize = "",
    values_storage_class: ValuesClass = "",
    image_pull_policy: Pull = None,
    image_pull_secret: PullSecret = None,
    toleration: Tolerate = None,
    severity: SeverityOption = None,
    as_json: Json = False,
) -> None:
    """Compile sources into pipelines for Kubeflow Pipelines.

    Nothing of a source is executed, and the network is not touched. A source with errors keeps all from being written.
    """
    from kalec.emit.compilation import CompileRequest, compile_sources
    from kalec.emit.options import EmitOptions
    from kalec.load import Overrides

    targets = _targets(sources, output, checked=check)
    options = EmitOptions(
        install=not image_only,
        shared=_shared(data, values_size, values_storage_class),
        image_pull_policy=image_pull_policy.value if image_pull_policy else "",
        image_pull_secrets=tuple(image_pull_secret or ()),
        tolerations=tuple(map(_toleration, toleration or ())),
    )
    overrides = Overrides(pipeline_name=name, experiment=experiment, description=description, base_image=image)
    severities = {source: severities_from(severity, source.parent) for source in sources}
    request = CompileRequest(sys.path, overrides, options, pipeline, lock, severities)
    compiled = compile_sources(sources, request)
    show_findings(compiled)
    if check:
        _check(compiled, targets, as_json=as_json)
    else:
        _write(compiled, targets, as_json=as_json)


def show_findings(compiled: "list[Compiled]") -> None:
    """Show what is wrong on standard error, notes left to `kalec lint`. Raises Failed when anything is an error."""
    from kalec.errors import Failed
    from kalec.model import Severity

    errors = 0
    for one in compiled:
        for finding in one.diagnostics:
            if finding.severity is not Severity.NOTE:
                typer.echo(str(finding), err=True)
            errors += finding.severity is Severity.ERROR
    if errors:
        raise Failed(
            f"{errors} error{'s' if errors > 1 else ''}; nothing was written", hint="each has a page in kalec(1)"
        )


def _targets(sources: list[Path], output: str, *, checked: bool) -> list[Path | None]:
    """Where each result goes; None is standard output."""
    from kalec.errors import Refused

    if output == "-":
        if len(sources) > 1 or checked:
            raise Refused(
                "standard output takes one pipeline, and has none to check against"
                if checked
                else "standard output takes one pipeline",
                hint="name a file or a folder with -o",
            )
        return [None]
    folder = Path(output) if output and (output.endswith("/") or Path(output).is_dir()) else None
    if output and len(sources) > 1 and not folder:
        raise Refused(
            f"{output} is no folder, and there are {len(sources)} sources", hint="name a folder that exists with -o"
        )
    if output and not folder:
        return [Path(output)]
    targets = [(folder or source.parent) / f"{source.stem}.pipeline.yaml" for source in sources]
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice:
        raise Refused(f"two sources would be written to {twice}", hint="compile them one by one, with -o")
    if folder and not folder.is_dir():
        raise Refused(f"there is no folder {folder}")
    return list(targets)


def _shared(data: str, size: str, storage_class: str) -> "SharedVolume | None":
    from kalec.emit.options import VALUES_SIZE, SharedVolume
    from kalec.emit.quantity import parse_quantity
    from kalec.errors import Refused

    way, colon, name = data.partition(":")
    if way not in ("artifacts", "volume") or (colon and (way == "artifacts" or not name)):
        raise Refused(f"--data is {data!r}", hint="write artifacts, volume, or volume:NAME")
    if (size or storage_class) and (way == "artifacts" or name):
        raise Refused("--values-size and --values-storage-class are for the volume made with --data volume")
    if size and parse_quantity(size) is None:
        raise Refused(f"--values-size is {size!r}, which is no quantity", hint="write it as 10Gi")
    return SharedVolume(name, size or VALUES_SIZE, storage_class) if way == "volume" else None


def _toleration(text: str) -> "Toleration":
    from kalec.emit.options import Toleration
    from kalec.errors import Refused

    taint, colon, effect = text.partition(":")
    key, _, value = taint.partition("=")
    if colon and effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise Refused(
            f"--toleration {text!r} has the effect {effect!r}", hint="NoSchedule, PreferNoSchedule, NoExecute"
        )
    if value and not key:
        raise Refused(f"--toleration {text!r} has a value and no key")
    return Toleration(key, value, effect)


def _check(compiled: "list[Compiled]", targets: list[Path | None], *, as_json: bool) -> None:
    from kalec.emit.files import stale_lines
    from kalec.errors import Failed

    stale = 0
    for one, target in zip(compiled, targets, strict=True):
        if target is None:
            continue
        difference = stale_lines(one.text, target, str(one.source))
        stale += bool(difference)
        if as_json:
            typer.echo(json.dumps({"source": str(one.source), "output": str(target), "stale": bool(difference)}))
        else:
            typer.echo("".join(difference), nl=False)
    if stale:
        raise Failed(f"{stale} of {len(compiled)} stale", hint="compile again, and commit what it writes")


def _write(compiled: "list[Compiled]", targets: list[Path | None], *, as_json: bool) -> None:
    from kalec.emit.files import write_text

    for one, target in zip(compiled, targets, strict=True):
        if target is None:
            sys.stdout.buffer.write(one.text.encode())
            continue
        written = write_text(target, one.text)
        if as_json:
            said = {
                "source": str(one.source),
                "output": str(target),
                "result": "written" if written else "already there",
            }
            typer.echo(json.dumps(said))
