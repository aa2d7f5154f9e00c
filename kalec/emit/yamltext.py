"""Plain values as YAML text that YAML 1.1 and 1.2 readers agree on, the same bytes every time.

Mappings keep the order they have. Text of several lines is a literal block, line for line as it is, wherever YAML can hold
it that way; any other text is a plain or a double-quoted scalar. Nothing is folded, tagged or anchored.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

Value: TypeAlias = bool | int | float | str | Mapping[str, "Value"] | Sequence["Value"] | None

# What may stand without quotes: it can start nothing else in YAML, and no reader takes it for a number or a date.
_PLAIN: Final = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+-]*(?:[ =][A-Za-z0-9_./+-]+)*\Z")
_WORDS: Final = frozenset(["null", "true", "false", "yes", "no", "on", "off", "y", "n"])  # other values in YAML 1.1
# What a YAML reader does not let through, or takes for a line's end: controls, surrogates, the mark of byte order.
_UNREADABLE: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff"
_ESCAPED: Final = rf'[\t\n"\\{_UNREADABLE}]'
_NOT_LITERAL: Final = f"[{_UNREADABLE}]"
_SHORT: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def to_yaml(value: Value, *, header: str = "") -> str:
    """A document: `header` as comment lines, then the value, a mapping or a sequence that is not empty.

    Raises ValueError for what YAML readers do not agree on: a number that is not finite, half of a surrogate pair.
    """
    comments = [f"# {line}".rstrip() for line in _printable(header).splitlines()]
    return "\n".join([*comments, *_lines(value, "")]) + "\n"


def is_plain(text: str) -> bool:
    """Whether a text is printable ASCII, tabs and ends of lines: most are, and can be spared the large patterns."""
    return text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()


def _lines(value: Value, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from _member(f"{indent}{_scalar(key)}:", member, indent + "  ", indent)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for member in value:
            if isinstance(member, Mapping) and member:
                first, *rest = _lines(member, indent + "  ")
                yield f"{indent}- {first[len(indent) + 2 :]}"
                yield from rest
            else:
                yield from _member(f"{indent}-", member, indent + "  ", indent + "  ")


def _member(start: str, value: Value, indent: str, sequence_indent: str) -> Iterator[str]:
    """What follows `start`, the key or the dash: on its line, or in the lines below it."""
    if isinstance(value, str) and _is_literal(value):
        yield from _literal(start, value, indent)
    elif isinstance(value, Mapping) and value:
        yield start
        yield from _lines(value, indent)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        yield start
        yield from _lines(value, sequence_indent)
    else:
        yield f"{start} {_scalar(value)}"


def _is_literal(text: str) -> bool:
    return "\n" in text.rstrip("\n") and (is_plain(text) or not re.search(_NOT_LITERAL, text))


def _literal(start: str, text: str, indent: str) -> Iterator[str]:
    """A literal block. Its indentation is stated where the first line with text would mislead a reader about it."""
    body = text.rstrip("\n")
    ending = len(text) - len(body)
    hint = "2" if re.match(r"\n*[ \t\n]", text) else ""
    yield f"{start} |{hint}{'-' if not ending else '' if ending == 1 else '+'}"
    lines = [indent + line if line else "" for line in body.split("\n")]
    yield "\n".join(lines) + "\n" * (ending - 1)  # in one piece: programs are long


def _scalar(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        plain = _PLAIN.match(value) and value.lower() not in _WORDS
        return value if plain else f'"{_escaped(value)}"'
    return "{}" if isinstance(value, Mapping) else "[]"


def _float(value: float) -> str:
    """The shortest digits, with a point: YAML 1.1 takes 1e-05 for text."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a number that YAML readers agree on")
    digits, exponent, power = repr(value).partition("e")
    return (digits if "." in digits else f"{digits}.0") + exponent + power


def _escaped(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return re.sub(_ESCAPED, _escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if 0xD800 <= code <= 0xDFFF:
        raise ValueError("the text holds half of a surrogate pair")
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _printable(text: str) -> str:
    return text if is_plain(text) else re.sub(_NOT_LITERAL, "?", text)
