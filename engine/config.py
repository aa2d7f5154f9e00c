"""The configuration: YAML files, then the environment; what is unknown or of the wrong type is refused with its place.

Every key is a field of the dataclasses below, and is described in man/rok-config.5. Later layers win: the system's file,
the user's file, the environment, and then what the caller adds with `override`.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import NotFound, Refused
from engine.units import parse_size
from engine.values import dataclass

if TYPE_CHECKING:
    import yaml

SYSTEM_FILE: Final = Path("/etc/rokctl/config.yaml")

# Environment variable -> key. ROKCTL_CONFIG, ROKCTL_PASSWORD and ROKCTL_DEBUG have no key in the file.
VARIABLES: Final[Mapping[str, str]] = {
    "ROKCTL_REPOSITORY": "repository.url",
    "ROKCTL_PASSWORD_FILE": "repository.password_file",
    "ROKCTL_KEY_FILE": "repository.key_file",
    "ROKCTL_PASSWORD_COMMAND": "repository.password_command",
    "ROKCTL_NODE": "node",
    "ROKCTL_STATE_DIR": "state_directory",
}

# The same for the repository that another one is copied to. ROKCTL_TO_PASSWORD belongs to these as ROKCTL_PASSWORD to those.
DESTINATION_VARIABLES: Final[Mapping[str, str]] = {
    "ROKCTL_TO_REPOSITORY": "repository.url",
    "ROKCTL_TO_PASSWORD_FILE": "repository.password_file",
    "ROKCTL_TO_KEY_FILE": "repository.key_file",
    "ROKCTL_TO_PASSWORD_COMMAND": "repository.password_command",
}

# They say the same thing in several ways: a layer that sets one of them takes back the others of the layers below.
_ALTERNATIVES: Final = ("repository.password_file", "repository.password_command", "repository.key_file")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value was written, and against which folder its relative paths are meant."""

    key: str
    where: str  # "/etc/rokctl/config.yaml:3", or the variable's name
    folder: Path

    def refuse(self, problem: str, hint: str) -> Refused:
        return Refused(f"{self.key} in {self.where} {problem}", hint=hint)


def _short(value: object) -> str:
    """A value in a message: YAML can say in a few lines what would fill the memory as text."""
    return (
        f"a {type(value).__name__}"
        if isinstance(value, Collection) and not isinstance(value, str)
        else reprlib.repr(value)
    )


def _text(value: object, place: _Place) -> str:
    if not isinstance(value, str):
        raise place.refuse(f"must be text, not {_short(value)}", "put it in quotes")
    if not value:
        raise place.refuse("is empty", "give it a value, or leave the key out")
    try:
        value.encode("utf-8", "surrogateescape")  # which a path of any bytes passes
    except UnicodeEncodeError:
        raise place.refuse("holds half of a character", "write it as UTF-8") from None
    if "\0" in value:
        raise place.refuse("holds a character NUL", "take it out")
    return value


def _path(value: object, place: _Place) -> Path:
    return place.folder / _text(value, place)


def _size(value: object, place: _Place) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise place.refuse(f"must be a size, not {_short(value)}", "write it as 50MiB or 1G")
    try:
        size = value if isinstance(value, int) else parse_size(value)
    except Refused as error:
        raise place.refuse(f"must be a size, not {_short(value)}", error.hint) from None
    if size <= 0:
        raise place.refuse("must be more than 0", "leave the key out for no limit")
    return size


def _whole(low: int, high: int) -> Callable[[object, _Place], int]:
    def read(value: object, place: _Place) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise place.refuse(f"must be a whole number from {low} to {high}, not {_short(value)}", "correct the value")
        return value

    return read


def _labels(value: object, place: _Place) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise place.refuse(
            f"must be a mapping of labels, not {_short(value)}", "write it as `labels: {team: research}`"
        )
    return {_text(key, place): _text(text, place) for key, text in value.items()}


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """Which repository, and where its secret comes from (at most one of the three is set)."""

    url: str | None = field(default=None, metadata={"read": _text})
    password_file: Path | None = field(default=None, metadata={"read": _path})
    password_command: str | None = field(default=None, metadata={"read": _text})
    key_file: Path | None = field(default=None, metadata={"read": _path})


@dataclass(frozen=True, slots=True)
class PushConfig:
    """How versions are pushed; None leaves the choice to the program."""

    bucket: str | None = field(default=None, metadata={"read": _text})
    compression: int | None = field(default=None, metadata={"read": _whole(1, 19)})
    workers: int | None = field(default=None, metadata={"read": _whole(1, 256)})
    uploaders: int | None = field(default=None, metadata={"read": _whole(1, 256)})
    labels: Mapping[str, str] | None = field(default=None, metadata={"read": _labels})


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """Rates in bytes per second; None is no limit."""

    read: int | None = field(default=None, metadata={"read": _size})
    upload: int | None = field(default=None, metadata={"read": _size})


