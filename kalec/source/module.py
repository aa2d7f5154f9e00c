"""Python modules with the decorators `@step` and `@pipeline`, as Kale 0.x had them. The module is read, never executed.

A call of a step in the pipeline function becomes a step of the pipeline, and the variables of the pipeline function become
the names that travel. So the module reads like this notebook: everything outside of the pipeline function is shared code, its
parameters are a parameters cell, and each call is a step cell. A step called twice makes two steps.

    @step(name="train", limits={"nvidia.com/gpu": "1"}, retry_count=2)
    def train(frame, rate): ...

    @pipeline(name="taxi", experiment="demo")
    def taxi(rate=0.1):
        frame = load()
        model = train(frame, rate)
        check(model).after(load)
"""

import ast
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from kalec.errors import Damaged, NotFound, Refused
from kalec.findings import did_you_mean
from kalec.model import NOTHING
from kalec.source.cells import Source, SourceCell

_SDK: Final = ("kalec.sdk", "kale.sdk", "kale")


class _Decorated(NamedTuple):
    """A function with one of our decorators."""

    node: ast.FunctionDef
    settings: Mapping[str, Any] = NOTHING


def has_pipeline(text: str) -> bool:
    """Whether a script is a module with a pipeline function."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(_decorator(node, "pipeline") for node in tree.body)


def parse_module(file: str, text: str, chosen: str = "") -> Source:
    """The cells that a module stands for. `chosen` is the pipeline function, where there are several.

    Raises NotFound (no pipeline function of that name), Refused (several, or a pipeline function that does more than call
    steps), Damaged (settings that are no plain data).
    """
    tree = ast.parse(text)
    steps: dict[str, _Decorated] = {}
    pipelines: dict[str, _Decorated] = {}
    for node in tree.body:
        for kind, found in (("step", steps), ("pipeline", pipelines)):
            decorator = _decorator(node, kind)
            if decorator is not None and isinstance(node, ast.FunctionDef):
                found[node.name] = _Decorated(node, _settings(file, decorator))
    pipeline = _choose(file, pipelines, chosen)
    lines = text.split("\n")
    cells = [_shared_cell(tree, lines, pipelines), _parameters_cell(pipeline.node)]
    cells += _step_cells(file, pipeline.node, steps, lines)
    return Source(file, tuple(cells), _metadata(pipeline), False, frozenset(steps))


def _choose(file: str, pipelines: Mapping[str, _Decorated], chosen: str) -> _Decorated:
    if chosen and chosen not in pipelines:
        raise NotFound(f"{file} has no pipeline function {chosen!r}{did_you_mean(chosen, pipelines)}")
    if not chosen and len(pipelines) > 1:
        raise Refused(f"{file} has several pipelines: {', '.join(pipelines)}", hint="name one with --pipeline")
    return pipelines[chosen or next(iter(pipelines))]


def _decorator(node: ast.stmt, kind: str) -> ast.expr | None:
    for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        if name == kind:
            return decorator
    return None


def _settings(file: str, decorator: ast.expr) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
        try:
            settings[keyword.arg or ""] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise Damaged(
                f"{file}:{keyword.value.lineno}: the setting {keyword.arg!r} is worked out, and must be plain data"
            ) from None
    return settings


def _metadata(pipeline: _Decorated) -> dict[str, Any]:
    settings = dict(pipeline.settings)
    names = {"name": "pipeline_name", "experiment": "experiment_name", "description": "pipeline_description"}
    metadata = {names.get(key, key): value for key, value in settings.items()}
    metadata.setdefault("pipeline_name", pipeline.node.name.replace("_", "-").lower().strip("-"))
    if not metadata.get("pipeline_description"):
        metadata["pipeline_description"] = (ast.get_docstring(pipeline.node) or "").strip()
    return metadata


def _shared_cell(tree: ast.Module, lines: list[str], pipelines: Mapping[str, _Decorated]) -> SourceCell:
    """The module without its pipelines, its decorators of ours, and what runs only as a script."""
    kept = list(lines)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in pipelines:
            _blank(kept, _first_line(node), node.end_lineno or node.lineno)
        elif _is_only_for_scripts(node):
            _blank(kept, node.lineno, node.end_lineno or node.lineno)
        else:
            decorator = _decorator(node, "step")
            if decorator is not None:
                _blank(kept, decorator.lineno, decorator.end_lineno or decorator.lineno)
    return SourceCell(1, "", "\n".join(kept).rstrip(), ("functions",))


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _blank(lines: list[str], first: int, last: int) -> None:
    lines[first - 1 : last] = [""] * (last - first + 1)


def _is_only_for_scripts(node: ast.stmt) -> bool:
    """`if __name__ == "__main__"`, and the import of the decorators."""
    if isinstance(node, ast.ImportFrom):
        return node.module in _SDK
    test = node.test if isinstance(node, ast.If) else None
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def _parameters_cell(node: ast.FunctionDef) -> SourceCell:
    """The parameters of the pipeline function, as assignments, on their own lines."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    defaults += [*node.args.defaults, *node.args.kw_defaults]
    lines: dict[int, list[str]] = {}
    for argument, default in zip(arguments, defaults, strict=True):
        annotation = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
        if default is None:
            text = f"{argument.arg}{annotation or ': str'}"
        else:
            text = f"{argument.arg}{annotation} = {ast.unparse(default)}"
        lines.setdefault(argument.lineno, []).append(text)
    source = "\n".join(
        "; ".join(lines.get(number, [])) for number in range(node.lineno, max(lines, default=node.lineno) + 1)
    )
    return SourceCell(2, "", source, ("pipeline-parameters",), first_line=node.lineno)


