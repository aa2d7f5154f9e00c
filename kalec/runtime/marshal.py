"""Variables to a directory of files, and back in another process: `save` and `load`.

The directory holds `manifest.json`, written last, and one or more files for each *group*: the variables that share an
object (two names of one list, a model and the frame that it holds) are one group, so that they share it again when they are
loaded. Most groups are one variable. The manifest says of each group what it is kept as, and the SHA-256 of each file:

    {"format": 1,
     "values": {"x": {"group": "x", "summary": "list of 3"}, "y": {"unbound": true}},
     "groups": {"x": {"kind": "json", "names": ["x"], "file": "1-x.json", "files": {"1-x.json": "9f86d0…"},
                      "hash": "…", "bytes": 9, "note": ""}}}

`kind` is `json` (plain data, and files in formats without pickle for what stands in it), `pickle` or `cloudpickle`; the note
of the last two says what made it so. The hash is of the content alone: equal for values that are stored alike.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from kalec.runtime.failure import CannotMarshal, DamagedValue, StepError, summary
from kalec.runtime.formats import FORMATS, Inexact, format_of, inline, inline_array, read_inline
from kalec.runtime.pickles import Pickler, Unpicklable, Unpickler, cloud_pickler, culprit
from kalec.runtime.plain import NotPlain, Survey, decode, encode

FORMAT = 1
MANIFEST = "manifest.json"
FEW_FILES = 16  # of a group: as many values in files that others can read; after that, small arrays stand in the JSON
MOST_FILES = 1000

ADVICE = {
    "io": "open the file in the step that uses it, and hand on its path",
    "generator": "hand on a list of its items, or make it in the step that uses it",
    "coroutine": "await it in this step, and hand on the result",
    "lock": "make it in the step that uses it",
    "Connection": "connect in the step that uses it, and hand on the address",
    "socket": "connect in the step that uses it, and hand on the address",
    "type": "define the class at the top of a `functions` cell",
}
OTHER_ADVICE = (
    "make it in the step that uses it, or tell Python how to pickle it (copyreg.pickle, or __reduce__ in its class)"
)


def save(values: Mapping[str, Any], directory: str | Path, unbound: Iterable[str] = ()) -> dict[str, Any]:
    """Write the variables into the directory, which is made if need be, and return its manifest.

    The names in `unbound` are recorded as having no value. Nothing is saved when something cannot be: raises CannotMarshal,
    which names the variable, the type and where in the variable it is.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    groups = {
        names[0]: _save_group({name: values[name] for name in names}, folder, _stem(number, names[0]), windows)
        for number, (names, windows) in enumerate(_groups(values), 1)
    }
    manifest = {
        "format": FORMAT,
        "values": {
            **{name: {"unbound": True} for name in unbound},
            **{
                n: {"group": first, "summary": summary(values[n])}
                for first, group in groups.items()
                for n in group["names"]
            },
        },
        "groups": groups,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="ascii")
    return manifest


def load(directory: str | Path, names: Iterable[str]) -> dict[str, Any]:
    """The variables of these names. One that was saved as unbound is left out.

    Raises DamagedValue for a value that is not there or is not what was saved, StepError for one that this step cannot hold.
    """
    with Stored(directory) as stored:
        return {name: stored.value(name) for name in names if stored.is_bound(name)}


