"""What a source declares in cells of their own: pipeline parameters and pipeline metrics."""

import ast
import math
import re
from collections.abc import Iterable, Iterator
from typing import Final

from kalec.analysis.checks import place_of
from kalec.findings import Findings
from kalec.model import Cell, JsonValue, Metric, Parameter, ParameterType

_TYPES: Final = {
    "int": ParameterType.INTEGER,
    "float": ParameterType.FLOAT,
    "str": ParameterType.TEXT,
    "bool": ParameterType.BOOLEAN,
    "list": ParameterType.LIST,
    "List": ParameterType.LIST,
    "Sequence": ParameterType.LIST,
    "dict": ParameterType.DICT,
    "Dict": ParameterType.DICT,
    "Mapping": ParameterType.DICT,
}


class NotPlain(Exception):
    """A value is not plain JSON data; says why."""


def read_parameters(cells: Iterable[tuple[Cell, list[ast.stmt]]], findings: Findings) -> tuple[Parameter, ...]:
    """The assignments of the cells tagged pipeline-parameters. The last one of a name holds."""
    read: dict[str, Parameter] = {}
    for cell, statements in cells:
        for statement in statements:
            for parameter in _parameters_of(cell, statement, findings):
                read[parameter.name] = parameter
    return tuple(read.values())


def _parameters_of(cell: Cell, statement: ast.stmt, findings: Findings) -> Iterator[Parameter]:
    targets: list[ast.expr] = []
    annotation: ast.expr | None = None
    value: ast.expr | None = None
    match statement:
        case ast.Assign():
            targets, value = statement.targets, statement.value
        case ast.AnnAssign():
            targets, value, annotation = [statement.target], statement.value, statement.annotation
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return
    pairs = [pair for target in targets for pair in _pairs(target, value)]
    if not pairs:
        message = "a parameter is a name that is given plain data, as `rate = 0.1`; this is something else"
        hint = "move it to a step, or to a functions cell"
        findings.add("KLC030", place_of(cell, statement), message, hint=hint)
    for name, part in pairs:
        try:
            yield make_parameter(name, part, annotation, cell)
        except NotPlain as error:
            code = "KLC031" if "annotated" in str(error) else "KLC030"
            findings.add(code, place_of(cell, part or statement), f"the parameter {name!r}: {error}")


