"""Percent-format scripts: Python files whose cells begin with `# %%`, as many editors know them.

    # ---
    # kubeflow_notebook:            the metadata, as YAML or JSON; optional, at the top
    #   pipeline_name: taxi
    # ---

    # %% tags=["step:load"]         a code cell, with its title and tags
    # %% Train tags=["step:train", "prev:load"]
    # %% [markdown]                 prose, which is left out

What stands before the first marker is a cell without tags.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kalec.errors import Damaged, Refused
from kalec.source.cells import Source, SourceCell
from kalec.source.notebook import METADATA_KEY

_MARKER: Final = r"^#[ \t]*%%(?!\w)(.*)$"
_OPTION: Final = r"""\b(\w+)=(\[[^\]]*\]|"[^"]*"|'[^']*'|\S+)"""
_PROSE: Final = r"\[(markdown|md|raw)\]"
_MAGIC_COMMENT: Final = r"^#[ \t]*(?=[%!]{1,2}\w)"


def is_percent_format(text: str) -> bool:
    """Whether some line begins a cell."""
    return any(re.match(_MARKER, line) for line in text.splitlines())


def parse_percent(file: str, text: str) -> Source:
    """The cells of a percent-format script. Raises Damaged (a header that is not YAML, tags that are no list)."""
    lines = text.splitlines()
    metadata, body_start = _header(file, lines)
    return Source(file, tuple(_cells(file, lines, body_start)), metadata, in_notebook=False)


def _header(file: str, lines: list[str]) -> tuple[Mapping[str, Any], int]:
    """The metadata, and the first line after it."""
    first = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith("#!")), 0)
    if not lines or lines[first].rstrip() != "# ---":
        return {}, 0
    end = next((n for n in range(first + 1, len(lines)) if lines[n].rstrip() == "# ---"), None)
    if end is None:
        return {}, 0
    header = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[first + 1 : end])
    parsed = _yaml(file, header)
    own = parsed.get(METADATA_KEY)
    if own is None and isinstance(parsed.get("jupyter"), dict):
        own = parsed["jupyter"].get(METADATA_KEY)
    if own is not None and not isinstance(own, dict):
        raise Damaged(f"the header of {file} has a {METADATA_KEY} that is no mapping")
    return own or {}, end + 1


def _yaml(file: str, header: str) -> Mapping[str, Any]:
    import yaml  # only scripts with a header pay for it

    try:
        parsed = yaml.safe_load(header)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise Damaged(f"the header of {file} is not YAML: {reason}") from None
    return parsed if isinstance(parsed, dict) else {}


def _cells(file: str, lines: list[str], start: int) -> Iterator[SourceCell]:
    markers = [number for number in range(start, len(lines)) if re.match(_MARKER, lines[number])]
    bounds = [(start - 1, markers[0] if markers else len(lines))]
    bounds += [(marker, end) for marker, end in zip(markers, [*markers, len(lines)][1:], strict=True)]
    number = 0
    headings: list[str] = []
    for marker, end in bounds:
        found = re.match(_MARKER, lines[marker]) if marker >= start else None
        own = lines[marker + 1 : end]
        if found is None and not any(line.strip() for line in own):
            continue
        number += 1
        options = found[1] if found else ""
        if re.search(_PROSE, options):
            headings += re.findall(r"^#?\s*#{1,6}\s+(.+)$", "\n".join(own), re.MULTILINE)
            continue
        place = f"{file}:{marker + 1}"
        yield SourceCell(
            number,
            "",
            "\n".join(re.sub(_MAGIC_COMMENT, "", line) for line in own).rstrip(),
            _tags(place, options),
            _cell_metadata(place, options),
            first_line=marker + 2,
            headings=tuple(headings),
        )
        headings = []


def _tags(place: str, options: str) -> tuple[str, ...]:
    value = dict(re.findall(_OPTION, options)).get("tags")
    if value is None:
        return ()
    try:
        tags = json.loads(value.replace("'", '"'))
    except ValueError:
        raise Damaged(f"{place}: the tags of this cell are no list", hint='write tags=["step:train"]') from None
    tags = tags.split(",") if isinstance(tags, str) else tags
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise Refused(f"{place}: the tags of this cell are no list of texts", hint='write tags=["step:train"]')
    return tuple(dict.fromkeys(tag.strip() for tag in tags))


def _cell_metadata(place: str, options: str) -> dict[str, Any]:
    path = dict(re.findall(_OPTION, options)).get("notebook_path")
    return {"notebook_path": path.strip("\"'")} if path else {}