class Stored:
    """The variables in a directory; those that share objects share them however they are loaded, one by one or together."""

    def __init__(self, directory: str | Path) -> None:
        """Raises DamagedValue when no whole manifest is there."""
        self.folder = Path(directory)
        self.manifest = read_manifest(self.folder)
        self._loaded: dict[str, dict[str, Any]] = {}
        self._streams: dict[str, tuple[IO[bytes], Unpickler]] = {}

    def __enter__(self) -> Stored:
        return self

    def __exit__(self, *_: object) -> None:
        for file, _stream in self._streams.values():
            file.close()

    def is_bound(self, name: str) -> bool:
        """Whether the variable had a value. Raises DamagedValue when it was not saved at all."""
        if name not in self.manifest["values"]:
            raise DamagedValue(f"{self.folder}: there is no value {name!r}; run the step that makes it again")
        return "group" in self.manifest["values"][name]

    def value(self, name: str) -> Any:
        """The value of a variable that is bound."""
        first = self.manifest["values"][name]["group"]
        group = self.manifest["groups"][first]
        loaded = self._loaded.setdefault(first, {})
        if name not in loaded:
            try:
                self._load(first, group, loaded, name)
            except DamagedValue:
                raise
            except StepError as error:
                raise StepError(f"variable {name!r} cannot be loaded: {error}") from error
        return loaded[name]

    def _load(self, first: str, group: dict[str, Any], loaded: dict[str, Any], name: str) -> None:
        if first not in self._streams:
            for path, digest in group["files"].items():
                _verify(self.folder / path, digest, name)
        if group["kind"] == "json":
            leaves = FileLeaves(self.folder, "")
            shared: dict[int, Any] = {}
            document = json.loads((self.folder / group["file"]).read_text(encoding="ascii"))
            loaded.update({key: decode(document[key], shared, leaves) for key in group["names"]})
            return
        # One stream holds the variables one after another, the contained before what contains them: what comes after the
        # one that is asked for may need classes that this step does not define, and is not loaded.
        if first not in self._streams:
            file = (self.folder / group["file"]).open("rb")
            self._streams[first] = file, Unpickler(file)
        while name not in loaded:
            loaded[group["names"][len(loaded)]] = self._streams[first][1].load()


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of a directory that `save` wrote. Raises DamagedValue."""
    path = Path(directory) / MANIFEST
    try:
        manifest: Any = json.loads(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise DamagedValue(f"{path} cannot be read: {error}; run the step that makes it again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DamagedValue(f"{path} is not a manifest of format {FORMAT}; run the step that makes it again")
    return dict(manifest)


class FileLeaves:
    """Library values inside plain data: small ones in the JSON, the others in files beside it."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder, self._stem = folder, stem
        self.files: list[str] = []

    def fits(self, value: Any) -> bool:
        """Whether a format without pickle keeps this value."""
        return inline(value) is not None or format_of(value) is not None

    def write(self, value: Any) -> dict[str, Any]:
        """Keep it, in a file of its own where it is not small. Raises NotPlain when there would be too many files."""
        small = inline(value)
        if small is None and len(self.files) >= FEW_FILES:
            small = inline_array(value)
        if small is not None:
            return small
        if len(self.files) >= MOST_FILES:
            raise NotPlain(f"it holds more than {MOST_FILES} arrays or frames, and one file is better than as many")
        name = format_of(value)
        assert name is not None, "a survey has asked `fits`"
        file = f"{self._stem}.{len(self.files) + 1}{FORMATS[name].suffix}"
        self.files.append(file)
        return {"$file": file, "format": name, **FORMATS[name].write(value, self._folder / file)}

    def read(self, node: dict[str, Any]) -> Any:
        """The value again."""
        if "$file" not in node:
            return read_inline(node)
        return FORMATS[node["format"]].read(self._folder / node["$file"], node)


class Parts(NamedTuple):
    """What can be noticed to be the same object in two variables."""

    ids: list[int]
    windows: Counter[int]  # by the id of an array that owns memory: how many arrays of the variable lie in it
    alive: Any  # keeps the ids from being given to other objects


def _groups(values: Mapping[str, Any]) -> list[tuple[list[str], Collection[int]]]:
    """The names of the variables that share objects, together, in the order that they are stored in.

    With each group go the ids of the arrays in whose memory several others lie.
    """
    parts = {name: _parts(name, values[name]) for name in sorted(values)}
    first_with: dict[int, str] = {}
    group: dict[str, list[str]] = {name: [name] for name in parts}
    for name in parts:
        for part in parts[name].ids:
            one, other = group[first_with.setdefault(part, name)], group[name]
            if one is not other:
                one += other
                group.update(dict.fromkeys(other, one))
    found: list[tuple[list[str], Collection[int]]] = []
    for names in {id(names): names for names in group.values()}.values():
        windows = sum((parts[name].windows for name in names), Counter[int]())
        # What is contained comes before what contains it: it has fewer parts.
        ordered = sorted(names, key=lambda name: (len(parts[name].ids), name))
        found.append((ordered, {part for part, count in windows.items() if count > 1}))
    return found


def _parts(name: str, value: Any) -> Parts:
    survey = Survey(FileLeaves(Path(), ""))
    try:
        survey.walk(value)
        return Parts(list(survey.visits), Counter(survey.visits), value)
    except (NotPlain, RecursionError):
        pickler = _pickle({name: value}, _Discard())
        return Parts(list(pickler.parts), pickler.windows, pickler.parts)


class _Discard:
    """A file that keeps nothing."""

    def write(self, content: Any) -> int:
        return len(content)

    def seek(self, position: int) -> None:
        return None

    def truncate(self) -> None:
        return None


