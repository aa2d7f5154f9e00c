"""Notebooks of format 4, read with the standard library alone, and without their outputs.

Outputs can be a thousand times the code. So they are cut out of the bytes before anything is parsed: a notebook of 100 MB
costs its bytes and little more, whatever its outputs are made of.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kalec.errors import Damaged, Refused
from kalec.source.cells import Source, SourceCell

METADATA_KEY: Final = "kubeflow_notebook"
_BULKY: Final = (b'"outputs"', b'"attachments"')
_CELL_DEPTH: Final = 3  # of the keys of a cell: notebook { cells [ cell {

# A string, a bracket, or a comma or colon; atomic, so that no position is kept for going back.
_TOKEN: Final = re.compile(rb'"(?>[^"\\]+|\\.)*+"|[\[\]{}:,]', re.DOTALL)
_TO_BRACKET: Final = re.compile(rb'(?>[^"\[\]{}]+|"(?>[^"\\]+|\\.)*+")*+', re.DOTALL)


def parse_notebook(file: str, content: bytes) -> Source:
    """The code cells of a notebook. `file` is its name, for messages.

    Raises Damaged (not UTF-8, not JSON, not a notebook), Refused (another format or language).
    """
    notebook = parse_json(file, without_outputs(content))
    if not isinstance(notebook, dict):
        raise Damaged(
            f"{file} is not a notebook: it is JSON, but no object", hint="open it in Jupyter and save it again"
        )
    _require_format(file, notebook)
    metadata = _object(file, notebook, "metadata", "the notebook")
    _require_python(file, metadata)
    cells = notebook.get("cells")
    if not isinstance(cells, list):
        raise Damaged(f"{file} is not a notebook: it has no list of cells", hint="open it in Jupyter and save it again")
    return Source(file, tuple(_code_cells(file, cells)), _object(file, metadata, METADATA_KEY, "the metadata"), True)


def parse_json(file: str, content: bytes) -> Any:
    """JSON in UTF-8, with or without a byte order mark. Raises Damaged."""
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Damaged(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise Damaged(f"{file} is not a notebook: it is nested too deeply") from None
    except ValueError as error:
        raise Damaged(f"{file} is not JSON: {error}", hint="open it in Jupyter and save it again") from None


def without_outputs(content: bytes) -> bytes:
    """The notebook with its outputs and attachments empty. What is not JSON comes back in some form that is not JSON."""
    kept = []
    position = 0
    for _, key, start, end in _members(content):
        if key in _BULKY:
            kept += [content[position:start], b"null"]
            position = end
    kept.append(content[position:])
    return b"".join(kept)


def with_tags(content: bytes, tags: Mapping[int, Sequence[str]]) -> list[memoryview]:
    """The notebook, in pieces, with tags added to cells, by their numbers; every other byte of it is as it was.

    `content` is a notebook that `parse_notebook` takes. Raises Refused for a cell without a place to put them.
    """
    places = {number: (start, end) for number, key, start, end in _members(content) if key == b'"metadata"'}
    whole, pieces, position = memoryview(content), list[memoryview](), 0
    for number in sorted(number for number in tags if tags[number]):
        if number not in places:
            raise Refused(
                f"cell {number} has no metadata to hold its tags", hint="open it in Jupyter and save it again"
            )
        start, end = places[number]
        metadata = json.loads(content[start:end])
        metadata["tags"] = [*metadata.get("tags", []), *tags[number]]
        pieces += [whole[position:start], memoryview(_laid_out(metadata, content, start, end))]
        position = end
    return [*pieces, whole[position:]]


def _laid_out(metadata: Mapping[str, Any], content: bytes, start: int, end: int) -> bytes:
    """An object as JSON that is indented like the one that it replaces."""
    before = content.rfind(b"\n", 0, start) + 1
    margin = re.match(rb'( +)"', content[before:start])
    indent = len(margin[1]) // _CELL_DEPTH if margin else None
    text = json.dumps(metadata, indent=indent, ensure_ascii=content[start:end].isascii())
    text = re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)  # UTF-8 has no halves of a pair
    return text.replace("\n", "\n" + (margin[1].decode() if margin else "")).encode()


def _members(content: bytes) -> Iterator[tuple[int, bytes, int, int]]:
    """The lists and objects in cells: the number of the cell, the key, and where the value stands."""
    depth, position, number, key, is_key, in_cells = 0, 0, 0, b"", False, False
    while token := _TOKEN.search(content, position):
        text, position = token[0], token.end()
        if text == b":":
            is_key = True
            continue
        if text in b"[{":
            if depth == _CELL_DEPTH:
                end = _end_of_value(content, token.start())
                if is_key and in_cells:
                    yield number, key, token.start(), end
                position = end
            else:
                if depth == 1:
                    in_cells, number = is_key and key == b'"cells"', 0
                number += depth == _CELL_DEPTH - 1
                depth += 1
        elif text in b"]}":
            depth -= 1
        elif text != b"," and not is_key:
            key = text if len(text) < 20 else b""
        is_key = False


def _end_of_value(content: bytes, start: int) -> int:
    """Where the list or object that begins at `start` ends."""
    depth, position = 0, start
    while position < len(content):
        depth += 1 if content[position] in b"[{" else -1
        position += 1
        if depth == 0:
            return position
        found = _TO_BRACKET.match(content, position)
        position = found.end() if found else position
        if position < len(content) and content[position] == ord('"'):
            break  # a string without an end
    return len(content)


def _require_format(file: str, notebook: Mapping[str, Any]) -> None:
    version = notebook.get("nbformat")
    if "cells" not in notebook and "worksheets" not in notebook and version is None:
        raise Damaged(f"{file} is not a notebook: it has neither cells nor a format number")
    if version != 4 or isinstance(version, bool):
        raise Refused(
            f"{file} is a notebook of format {version!r}, and kalec reads format 4",
            hint="open it in Jupyter and save it again, or run `jupyter nbconvert --to notebook`",
        )


def _require_python(file: str, metadata: Mapping[str, Any]) -> None:
    language = ""
    for key, field in (("language_info", "name"), ("kernelspec", "language")):
        part = metadata.get(key)
        if not language and isinstance(part, dict) and isinstance(part.get(field), str):
            language = part[field]
    if language and language.lower() not in ("python", "ipython", "python3"):
        raise Refused(f"{file} is a notebook in {language}, and kalec compiles Python")


def _code_cells(file: str, cells: list[Any]) -> Iterator[SourceCell]:
    headings: list[str] = []
    for number, cell in enumerate(cells, 1):
        where = f"cell {number}"
        if not isinstance(cell, dict) or not isinstance(cell.get("cell_type"), str):
            raise Damaged(f"{file} is not a notebook: {where} has no type")
        source = _text(file, cell.get("source", ""), where)
        if cell["cell_type"] == "markdown":
            headings += re.findall(r"^#{1,6}\s+(.+?)\s*#*$", source, re.MULTILINE)
        if cell["cell_type"] == "code":
            metadata = _object(file, cell, "metadata", where)
            cell_id = cell.get("id", "")
            yield SourceCell(
                number,
                cell_id if isinstance(cell_id, str) else "",
                source,
                _tags(file, metadata, where),
                metadata,
                headings=tuple(headings),
            )
            headings = []


def _text(file: str, value: Any, where: str) -> str:
    """A source is one text, or a list of lines."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    if not isinstance(value, str):
        raise Damaged(f"{file} is not a notebook: the source of {where} is no text")
    return value.replace("\r\n", "\n").replace("\r", "\n")


def _tags(file: str, metadata: Mapping[str, Any], where: str) -> tuple[str, ...]:
    tags = metadata.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise Damaged(f"{file} is not a notebook: the tags of {where} are no list of texts")
    return tuple(dict.fromkeys(tags))


def _object(file: str, parent: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Damaged(f"{file} is not a notebook: {key} of {where} is no object")
    return value
