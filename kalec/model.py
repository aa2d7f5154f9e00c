"""What a pipeline is: steps, the values that travel between them, and what the notebook says about running them.

Everything here is a value. It knows nothing of notebooks' JSON, of the analysis that fills it in, of YAML and of runs.
Values are named tuples, here and wherever `kalec compile` comes by: a frozen dataclass compiles seven methods each time it
is imported, and fifty of them took a quarter of a compilation.

How a step runs, everywhere (in `kalec run`, on a cluster, in the tests' reference executor):

1. a fresh process has one namespace, the module `__main__`;
2. the pipeline parameters in `Step.parameters` are bound in it;
3. `Step.opening` is gone through in order: a `Cell` is executed, a `Read` is loaded and bound (nothing is bound when the
   read is `optional` and the step it comes from left the name unbound);
4. `Step.cells` are executed, in order; cells of an opening and of a step alike may `await` at the top, and a
   `from __future__ import` holds for the cells after it, as in a notebook;
5. each name in `Step.writes` is saved (an `optional` one that is unbound is saved as "unbound");
6. each of `Step.metrics` is evaluated, as a Python expression in the same namespace.

Functions and classes that the notebook defines travel as source: those that a step needs are cells of its opening, so in
every process they are `__main__.NAME`, pickle finds them there by name, and `type(a) is type(b)` holds. They are never in
`writes`. A definition stands in the opening after the reads that it needs when it is made (a default argument, a base
class), and before those that may hold instances of it.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None

# What is said when nothing is: the default of all mappings, which can share it because nobody can write to it.
NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class Severity(StrEnum):
    """How bad a finding is. Only an ERROR keeps a notebook from being compiled and run."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Place(NamedTuple):
    """Where something stands in a source file.

    In a notebook `cell` counts all cells from 1, as they stand in the file, and `line` counts within the cell. In a text
    file (`.py`) `cell` is 0 and `line` counts within the file. Lines and columns (in characters) count from 1; a line of 0
    is the whole cell, or the whole file where `cell` is 0 too.
    """

    file: str
    cell: int = 0
    line: int = 0
    column: int = 0
    cell_id: str = ""

    def __str__(self) -> str:
        """As `notebook.ipynb:cell 7 [id]:3:5`, or `pipeline.py:12:5`."""
        text = self.file
        if self.cell:
            text += f":cell {self.cell}" + (f" [{self.cell_id}]" if self.cell_id else "")
        if self.line:
            text += f":{self.line}" + (f":{self.column}" if self.column else "")
        return text


class Diagnostic(NamedTuple):
    """A finding about a notebook: `code` is as `KLC104`, and each has a page in kalec(1)."""

    code: str
    severity: Severity
    message: str
    place: Place
    hint: str = ""

    def __str__(self) -> str:
        """One line, for a person."""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.place}: {self.severity} {self.code} {self.message}{hint}"


class Cell(NamedTuple):
    """Python code from one cell of a source.

    `source` is plain Python: magics are translated. Its lines are those of the cell, one for one, so line n of a traceback
    is line n of the cell, plus `first_line` - 1 in a text file; where only a part of a cell is needed (in an opening), the
    other lines are blank, and trailing blank lines are gone.
    """

    file: str
    number: int  # from 1, among all cells of the file; of a text file too; 0 for code that kalec adds (`display`)
    cell_id: str  # "" where the source has none
    source: str
    first_line: int = 1  # where line 1 of `source` stands in the file, for a text file; 1 in a notebook
    in_notebook: bool = True  # whether lines count within the cell (a notebook) or within the file

    def place(self, line: int = 0, column: int = 0) -> Place:
        """The place of a line of `source`, and a column from 1."""
        if self.in_notebook:
            return Place(self.file, self.number, line, column, self.cell_id)
        return Place(self.file, 0, self.first_line + max(line, 1) - 1, column)


class Read(NamedTuple):
    """A variable that a step takes in: `name`, as the step `step` (one of its ancestors) left it."""

    name: str
    step: str
    optional: bool = False  # the name may be unbound where it comes from, and then stays unbound here


