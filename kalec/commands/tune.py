"""kalec tune: the YAML of a search for the best parameters of a pipeline."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from kalec.commands.compile import Image, ImageOnly, Lock, show_findings
from kalec.commands.options import SeverityOption, severities_from


def command(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A notebook with katib_metadata.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The file, or - for standard output. [SOURCE.experiment.yaml]")
    ] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; end with 1 when the file is not right.")
    ] = False,
    name: Annotated[str, typer.Option("--name", help="The name of the Experiment, and of the pipeline.")] = "",
    image: Image = "",
    lock: Lock = None,
    image_only: ImageOnly = False,
    max_trials: Annotated[int | None, typer.Option("--max-trials", min=1, help="How many trials.")] = None,
    max_failed_trials: Annotated[
        int | None, typer.Option("--max-failed-trials", min=0, help="How many may fail.")
    ] = None,
    parallel_trials: Annotated[int | None, typer.Option("--parallel-trials", min=1, help="How many at once.")] = None,
    namespace: Annotated[str, typer.Option("--namespace", help="The namespace of the Experiment.")] = "",
    service_account: Annotated[
        str, typer.Option("--service-account", help="Who starts runs and reads the logs of their pods.")
    ] = "default-editor",
    trial_image: Annotated[
        str, typer.Option("--trial-image", help="An image with kfp, so that a trial installs nothing.")
    ] = "",
    severity: SeverityOption = None,
    kfp_host: Annotated[str, typer.Option("--kfp-host", help="The address of the KFP API. [that of the cluster]")] = "",
) -> None:
    """Write an Experiment of Katib in which every trial is a run of the pipeline."""
    from kalec.commands.output import put
    from kalec.emit.compilation import CompileRequest
    from kalec.emit.experiment import Counts, compile_tuning
    from kalec.emit.katib import TrialOptions
    from kalec.emit.options import EmitOptions
    from kalec.load import Overrides

    request = CompileRequest(
        sys.path,
        Overrides(pipeline_name=name, base_image=image),
        EmitOptions(install=not image_only),
        lock=lock,
        severities={source: severities_from(severity, source.parent)},
    )
    trial = TrialOptions(namespace, service_account, trial_image, kfp_host)
    compiled = compile_tuning(source, request, trial, Counts(max_trials, max_failed_trials, parallel_trials))
    show_findings([compiled])
    put(compiled.text, output, source.with_name(f"{source.stem}.experiment.yaml"), check=check, source=str(source))