def _step_cells(
    file: str, pipeline: ast.FunctionDef, steps: Mapping[str, _Decorated], lines: list[str]
) -> Iterator[SourceCell]:
    """One cell for each statement that calls a step."""
    used: dict[str, int] = {}
    latest: dict[str, str] = {}  # the name of a function, or of a variable -> the step that it stands for
    for number, statement in enumerate(pipeline.body, 3):
        if isinstance(statement, ast.Pass) or (
            isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        ):
            continue
        call, after = _call_of(statement)
        if call is None or not isinstance(call.func, ast.Name) or call.func.id not in steps:
            known = f" {call.func.id!r} is no step." if call is not None and isinstance(call.func, ast.Name) else ""
            raise Refused(
                f"{file}:{statement.lineno}: a pipeline function only calls steps, as `x = step(y)`.{known}",
                hint="move this into a step",
            )
        function = call.func.id
        settings = steps[function].settings
        name = str(settings.get("name") or function).replace("-", "_").lower()
        used[name] = used.get(name, 0) + 1
        name += f"_{used[name]}" if used[name] > 1 else ""
        previous = [latest[other] for other in after if other in latest]
        if len(previous) < len(after):
            missing = next(other for other in after if other not in latest)
            raise Refused(f"{file}:{statement.lineno}: .after({missing}): no step stands above by that name")
        latest[function] = name
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            latest[statement.targets[0].id] = name
        tags = (f"step:{name}", *(f"prev:{before}" for before in previous))
        source = _statement_source(statement, call, lines)
        yield SourceCell(number, "", source, tags, {"settings": settings}, first_line=statement.lineno)


def _call_of(statement: ast.stmt) -> tuple[ast.Call | None, list[str]]:
    """The call of a step in a statement, and the names given to its `.after(…)`."""
    if not isinstance(statement, ast.Assign | ast.Expr) or not isinstance(statement.value, ast.Call):
        return None, []
    call, after = statement.value, []
    while isinstance(call.func, ast.Attribute) and call.func.attr == "after" and isinstance(call.func.value, ast.Call):
        after += [argument.id for argument in call.args if isinstance(argument, ast.Name)]
        call = call.func.value
    return call, after


def _statement_source(statement: ast.stmt, call: ast.Call, lines: list[str]) -> str:
    """The statement without `.after(…)`, on as many lines, at the margin."""
    prefix = ""
    if isinstance(statement, ast.Assign):
        prefix = "".join(f"{ast.unparse(target)} = " for target in statement.targets)
    own = lines[call.lineno - 1 : call.end_lineno]
    own[-1] = own[-1].encode()[: call.end_col_offset].decode()
    own[0] = own[0].encode()[call.col_offset :].decode()
    return prefix + "\n".join(own)
