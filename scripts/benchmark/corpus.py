"""The corpus of the comparison: images of workspaces, made once and kept in a folder of the user's cache.

Real Python packages of the package index, pinned by their hashes (`packages/`), and generated files (`generated.py`), 4 GiB
each with 1.6 to 2 GB in it: a workspace; the same after a day's work; another one with much the same packages in another
order, other packages and files, and one folder that both share; and the first one on XFS.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Final
from uuid import UUID

from benchmark import generated
from benchmark.filesystem import Entry, change_ext4, make_ext4, make_xfs, require_programs, search_path
from benchmark.measure import MIB, in_another_process, leave, require_space, say

SIZE: Final = 4096 * MIB
NEEDED: Final = 11_500 * MIB  # the images 7.7 GiB, the wheels 0.5, what is unpacked meanwhile 2.9
STAMP: Final = "corpus.json"
PACKAGES: Final = Path(__file__).with_name("packages")

HOME: Final = PurePosixPath("/home/ada")
SITE: Final = HOME / "venv/lib/python3.13/site-packages"
# The wheels that pip is to choose, whatever machine this is.
PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
DELETED_PHOTOS: Final = 40


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


def require_corpus(folder: Path) -> None:
    """Leaves when the corpus is neither there nor can be made here: a program or the space for it is missing."""
    if read_corpus(folder) is None:
        require_programs()
        place = next(above for above in (folder.absolute(), *folder.absolute().parents) if above.is_dir())
        require_space(NEEDED, place, "--corpus FOLDER names another place")


def corpus(folder: Path) -> Corpus:
    """The corpus in a folder, made when it is not there or was made by another recipe."""
    found = read_corpus(folder)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        stamp = folder / STAMP
        stamp.unlink(missing_ok=True)
        in_another_process(lambda: make(folder), "the corpus could not be made")
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
    here = Path(__file__).parent
    sources = [here / name for name in ("corpus.py", "filesystem.py", "generated.py")] + sorted(PACKAGES.iterdir())
    summed = hashlib.sha256()
    for source in sources:
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


# Making it


def make(folder: Path) -> None:
    """All four images."""
    making = folder / "making"
    shutil.rmtree(making, ignore_errors=True)
    wheels = download(folder / "wheels")
    say("unpacking packages and generating files")
    packages = {group: [unpack(wheel, making) for wheel in paths] for group, paths in wheels.items()}
    made = {owner: generate(owner, making) for owner in ("shared", "first", "day_later", "second")}
    paths = {name: image_path(folder, name) for name in IMAGES}
    first = [*joined([*packages["base"], *packages["first"]]), *made["shared"], *made["first"]]
    say("writing the images")
    make_ext4(paths["first"], SIZE, UUID(int=1), first)
    make_xfs(paths["first_xfs"], SIZE, UUID(int=1), first)
    make_day_later(paths["first"], paths["day_later"], made, joined(packages["day"]))
    other = [*packages["base"], *packages["second"]]
    random.Random(2).shuffle(other)  # another order, the same each time
    half = len(other) // 2
    second = [*made["second"], *joined(other[:half]), *made["shared"], *joined(other[half:])]
    make_ext4(paths["second"], SIZE, UUID(int=2), second)
    shutil.rmtree(making)


def make_day_later(first: Path, target: Path, made: dict[str, list[Entry]], installed: Sequence[Entry]) -> None:
    """The first workspace after a day: a package is installed, files are rewritten, photos are deleted."""
    subprocess.run(["cp", "--sparse=always", first, target], check=True)
    rewritten = made["day_later"]
    photos = [entry.path for entry in made["first"] if entry.path.suffix == ".jpg"]
    deleted = random.Random(3).sample(photos, DELETED_PHOTOS)
    change_ext4(target, [*deleted, *(entry.path for entry in rewritten)], [*installed, *rewritten])


def download(folder: Path) -> dict[str, list[Path]]:
    """The wheels of each group of packages, in the order of its list. pip compares their hashes."""
    lists = {path.stem: path for path in sorted(PACKAGES.glob("*.txt"))}
    say(f"downloading Python packages into {folder}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--python-version", "3.13", "--implementation", "cp"]
    command += [word for abi in ("cp313", "abi3", "none") for word in ("--abi", abi)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    command += [word for path in lists.values() for word in ("--requirement", str(path))]
    done = subprocess.run(
        [*command, "--dest", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode != 0:
        leave(f"the packages of the corpus could not be downloaded: {done.stderr.strip()}", code=1)
    return {group: [wheel(folder, line) for line in pinned(path)] for group, path in lists.items()}


def pinned(path: Path) -> list[str]:
    """The lines of a list that name a package."""
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def wheel(folder: Path, line: str) -> Path:
    """The file that pip downloaded for `name==version --hash=...`."""
    name, version = line.split()[0].split("==")
    (found,) = folder.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    return found


def unpack(path: Path, making: Path) -> list[Entry]:
    """The files of a wheel, in the order that they have in it."""
    place, entries = making / path.stem, []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                entries.append(Entry(SITE / member.filename, place / member.filename))
                entries[-1].source.parent.mkdir(parents=True, exist_ok=True)
                entries[-1].source.write_bytes(archive.read(member))
                entries[-1].source.chmod(0o644)
    return entries


def generate(owner: str, making: Path) -> list[Entry]:
    """The generated files of an owner, in the order of their paths."""
    place = making / "generated" / owner
    place.mkdir(parents=True)
    getattr(generated, f"write_{owner}")(place)
    target = HOME / ("shared" if owner == "shared" else "work")
    sources = sorted(path for path in place.rglob("*") if path.is_file())
    for source in sources:
        source.chmod(0o644)
    return [Entry(target / source.relative_to(place), source) for source in sources]


def joined(packages: Sequence[Sequence[Entry]]) -> list[Entry]:
    """The entries of all packages; a file that several of them bring is there once."""
    return list({entry.path: entry for package in packages for entry in package}.values())


def digest(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
