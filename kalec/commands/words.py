"""From the words of the command line to values, without pydantic: typer would import it for that, and it takes half the start.

It holds for the types that the options of kalec and rokctl have: text, paths, whole numbers, enumerations, what a function of
their own parses, lists of them. A parameter of any other type, or with checks of typer's own, is left to typer; so is
everything, should a later typer ask its parameters otherwise.
"""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin

import typer

_TYPER_CHECKS = ("exists", "resolve_path", "writable", "path_type", "clamp")


def read_plainly(command: Any) -> None:
    """Let the parameters of a command, and of the commands below it, be read here."""
    for below in filter(None, getattr(command, "commands", {}).values()):
        read_plainly(below)
    for parameter in command.get_params(typer.Context(command)):  # --help too
        descriptor = getattr(parameter, "type_descriptor", None)
        if descriptor is None or not hasattr(parameter, "get_runtime_param"):
            continue
        asked = descriptor.parameter_info
        read = _reader(descriptor.annotation, asked)
        if read and not any(getattr(asked, check, None) for check in _TYPER_CHECKS):
            plain = _PlainParameter(read)
            parameter.get_runtime_param = lambda plain=plain: plain


class _PlainParameter(NamedTuple):
    """What typer asks for the value of a parameter: `read` makes it, and raises ValueError with what a person should know."""

    read: Callable[[Any], Any]

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value, from words or from a default; None and () stand for no words."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        try:
            return self.read(value)
        except ValueError as error:
            raise typer.BadParameter(str(error), ctx=ctx, param=param) from None


def _reader(annotation: Any, asked: Any) -> Callable[[Any], Any] | None:
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        return _reader(members[0], asked) if len(members) == 1 else None
    if get_origin(annotation) is list:
        read = _reader(get_args(annotation)[0], asked)
        return (lambda words: [read(word) for word in words]) if read else None
    if asked.parser is not None:
        parse: Callable[[Any], Any] = asked.parser
        return parse
    if annotation in (str, Path):
        kind: type = annotation
        return lambda word: kind(word)
    if annotation is bool:
        return _flag
    if annotation is int:
        return lambda word: _whole(word, asked.min, asked.max)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return lambda word: _member(word, annotation)
    return None


def _flag(word: Any) -> bool:
    if not isinstance(word, bool):
        raise ValueError(f"{word!r} is no truth value")
    return word


def _whole(word: Any, least: float | None, most: float | None) -> int:
    try:
        number = int(word)
    except ValueError:
        raise ValueError(f"{word!r} is no whole number") from None
    if least is not None and number < least:
        raise ValueError(f"{number} is less than {least:g}")
    if most is not None and number > most:
        raise ValueError(f"{number} is more than {most:g}")
    return number


def _member(word: Any, choices: type[Enum]) -> Enum:
    for choice in choices:
        if word is choice or word == choice.value:
            return choice
    raise ValueError(f"{word!r} is not one of {', '.join(str(choice.value) for choice in choices)}")