def _save_group(values: dict[str, Any], folder: Path, stem: str, windows: Collection[int]) -> dict[str, Any]:
    try:
        kind, files, note = "json", _save_plain(values, folder, stem), ""
    except (NotPlain, Inexact, ValueError, RecursionError) as reason:
        for leaf in folder.glob(f"{stem}.*"):
            leaf.unlink()
        file = f"{stem}.pickle"
        with (folder / file).open("wb") as stream:
            kind = "pickle" if isinstance(_pickle(values, stream, windows), Pickler) else "cloudpickle"
        files = [file]
        note = f"{reason}: pickled, so load it only where you trust who ran the step"
    digests = {file: _digest(folder / file) for file in files}
    return {
        "kind": kind,
        "names": list(values),
        "file": files[0],
        "files": digests,
        "hash": hashlib.sha256("\n".join([kind, *digests.values()]).encode()).hexdigest(),
        "bytes": sum((folder / file).stat().st_size for file in files),
        "note": note,
    }


def _save_plain(values: dict[str, Any], folder: Path, stem: str) -> list[str]:
    leaves = FileLeaves(folder, stem)
    survey = Survey(leaves)
    for value in values.values():
        survey.walk(value)
    numbers: dict[int, int] = {}
    document = {name: encode(value, survey.visits, numbers, leaves) for name, value in values.items()}
    (folder / f"{stem}.json").write_text(json.dumps(document, allow_nan=False) + "\n", encoding="ascii")
    return [f"{stem}.json", *leaves.files]


def _pickle(values: Mapping[str, Any], stream: Any, windows: Collection[int] = ()) -> Any:
    """Pickle the variables one after another, and return the pickler. Raises CannotMarshal."""
    try:
        return _pickle_with(Pickler, values, stream, windows)
    except Unpicklable as failed:
        cloud = cloud_pickler() if isinstance(failed.value, type) else None  # it is for classes that no name leads to
        error = failed
        if cloud is not None:
            stream.seek(0)
            stream.truncate()
            try:
                return _pickle_with(cloud, values, stream, windows)
            except Unpicklable as again:
                error = again
        raise _cannot(values, error) from error


def _pickle_with(kind: Any, values: Mapping[str, Any], stream: Any, windows: Collection[int]) -> Any:
    pickler = kind(stream, windows, protocol=5)
    for value in values.values():
        with culprit(pickler):
            pickler.dump(value)
    return pickler


def _cannot(values: Mapping[str, Any], error: Unpicklable) -> CannotMarshal:
    kind = type(error.value)
    type_name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    names = [kind.__module__.strip("_"), kind.__qualname__.rpartition(".")[2]]
    advice = next(
        (text for key, text in ADVICE.items() if any(key == name or name.endswith(key) for name in names)), OTHER_ADVICE
    )
    for name, value in values.items():
        path = _path_to(error.value, value, name)
        if path is not None:
            where = f"variable {name!r}" if path == name else f"variable {name!r} (in {path})"
            return CannotMarshal(
                f"{where} holds a {type_name}, which no other step can be given: {error.reason}; {advice}"
            )
    listed = ", ".join(repr(name) for name in values)
    return CannotMarshal(
        f"variable {listed} holds a {type_name}, which no other step can be given: {error.reason}; {advice}"
    )


def _path_to(target: Any, root: Any, name: str) -> str | None:
    """How `target` is reached from the variable, as a Python expression; the shortest way, and None if there is none."""
    seen = {id(root)}
    waiting = [(name, root)]
    for path, value in waiting:  # grows while it is gone through
        if value is target:
            return path
        if len(path) > 500:  # nobody reads on, and the paths into a deep value would fill the memory
            continue
        children: list[tuple[str, Any]] = []
        if isinstance(value, dict):
            children = [(f"{path}[{key!r}]", child) for key, child in dict.items(value)]
        elif isinstance(value, (list, tuple)):
            children = [(f"{path}[{position}]", child) for position, child in enumerate(value)]
        state = getattr(value, "__dict__", None)
        if isinstance(state, dict) and not isinstance(value, type):
            children += [(f"{path}.{key}", child) for key, child in state.items()]
        for child_path, child in children:
            if id(child) not in seen and len(seen) < 100_000:
                seen.add(id(child))
                waiting.append((child_path, child))
    return None


def _stem(number: int, name: str) -> str:
    """How the files of a group begin. The number keeps `x` and `X` apart where a filesystem takes them for one."""
    return f"{number}-{name}" if name.isascii() and len(name) <= 100 else str(number)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while content := file.read(1 << 20):
            digest.update(content)
    return digest.hexdigest()


def _verify(path: Path, digest: str, name: str) -> None:
    try:
        found = _digest(path)
    except OSError as error:
        raise DamagedValue(
            f"variable {name!r}: {path} cannot be read: {error}; run the step that makes it again"
        ) from error
    if found != digest:
        raise DamagedValue(
            f"variable {name!r}: {path} is damaged: its SHA-256 is not the manifest's; run the step that makes it again"
        )
