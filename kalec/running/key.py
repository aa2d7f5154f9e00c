"""When a step need not run again: its code, what it takes in, its parameters and its environment are as they were.

Local modules that the code imports belong to the code. Files that the code names in a text constant are looked at when the
step has ended, and again before its result is used: a changed data file makes the step run again. What a step reads by any
other way (an address, a path that it puts together) is not seen.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kalec.model import Cell, JsonValue, Step
from kalec.runtime import describe, source_text

LARGE_FILE: Final = 1 << 28  # of larger files the size and the time of change stand for the content


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python that runs the steps, and all it has installed."""

    executable: str
    version: str
    path: tuple[str, ...]

    def environment(self) -> list[str]:
        """The installed distributions, as the names of their metadata folders: name and version."""
        found: set[str] = set()
        for entry in self.path:
            folder = Path(entry)
            if folder.is_dir():
                found.update(path.name for path in folder.glob("*.dist-info"))
        return sorted(found)


def key_of(
    step: Step,
    hashes: Mapping[str, str],
    parameters: Mapping[str, JsonValue],
    environment: Mapping[str, JsonValue],
    modules: Mapping[str, str],
) -> str:
    """The key of what a step leaves. `hashes` has the content of each variable that it takes in."""
    told = describe(step)
    for cell in (*told["opening"], *told["cells"]):
        cell.pop("label", None)  # a cell that moves does not change what the step does
        cell.pop("line", None)
    for read in step.reads:
        next(part for part in told["opening"] if part.get("read") == read.name)["hash"] = hashes[read.name]
    whole = {
        "runtime": hashlib.sha256(source_text().encode()).hexdigest(),
        "step": told,
        "parameters": {name: parameters[name] for name in step.parameters},
        "settings": dict(step.settings.environment),
        "environment": environment,
        "modules": modules,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:40]


def value_hashes(step: Step, manifests: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """The content of each variable that a step takes in, from the manifests of the steps that made them."""
    found: dict[str, str] = {}
    for read in step.reads:
        manifest = manifests[read.step]
        value = manifest["values"].get(read.name, {})
        group = manifest["groups"].get(value.get("group"))
        # Which variables share objects belongs to the content: a change through one is seen through the other.
        found[read.name] = f"{group['hash']} {group['names']}" if group else "unbound"
    return found


def local_modules(step: Step, folder: Path) -> dict[str, str]:
    """The modules beside the notebook that a step's code imports, through each other too, with their content."""
    found: dict[str, str] = {}
    waiting = [name.partition(".")[0] for name in (*step.imports, *step.value_imports)]
    while waiting:
        name = waiting.pop()
        for path in _files_of(folder, name):
            label = path.relative_to(folder).as_posix()
            if label not in found:
                content = path.read_bytes()
                found[label] = hashlib.sha256(content).hexdigest()
                waiting += _imported(content)
    return found


def named_files(step: Step, folder: Path, paths: Mapping[str, str]) -> dict[str, str]:
    """The files that text constants of a step's code name, with their content. Relative ones are beside the notebook."""
    found: dict[str, str] = {}
    cells = [*step.cells, *(part for part in step.opening if isinstance(part, Cell))]
    for text in sorted(_texts(cell.source for cell in cells)):
        mount = next((mount for mount in paths if text.startswith(mount.rstrip("/") + "/")), None)
        path = Path(paths[mount] + text[len(mount.rstrip("/")) :]) if mount else folder / text
        stamp = file_stamp(path)
        if stamp:
            found[str(path)] = stamp
    return found


def file_stamp(path: Path) -> str:
    """What tells that a file is as it was; "" where there is none."""
    try:
        if not path.is_file():
            return ""
        status = path.stat()
        if status.st_size > LARGE_FILE:
            return f"{status.st_size} {status.st_mtime_ns}"
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):  # a text that is no path, a file that may not be read
        return ""


def _texts(sources: Iterable[str]) -> set[str]:
    return {
        node.value
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 1000
    }


def _files_of(folder: Path, module: str) -> list[Path]:
    single = folder / f"{module}.py"
    if single.is_file():
        return [single]
    package = folder / module
    return sorted(package.rglob("*.py")) if module.isidentifier() and package.is_dir() else []


def _imported(content: bytes) -> list[str]:
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return []
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return [name.partition(".")[0] for name in names]