class Write(NamedTuple):
    """A variable that at least one later step reads from this one, as it is when the step ends."""

    name: str
    optional: bool = False  # the step may end without the name being bound; that too is saved, and is no error


class Metric(NamedTuple):
    """A number that the pipeline reports. `expression` is Python, evaluated when its step has ended."""

    name: str
    expression: str
    place: Place


class ParameterType(StrEnum):
    """What a pipeline parameter may be; the values are what a user writes as an annotation."""

    INTEGER = "int"
    FLOAT = "float"
    TEXT = "str"
    BOOLEAN = "bool"
    LIST = "list"
    DICT = "dict"


class Parameter(NamedTuple):
    """A pipeline parameter. Its default is plain JSON data, never source text.

    A default of None with `required` false is Python's None (the parameter is nullable, and `type` is its annotation, or
    TEXT without one).
    """

    name: str
    type: ParameterType
    default: JsonValue
    required: bool = False
    place: Place = Place("")


class Secret(NamedTuple):
    """The value under `key` of the Kubernetes Secret `name`, in the environment variable `variable`."""

    name: str
    key: str
    variable: str


class Retry(NamedTuple):
    """How often, and at what distance, a step that failed is tried again. Seconds."""

    times: int
    interval_seconds: float = 0
    factor: float = 1
    max_interval_seconds: float | None = None


class StepSettings(NamedTuple):
    """How a step is run. A step's own tags win over the notebook's `steps_defaults`, key by key; both are in here.

    None and empty mean: not said, so the pipeline's setting or the cluster's default holds.
    """

    base_image: str = ""
    enable_caching: bool | None = None
    limits: Mapping[str, str] = NOTHING  # "cpu" -> "2", "memory" -> "4Gi", "nvidia.com/gpu" -> "1"
    requests: Mapping[str, str] = NOTHING
    labels: Mapping[str, str] = NOTHING
    annotations: Mapping[str, str] = NOTHING
    environment: Mapping[str, str] = NOTHING
    secrets: tuple[Secret, ...] = ()
    node_selector: Mapping[str, str] = NOTHING
    retry: Retry | None = None
    timeout_seconds: int | None = None
    report: bool | None = None  # whether an HTML report of the step is wanted


class Step(NamedTuple):
    """One step of a pipeline: what runs in one process. See the module for how."""

    name: str  # [a-z_][a-z0-9_]*, unique in the pipeline
    cells: tuple[Cell, ...]
    opening: tuple[Cell | Read, ...]
    after: tuple[
        str, ...
    ]  # every step that must end before this one starts: `prev:` and data, sorted; no transitive ones added
    data_from: tuple[str, ...]  # those of `after` that a value comes from
    writes: tuple[Write, ...]  # sorted by name
    aliases: tuple[tuple[str, ...], ...]  # groups of written names that may be, or share parts with, one object
    parameters: tuple[str, ...]  # the pipeline parameters that it uses, sorted
    metrics: tuple[Metric, ...]
    imports: tuple[str, ...]  # modules that its code imports, through functions too, as "sklearn.svm"; sorted
    value_imports: tuple[str, ...]  # modules that the values it reads may be of, and that `imports` has not; sorted
    requirements: tuple[str, ...]  # from `%pip install`, as in PEP 508, in the order of the source
    settings: StepSettings
    place: Place
    unit: str = ""  # the `notebook:` reference that the step comes from; its name then starts with it

    @property
    def reads(self) -> tuple[Read, ...]:
        """The variables that it takes in, in the order of the opening. A name comes from one step only."""
        return tuple(part for part in self.opening if isinstance(part, Read))


class VolumeKind(Enum):
    """Where a volume comes from. The values are those of `volumes[].type` in a notebook's metadata."""

    EXISTING = "pvc"  # the claim `name` exists
    NEW = "new_pvc"  # made for each run of the pipeline
    CLONE = "clone"  # a copy of the claim `name`, or of the snapshot `snapshot_name`, made for each run
    PERSISTENT = "pv"  # a new claim bound to the PersistentVolume `name`


class AccessMode(Enum):
    """Who may mount a volume at once. The values are Kubernetes'."""

    READ_ONLY_MANY = "ReadOnlyMany"  # rom
    READ_WRITE_ONCE = "ReadWriteOnce"  # rwo
    READ_WRITE_MANY = "ReadWriteMany"  # rwm


