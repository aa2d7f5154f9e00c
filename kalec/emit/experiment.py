"""From a source to the Experiment that searches for its best parameters: the use case of `kalec tune`."""

from pathlib import Path
from typing import NamedTuple

from kalec.emit.compilation import Compiled, CompileRequest, prepare
from kalec.emit.distributions import Installed
from kalec.emit.katib import CONFIG_MAP_LIMIT, TrialOptions, experiment_yaml, trial_files
from kalec.emit.lockfile import read_lock
from kalec.emit.tuning import check_tuning
from kalec.errors import Refused
from kalec.model import Place, Tuning


class Counts(NamedTuple):
    """How many trials there are, where the command line says it; None is the notebook's word."""

    max_trials: int | None = None
    max_failed_trials: int | None = None
    parallel_trials: int | None = None

    def put_into(self, tuning: Tuning) -> Tuning:
        """The tuning with these counts."""
        return tuning._replace(
            max_trials=tuning.max_trials if self.max_trials is None else self.max_trials,
            max_failed_trials=tuning.max_failed_trials if self.max_failed_trials is None else self.max_failed_trials,
            parallel_trials=tuning.parallel_trials if self.parallel_trials is None else self.parallel_trials,
        )


def compile_tuning(source: Path, request: CompileRequest, trial: TrialOptions, counts: Counts) -> Compiled:
    """Compile a source into the Experiment that its `katib_metadata` describes.

    Raises what `compile_sources` raises, and Refused for a source without tuning.
    """
    lock = read_lock(request.lock) if request.lock else None
    prepared = prepare(source, request, Installed(request.search_path), lock)
    pipeline, findings = prepared.pipeline, prepared.findings
    if pipeline.settings.tuning is None:
        raise Refused(f"{source} has nothing to tune", hint="describe it in katib_metadata; kalec(1) has an example")
    tuning = counts.put_into(pipeline.settings.tuning)
    check_tuning(pipeline, tuning, findings)
    if prepared.is_wrong():
        return Compiled(source, pipeline, "", prepared.diagnostics)
    size = sum(len(text.encode()) for text in trial_files(pipeline, tuning, prepared.options, trial).values())
    if size > CONFIG_MAP_LIMIT:
        message = f"the pipeline is {size:,} bytes, and a ConfigMap holds {CONFIG_MAP_LIMIT:,}"
        findings.add("KLC312", Place(pipeline.source), message)
    text = "" if prepared.is_wrong() else experiment_yaml(pipeline, tuning, prepared.options, trial)
    return Compiled(source, pipeline, text, prepared.diagnostics)