def _pairs(target: ast.expr, value: ast.expr | None) -> list[tuple[str, ast.expr | None]]:
    if isinstance(target, ast.Name):
        return [(target.id, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return [pair for part, one in zip(target.elts, value.elts, strict=True) for pair in _pairs(part, one)]
    return []


def make_parameter(name: str, value: ast.expr | None, annotation: ast.expr | None, cell: Cell) -> Parameter:
    """A parameter from its default and annotation. Raises NotPlain."""
    said = annotated_type(annotation)
    place = place_of(cell, value or annotation or ast.Constant(None))
    if value is None:
        return Parameter(name, said or ParameterType.TEXT, None, required=True, place=place)
    default = plain_value(value)
    found = _type_of(default)
    if said and found and found is not said and not (said is ParameterType.FLOAT and found is ParameterType.INTEGER):
        raise NotPlain(f"it is annotated {said.value}, and its default is {default!r}")
    return Parameter(name, said or found or ParameterType.TEXT, default, place=place)


def annotated_type(annotation: ast.expr | None) -> ParameterType | None:
    """The type that an annotation names, or None when it names none of ours."""
    match annotation:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return _TYPES.get(name)
        case ast.Constant(value=str(text)):
            return _TYPES.get(re.split(r"[\[|]", text)[0].strip())
        case ast.Subscript(value=ast.Name(id="Optional") | ast.Attribute(attr="Optional"), slice=inner):
            return annotated_type(inner)
        case ast.Subscript(value=inner):
            return annotated_type(inner)
        case ast.BinOp(left=left, right=right, op=ast.BitOr()):
            return annotated_type(left) or annotated_type(right)
    return None


def plain_value(node: ast.expr) -> JsonValue:
    """The JSON data that an expression is. Raises NotPlain."""
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, bool | int | float | str):
            if isinstance(value, float) and not math.isfinite(value):
                raise NotPlain("it is infinite, which JSON cannot say")
            return value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = plain_value(operand)
            if isinstance(number, int | float) and not isinstance(number, bool):
                return -number if isinstance(sign, ast.USub) else number
        case ast.List(elts=parts):
            return [plain_value(part) for part in parts]
        case ast.Dict(keys=keys, values=values):
            plain: dict[str, JsonValue] = {}
            for key, part in zip(keys, values, strict=True):
                if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
                    raise NotPlain("its keys must be texts")
                plain[key.value] = plain_value(part)
            return plain
        case ast.Tuple() | ast.Set():
            raise NotPlain("a tuple or a set is not plain data; write a list")
        case ast.JoinedStr() | ast.Name() | ast.Call() | ast.BinOp():
            raise NotPlain("it is worked out, and must be plain data: work it out in a step or a functions cell")
    raise NotPlain("it must be a number, a text, True, False, None, a list or a dict of such")


def _type_of(value: JsonValue) -> ParameterType | None:
    if value is None:
        return None
    return _TYPES[type(value).__name__]


def read_metrics(cells: Iterable[tuple[Cell, list[ast.stmt]]], findings: Findings) -> tuple[Metric, ...]:
    """The metrics of the cells tagged pipeline-metrics: what they print, or name."""
    read: list[Metric] = []
    for cell, statements in cells:
        assigned: dict[str, ast.expr] = {}
        for statement in statements:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    assigned[name] = value
                case ast.Expr(value=ast.Constant()) | ast.Pass():
                    continue
                case ast.Expr(value=ast.Call(func=ast.Name(id="print"), args=arguments)):
                    for argument in arguments:
                        read += _metrics_of(cell, argument, assigned, len(read))
                case ast.Expr(value=value):
                    read += _metrics_of(cell, value, assigned, len(read))
                case _:
                    message = "a metric is an expression, or a print of some; this is something else"
                    hint = "work it out in the last step, and print its name here"
                    findings.add("KLC033", place_of(cell, statement), message, hint=hint)
    return tuple(_unique(read))


def _metrics_of(cell: Cell, node: ast.expr, assigned: dict[str, ast.expr], count: int) -> list[Metric]:
    """The numbers in what is printed: texts around them, and how they are formatted, are left out."""
    match node:
        case ast.Constant():
            return []
        case ast.JoinedStr(values=parts):
            inner = [part.value for part in parts if isinstance(part, ast.FormattedValue)]
        case ast.BinOp(left=ast.Constant(value=str()), op=ast.Mod(), right=right):
            inner = right.elts if isinstance(right, ast.Tuple) else [right]
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str()), attr="format"), args=arguments):
            inner = arguments
        case ast.Dict(keys=keys, values=values) if all(isinstance(k, ast.Constant) for k in keys):
            named = zip(keys, values, strict=True)
            return [
                Metric(_word(str(k.value)), ast.unparse(v), place_of(cell, v))
                for k, v in named
                if isinstance(k, ast.Constant)
            ]
        case ast.Tuple(elts=parts):
            inner = parts
        case ast.Name(id=name) if name in assigned:
            return [Metric(name, ast.unparse(assigned[name]), place_of(cell, node))]
        case _:
            return [Metric(_metric_name(node) or f"metric_{count + 1}", ast.unparse(node), place_of(cell, node))]
    return [metric for part in inner for metric in _metrics_of(cell, part, assigned, count)]


def _metric_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_metric_name(value)}_{name}".strip("_")
        case ast.Subscript(value=value, slice=ast.Constant(value=key)):
            return f"{_metric_name(value)}_{_word(str(key))}".strip("_")
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=[]):
            return f"{_metric_name(value)}_{name}".strip("_")
        case ast.Call(func=ast.Name(), args=[first, *_]):
            return _metric_name(first)
    return ""


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_") or "metric"


def _unique(metrics: list[Metric]) -> Iterator[Metric]:
    seen: dict[str, int] = {}
    for metric in metrics:
        seen[metric.name] = seen.get(metric.name, 0) + 1
        suffix = f"_{seen[metric.name]}" if seen[metric.name] > 1 else ""
        yield Metric(metric.name + suffix, metric.expression, metric.place)