class Volume(NamedTuple):
    """A volume that every step mounts."""

    name: str
    kind: VolumeKind
    mount_point: str  # absolute
    size: str = ""  # a Kubernetes quantity, as "5Gi"; always there for NEW, and "" where the notebook gives none
    access_mode: AccessMode = AccessMode.READ_WRITE_MANY
    storage_class: str = ""
    annotations: Mapping[str, str] = NOTHING
    snapshot: bool = False  # whether it is snapshotted when the pipeline has ended
    snapshot_name: str = ""
    environment_variable: str = ""  # holds the mount point, where the notebook asks for it: KALE_VOLUME_<NAME>


class SecurityContext(NamedTuple):
    """Whom the steps run as."""

    run_as_user: int = 65534
    run_as_group: int = 0
    run_as_non_root: bool = True


class TuningParameter(NamedTuple):
    """A parameter that Katib varies: of a range (`minimum`, `maximum`, `step`), or of a list."""

    name: str
    type: str  # Katib's: double, int, discrete, categorical
    minimum: str = ""
    maximum: str = ""
    step: str = ""
    choices: tuple[str, ...] = ()


class Tuning(NamedTuple):
    """The notebook's `katib_metadata`. It is taken as it stands; whether it fits the pipeline is checked by `kalec tune`."""

    parameters: tuple[TuningParameter, ...] = ()
    objective: str = ""  # the name of a metric
    objective_type: str = ""  # maximize, minimize
    goal: float | None = None
    additional_metrics: tuple[str, ...] = ()
    algorithm: str = ""
    algorithm_settings: Mapping[str, str] = NOTHING
    max_trials: int = 12
    max_failed_trials: int = 3
    parallel_trials: int = 3


class PipelineSettings(NamedTuple):
    """What the notebook's metadata says about the whole pipeline. None and empty mean: not said."""

    base_image: str = ""  # `docker_image` in Kale 0.x
    volumes: tuple[Volume, ...] = ()
    snapshot_volumes: bool = False
    autosnapshot: bool = False  # whether every step is snapshotted
    enable_caching: bool | None = None
    timeout_seconds: int | None = None  # of the whole run
    working_directory: str = ""
    security_context: SecurityContext | None = None
    tuning: Tuning | None = None
    kfp_host: str = ""
    output_path: str = ""


class Pipeline(NamedTuple):
    """A compiled notebook."""

    name: str  # [a-z0-9]([-a-z0-9]*[a-z0-9])?
    description: str
    experiment: str
    parameters: tuple[Parameter, ...]  # in the order of the source
    steps: tuple[Step, ...]  # each one after all that it waits for; otherwise in the order of the source
    settings: PipelineSettings
    source: str  # the name of the source file, without its folder

    @property
    def metrics(self) -> tuple[tuple[str, Metric], ...]:
        """All metrics, each with the name of the step that reports it."""
        return tuple((step.name, metric) for step in self.steps for metric in step.metrics)

    def step(self, name: str) -> Step:
        """The step of that name, which must exist."""
        return next(step for step in self.steps if step.name == name)

    def ancestors(self, name: str) -> frozenset[str]:
        """All steps that must have ended before that one starts."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            new = set(self.step(waiting.pop()).after) - found
            found |= new
            waiting += new
        return frozenset(found)


class Loaded(NamedTuple):
    """What became of a source: the pipeline, and all that was found, sorted by place.

    With an ERROR among the findings the pipeline is what could be made of the rest, good for showing and for nothing else.
    """

    pipeline: Pipeline
    diagnostics: tuple[Diagnostic, ...]
    severities: Mapping[str, Severity | None] = NOTHING  # that the user has set; None hides a rule

    @property
    def has_errors(self) -> bool:
        """Whether something keeps it from being compiled and run."""
        return worst(self.diagnostics) is Severity.ERROR


def worst(diagnostics: Sequence[Diagnostic]) -> Severity | None:
    """The highest severity among the findings."""
    order = list(Severity)
    return max((diagnostic.severity for diagnostic in diagnostics), key=order.index, default=None)
