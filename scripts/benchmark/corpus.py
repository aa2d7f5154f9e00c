"""The corpus of the comparison: images of workspaces, made once and kept in a folder of the user's cache."""

import argparse
import hashlib
import json
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from benchmark.filesystem import require_programs, search_path
from benchmark.measure import MIB, in_another_process, require_space
from benchmark.workspaces import make_workspaces

NEEDED: Final = 11_500 * MIB  # the images 7.7 GiB, the wheels 0.5, what is unpacked meanwhile 2.9
STAMP: Final = "corpus.json"
HERE: Final = Path(__file__).parent
RECIPE: Final = ("workspaces.py", "filesystem.py", "generated.py", "packages/*.txt")


@dataclass(frozen=True, slots=True)
class Image:
    """An image file, and the SHA-256 of its content."""

    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """The images that are compared on."""

    first: Image
    day_later: Image
    second: Image
    first_xfs: Image | None  # none where one's own images are compared on


IMAGES: Final = tuple(field.name for field in fields(Corpus))


def main(words: Sequence[str]) -> int:
    """Make the corpus, or find it, and say where it is."""
    parser = argparse.ArgumentParser(prog="scripts/bench corpus", description="Make the images that are compared on")
    parser.add_argument(
        "--corpus", type=Path, default=default_folder(), help="where they are kept (default %(default)s)"
    )
    options = parser.parse_args(words)
    require_corpus(options.corpus)
    corpus(options.corpus)
    print(*(image_path(options.corpus, name) for name in IMAGES), sep="\n")
    return 0


def default_folder() -> Path:
    """In the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rokctl-bench"


def require_corpus(folder: Path, beside: int = 0) -> None:
    """Leaves when the corpus is neither there nor can be made here, a program or the space for it being missing; or when the
    temporary folder has not the space that is needed beside it.
    """
    place = next(above for above in (folder.absolute(), *folder.absolute().parents) if above.is_dir())
    temporary = Path(tempfile.gettempdir())
    missing = NEEDED if read_corpus(folder) is None else 0
    if missing:
        require_programs()
    if missing and place.stat().st_dev == temporary.stat().st_dev:
        require_space(missing + beside, place, "--corpus FOLDER or TMPDIR can name another place")
    else:
        require_space(missing, place, "--corpus FOLDER can name another place")
        require_space(beside, temporary)


def corpus(folder: Path) -> Corpus:
    """The corpus in a folder, made when it is not there or was made by another recipe."""
    found = read_corpus(folder)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        stamp = folder / STAMP
        stamp.unlink(missing_ok=True)
        images = {name: image_path(folder, name) for name in IMAGES}
        in_another_process(
            lambda: make_workspaces(images, folder / "wheels", folder / "making"), "the corpus could not be made"
        )
        record = {"recipe": recipe(), "digests": {name: digest(image_path(folder, name)) for name in IMAGES}}
        stamp.write_text(json.dumps(record, indent=2) + "\n")
        found = read_corpus(folder)
        assert found is not None
    return found


def read_corpus(folder: Path) -> Corpus | None:
    """What stands in the folder, if this recipe made it."""
    try:
        record = json.loads((folder / STAMP).read_text())
    except FileNotFoundError:
        return None
    if record["recipe"] != recipe() or not all(image_path(folder, name).exists() for name in IMAGES):
        return None
    return Corpus(*(Image(image_path(folder, name), record["digests"][name]) for name in IMAGES))


def image_path(folder: Path, name: str) -> Path:
    """Where an image is kept."""
    return folder / f"{name}.image"


def recipe() -> str:
    """A digest of all that decides about the bytes of the corpus."""
    summed = hashlib.sha256()
    for pattern in RECIPE:
        for source in sorted(HERE.glob(pattern)):
            summed.update(source.read_bytes())
    environment = {**os.environ, "PATH": search_path()}
    for command in (["mke2fs", "-V"], ["mkfs.xfs", "-V"]):
        try:
            version = subprocess.run(command, env=environment, capture_output=True)
        except FileNotFoundError:  # then it cannot be made here either, but was perhaps made before
            continue
        summed.update(version.stdout + version.stderr)
    summed.update(sqlite3.sqlite_version.encode())
    return summed.hexdigest()


def digest(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
