"""`kalec run`: a pipeline here, without a cluster."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kalec.commands.options import PipelineOption, SourceArgument, read
from kalec.running.command import Options, World, run_pipeline


def command(
    source: SourceArgument,
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="The value of a parameter.")] = None,
    from_: Annotated[str, typer.Option("--from", metavar="STEP", help="Run this step and what comes after it.")] = "",
    to: Annotated[str, typer.Option(metavar="STEP", help="Run this step and what it needs, and no more.")] = "",
    jobs: Annotated[int, typer.Option(min=0, help="How many steps at once; 0 is one for each CPU.")] = 0,
    volume: Annotated[list[str] | None, typer.Option(metavar="NAME=FOLDER", help="What stands for a volume.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run also what is known already.")] = False,
    python: Annotated[str, typer.Option(metavar="PROGRAM", help="The Python that runs the steps.")] = "",
    state: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where runs are kept, in place of .kalec beside SOURCE.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record of the run, not the metrics.")] = False,
    pipeline: PipelineOption = "",
) -> None:
    """Run a pipeline here, without a cluster: each step in a process of its own, and nothing done twice."""
    options = Options(param or (), from_, to, jobs, volume or (), not no_cache, python, state, as_json)
    world = World(os.environ, lambda: datetime.now(UTC), time.monotonic)
    run_pipeline(source, read(source, pipeline), options, world)
