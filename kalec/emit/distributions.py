"""Which distribution a module comes from, found out from what is installed, without importing anything.

Reads no more metadata than it must: the folders that hold the module, and in them first the distributions that bear its name.
"""

import importlib.machinery
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from kalec.emit.lockfile import normalised

# What follows a module's path in its record: the rest of the path of a package, of a source file, or of a binary, as
# fast.cpython-311-x86_64-linux-gnu.so.
_REST: Final = re.compile(rb"/|\.py,|\.[^/,\n]*(so|pyd),")


class Distribution:
    """An installed distribution; `folder` is its .dist-info."""

    def __init__(self, name: str, version: str, folder: Path) -> None:
        self.name, self.version, self.folder = name, version, folder

    @cached_property
    def record(self) -> bytes:
        """The files that it has installed, a line each, which begins with the path; empty when it keeps no record."""
        try:
            return b"\n" + (self.folder / "RECORD").read_bytes()
        except OSError:
            return b""

    @cached_property
    def top_modules(self) -> frozenset[str]:
        """The modules and packages that it brings, as far as it says so in top_level.txt."""
        try:
            return frozenset((self.folder / "top_level.txt").read_text(encoding="utf-8", errors="replace").split())
        except OSError:
            return frozenset()

    def has(self, module: str) -> bool:
        """Whether it has installed the file or the folder of a dotted module."""
        line = b"\n" + module.replace(".", "/").encode()
        start = self.record.find(line)
        while start >= 0 and not _REST.match(self.record, start + len(line)):
            start = self.record.find(line, start + 1)
        return start >= 0

    @cached_property
    def is_from_index(self) -> bool:
        """Whether an index has it; one from a folder, a URL or a repository can be had nowhere else by name."""
        try:
            origin = json.loads((self.folder / "direct_url.json").read_text(encoding="utf-8"))
        except OSError:
            return True
        except ValueError:
            return False
        return not isinstance(origin, dict) or "url" not in origin


class Installed:
    """The distributions that the folders of a search path hold."""

    def __init__(self, search_path: Sequence[str]) -> None:
        self._search_path = [entry for entry in search_path if entry]
        self._by_folder: dict[Path, dict[str, Distribution]] = {}

    def providers(self, module: str) -> tuple[Distribution, ...]:
        """The distributions that bring a dotted module, sorted by name; none for one that is not installed.

        Of a namespace package that several share, those that have the module itself, as far as that can be told.
        """
        top = module.partition(".")[0]
        found = [found for folder in self._folders_of(top) for found in self._providers_in(folder, top)]
        if len(found) > 1:
            found = _narrowed(found, module)
        return tuple(sorted(found, key=lambda distribution: distribution.name))

    def is_installed(self, module: str) -> bool:
        """Whether the top package of a module can be found at all, as a distribution's or as a plain file."""
        return bool(self._folders_of(module.partition(".")[0]))

    def distribution(self, name: str) -> Distribution | None:
        """The distribution of that name, as an import would find it first."""
        folders = map(self._distributions, map(Path, self._search_path))
        return next((found[normalised(name)] for found in folders if normalised(name) in found), None)

    def _folders_of(self, top: str) -> list[Path]:
        spec = importlib.machinery.PathFinder.find_spec(top, self._search_path)
        if spec is None:
            return []
        if spec.submodule_search_locations is not None:
            return [Path(location).parent for location in spec.submodule_search_locations]
        return [Path(spec.origin).parent] if spec.origin else []

    def _providers_in(self, folder: Path, top: str) -> Iterator[Distribution]:
        distributions = self._distributions(folder)
        namesake = distributions.get(normalised(top))
        if namesake and (top in namesake.top_modules or namesake.has(top)) and (folder / top / "__init__.py").exists():
            yield namesake
            return
        for distribution in distributions.values():
            if top in distribution.top_modules or (not distribution.top_modules and distribution.has(top)):
                yield distribution

    def _distributions(self, folder: Path) -> dict[str, Distribution]:
        if folder not in self._by_folder:
            self._by_folder[folder] = dict(_read_folder(folder))
        return self._by_folder[folder]


def _narrowed(found: list[Distribution], module: str) -> list[Distribution]:
    """Those that have the module itself, or the nearest package around it: its last words may be names in a module."""
    words = module.split(".")
    for length in range(len(words), 1, -1):
        exact = [distribution for distribution in found if distribution.has(".".join(words[:length]))]
        if exact:
            return exact
    return found


def _read_folder(folder: Path) -> Iterator[tuple[str, Distribution]]:
    try:
        entries = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".dist-info"))
    except OSError:
        return
    for entry in entries:
        name, dash, version = entry.removesuffix(".dist-info").partition("-")
        if dash:
            yield normalised(name), Distribution(normalised(name), version, folder / entry)


def is_standard(module: str) -> bool:
    """Whether a module belongs to Python itself."""
    top = module.partition(".")[0]
    return top in sys.stdlib_module_names or top in ("__future__", "__main__")
