"""Lock files: which version of each distribution a project has chosen."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from kalec.errors import Damaged, NotFound, Refused

_PIN: Final = r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*===?\s*([^\s;,#*]+)\s*(?:;|\\|--|#|$)"


def normalised(name: str) -> str:
    """The name of a distribution as indexes compare it: small letters, and '-' between words."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> dict[str, str]:
    """Versions by normalised name, from requirements.txt (or any other .txt), uv.lock, poetry.lock or pylock.toml.

    Only exact versions of distributions from an index are taken; markers are not looked at. Raises NotFound, Refused (a file
    of another kind), Damaged (it cannot be read as what its name says).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"there is no lock file {path}") from None
    except (IsADirectoryError, PermissionError) as error:
        raise Refused(f"the lock file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Damaged(f"the lock file {path} is not UTF-8 text") from None
    if path.suffix in (".txt", ".in"):
        return dict(_pins(text, path, frozenset([path])))
    if path.name in ("uv.lock", "poetry.lock") or re.fullmatch(r"pylock(\.[^.]+)?\.toml", path.name):
        return dict(_packages(text, path))
    raise Refused(
        f"{path} is no lock file that kalec reads",
        hint="it reads requirements.txt, uv.lock, poetry.lock and pylock.toml",
    )


def _pins(text: str, path: Path, being_read: frozenset[Path]) -> Iterator[tuple[str, str]]:
    """The `name==version` lines of a requirements file, and of those that it includes with -r."""
    for line in text.replace("\\\n", " ").splitlines():
        included = re.match(r"\s*(?:-r|--requirement)[\s=]+(\S+)", line)
        if included:
            other = path.parent / included[1]
            if other not in being_read:
                try:
                    content = other.read_text(encoding="utf-8-sig")
                except (OSError, UnicodeDecodeError) as error:
                    raise Damaged(f"{path} includes {included[1]}, which cannot be read: {error}") from None
                yield from _pins(content, other, being_read | {other})
        elif pin := re.match(_PIN, line.strip()):
            yield normalised(pin[1]), pin[2]


def _packages(text: str, path: Path) -> Iterator[tuple[str, str]]:
    """The entries of a TOML lock that an index can give back."""
    import tomllib  # here, since most compilations read no lock

    try:
        content: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Damaged(f"the lock file {path} is not TOML: {error}") from None
    packages = content.get("packages" if path.name.startswith("pylock") else "package", [])
    for package in packages if isinstance(packages, list) else []:
        if not isinstance(package, dict):
            continue
        name, version = package.get("name"), package.get("version")
        elsewhere = {"vcs", "directory", "archive"} & package.keys()
        source = package.get("source", {})
        elsewhere |= {"git", "path", "directory", "editable", "virtual", "url"} & (
            source.keys() if isinstance(source, dict) else set()
        )
        if isinstance(source, dict) and source.get("type") in ("git", "directory", "file", "url"):
            elsewhere.add("type")
        if isinstance(name, str) and isinstance(version, str) and not elsewhere:
            yield normalised(name), version
