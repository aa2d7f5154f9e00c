"""From a source file to a pipeline and all findings about it: the one way in, for every command."""

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kalec.errors import Damaged, Failed, NotFound
from kalec.model import Cell, Loaded, Pipeline, PipelineSettings, Read, Step, StepSettings, Write


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says in place of the source's metadata; "" is: not said."""

    pipeline_name: str = ""
    experiment: str = ""
    description: str = ""
    base_image: str = ""


def load_pipeline(
    path: Path, *, text: str | None = None, pipeline: str = "", overrides: Overrides | None = None
) -> Loaded:
    """Read a notebook (.ipynb), a percent-format script or a module with @step and @pipeline (.py), and analyse it.

    `text` is the source in place of what stands at `path`, whose name still says the kind. `pipeline` picks one of several
    @pipeline functions of a module. Nothing of the source is executed, and the network is not touched.

    What is wrong in the source is in the findings. Raises NotFound (no such file), Refused (a kind of file, of notebook or
    of language that kalec does not read), Damaged (not JSON, not UTF-8, not a notebook).
    """
    notebook = _read(path, text)
    cells = [
        Cell(path.name, number, str(cell.get("id", "")), "".join(cell["source"]))
        for number, cell in enumerate(notebook["cells"], 1)
        if cell["cell_type"] == "code"
    ]
    tags = {number: cell["metadata"].get("tags", []) for number, cell in enumerate(notebook["cells"], 1)}
    metadata: dict[str, Any] = notebook.get("metadata", {}).get("kubeflow_notebook", {})
    overrides = overrides or Overrides()
    return Loaded(
        Pipeline(
            name=overrides.pipeline_name or metadata.get("pipeline_name", path.stem),
            description=overrides.description or metadata.get("pipeline_description", ""),
            experiment=overrides.experiment or metadata.get("experiment_name", ""),
            parameters=(),
            steps=tuple(_steps(cells, tags)),
            settings=PipelineSettings(base_image=overrides.base_image or metadata.get("base_image", "")),
            source=path.name,
        ),
        (),
    )


def require(loaded: Loaded) -> Pipeline:
    """The pipeline, when nothing keeps it from being used. Raises Failed, which counts the errors."""
    if loaded.has_errors:
        count = sum(1 for finding in loaded.diagnostics if finding.severity == "error")
        raise Failed(
            f"{loaded.pipeline.source} has {count} error{'s' if count > 1 else ''}",
            hint=f"see `kalec lint {loaded.pipeline.source}`",
        )
    return loaded.pipeline


def _read(path: Path, text: str | None) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8") if text is None else text)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except ValueError as error:
        raise Damaged(f"{path} is not a notebook: {error}") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise Damaged(f"{path} is not a notebook: it has no cells")
    return notebook


def _steps(cells: list[Cell], tags: dict[int, list[str]]) -> list[Step]:
    """The steps of the notebook, with what travels between them along `prev:` edges."""
    prelude: list[Cell] = []
    members: dict[str, list[Cell]] = {}
    previous: dict[str, list[str]] = {}
    target = prelude
    for cell in cells:
        for tag in tags[cell.number]:
            kind, _, value = tag.partition(":")
            if kind in ("imports", "functions"):
                target = prelude
            elif kind in ("step", "block"):
                target = members.setdefault(value, [])
                previous.setdefault(value, [])
        previous_of_cell = [tag.partition(":")[2] for tag in tags[cell.number] if tag.startswith("prev:")]
        for name, own in members.items():
            if own is target:
                previous[name] += previous_of_cell
        target.append(cell)
    producers: dict[str, dict[str, str]] = {}
    steps: list[Step] = []
    for name, own in members.items():
        visible = {key: step for before in previous[name] for key, step in producers.get(before, {}).items()}
        made, used = _names(own)
        reads = tuple(Read(key, visible[key]) for key in sorted(used & visible.keys()))
        producers[name] = visible | dict.fromkeys(made, name)
        steps.append(
            Step(
                name=name,
                cells=tuple(own),
                opening=(*prelude, *reads),
                after=tuple(sorted(set(previous[name]))),
                data_from=tuple(sorted({read.step for read in reads})),
                writes=tuple(Write(key) for key in sorted(made)),
                aliases=(),
                parameters=(),
                metrics=(),
                imports=(),
                value_imports=(),
                requirements=(),
                settings=StepSettings(),
                place=own[0].place(),
            )
        )
    return steps


def _names(cells: list[Cell]) -> tuple[set[str], set[str]]:
    """The names that cells bind, and those that they use."""
    made: set[str] = set()
    used: set[str] = set()
    for cell in cells:
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Name):
                (made if isinstance(node.ctx, ast.Store) else used).add(node.id)
    return made, used