@dataclass(frozen=True, slots=True)
class Config:
    """All that a configuration can say. The `read` of a field turns what YAML gave into its value, or refuses."""

    repository: RepositoryConfig = field(default_factory=RepositoryConfig)
    push: PushConfig = field(default_factory=PushConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    node: str | None = field(default=None, metadata={"read": _text})
    state_directory: Path | None = field(default=None, metadata={"read": _path})


def read_config(environment: Mapping[str, str], file: Path | None = None, *, system_file: Path = SYSTEM_FILE) -> Config:
    """The configuration of the files and the environment.

    `file`, or the one that ROKCTL_CONFIG names, is read instead of the system's and the user's file, and must exist.
    Raises NotFound when it does not; Refused for what cannot be read, is no YAML, or says what no key means.
    """
    named = file or (Path(environment["ROKCTL_CONFIG"]) if environment.get("ROKCTL_CONFIG") else None)
    paths = [named] if named else [path for path in _default_files(environment, system_file) if path.is_file()]
    config = Config()
    for path in paths:
        config = override(config, _read_file(path))
    return override(config, _read_environment(environment, VARIABLES))


def read_destination(environment: Mapping[str, str]) -> RepositoryConfig:
    """The repository to copy to, as far as the environment names it; nothing of the source's is taken for it."""
    return override(Config(), _read_environment(environment, DESTINATION_VARIABLES)).repository


def override(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with these keys set; `values` are by full key, as in `{"repository.url": …}`, and already of the right type."""
    if any(key in values for key in _ALTERNATIVES):
        values = {**dict.fromkeys(_ALTERNATIVES), **values}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        if section:
            value = replace(getattr(config, section), **{name: value})
        config = replace(config, **{section or name: value})
    return config


def known_keys() -> list[str]:
    """Every key, in full, in the order of the manual."""
    return list(_readers())


def _readers() -> dict[str, Callable[[object, _Place], object]]:
    readers = {}
    for entry in fields(Config):
        if "read" in entry.metadata:
            readers[entry.name] = entry.metadata["read"]
            continue
        section = getattr(Config(), entry.name)
        assert is_dataclass(section)
        readers.update({f"{entry.name}.{inner.name}": inner.metadata["read"] for inner in fields(section)})
    return readers


def _default_files(environment: Mapping[str, str], system_file: Path) -> Iterable[Path]:
    yield system_file
    if home := environment.get("XDG_CONFIG_HOME"):
        yield Path(home) / "rokctl" / "config.yaml"
    elif home := environment.get("HOME"):
        yield Path(home) / ".config" / "rokctl" / "config.yaml"


def _read_environment(environment: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, object]:
    readers = _readers()
    values = {
        key: readers[key](environment[variable], _Place(key, variable, Path.cwd()))
        for variable, key in variables.items()
        if environment.get(variable)
    }
    _refuse_several(values, "the environment")
    return values


def _read_file(path: Path) -> dict[str, object]:
    import yaml  # here, because most commands of a node without a configuration file never need it

    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError as error:
        raise NotFound(f"there is no configuration file {path}", hint="name an existing file with --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(
            f"the configuration file {path} cannot be read: {error}", hint="name another with --config"
        ) from error
    except RecursionError:
        raise Refused(f"the configuration file {path} is nested too deep", hint="see rok-config(5)") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or "it is no YAML"
        raise Refused(f"the configuration file {where} is not valid: {problem}", hint="see rok-config(5)") from error
    values = dict(_read_section(root, "", path)) if root else {}
    _refuse_several(values, str(path))
    return values


def _read_section(node: yaml.Node, prefix: str, path: Path) -> Iterable[tuple[str, object]]:
    """The values under one mapping, by full key; its sections too."""
    import yaml

    readers = _readers()
    if not isinstance(node, yaml.MappingNode):
        name = prefix.rstrip(".") or "the file"
        where = f"{path}:{node.start_mark.line + 1}"
        raise Refused(f"{name} in {where} must be a mapping of keys to values", hint="see rok-config(5)")
    seen = set()
    for key_node, value_node in node.value:
        key = prefix + str(key_node.value)
        where = f"{path}:{key_node.start_mark.line + 1}"
        if key in seen:
            raise Refused(f"{key} is set twice, again in {where}", hint="keep one of the two")
        seen.add(key)
        if any(known.startswith(f"{key}.") for known in readers):
            yield from _read_section(value_node, f"{key}.", path)
        elif key in readers:
            yield key, readers[key](_plain(value_node), _Place(key, where, path.parent.absolute()))
        else:
            raise Refused(f"{key} in {where} is unknown", hint=_nearest(key, readers))


def _plain(node: yaml.Node) -> object:
    """The value of a node as YAML's core types, without tags that would build objects."""
    import yaml

    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    except (yaml.constructor.ConstructorError, ValueError, KeyError, AttributeError, RecursionError) as error:
        # The others come of what looks like a date, or says that it is a number, and is none.
        problem = getattr(error, "problem", None) or "it is not of the kind that it looks like"
        hint = "put text in quotes"
        raise Refused(f"a value in line {node.start_mark.line + 1} is not plain YAML: {problem}", hint=hint) from error
    finally:
        loader.dispose()


def _nearest(key: str, readers: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(readers), n=1)
    return f"did you mean {near[0]}?" if near else "the keys are listed in rok-config(5)"


def _refuse_several(values: Mapping[str, object], where: str) -> None:
    named = [key for key in _ALTERNATIVES if key in values]
    if len(named) > 1:
        raise Refused(f"{where} sets both {' and '.join(named)}", hint="keep one of them")
