"""The workspaces of the corpus: which files each holds, in which order, and what a day's work changes.

Real Python packages of the package index, pinned by their hashes (`packages/`), and generated files (`generated.py`), 4 GiB
each with 1.8 to 2 GB in it: a workspace; the same after a day's work, which changed 6 % of it; another one with much the same
packages in another order, other packages and files, and one folder that both share; and the first one on XFS.
"""

import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final
from uuid import UUID

from benchmark import generated
from benchmark.filesystem import Entry, change_ext4, make_ext4, make_xfs
from benchmark.measure import MIB, leave, say

SIZE: Final = 4096 * MIB
PACKAGES: Final = Path(__file__).with_name("packages")
HOME: Final = PurePosixPath("/home/ada")
SITE: Final = HOME / "venv/lib/python3.13/site-packages"
# The wheels that pip is to choose, whatever machine this is.
PLATFORMS: Final = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
DELETED_PHOTOS: Final = 40


def make_workspaces(images: Mapping[str, Path], wheels_folder: Path, making: Path) -> None:
    """Write the four images: first, day_later, second and first_xfs. Wheels are kept, and what is unpacked is removed."""
    shutil.rmtree(making, ignore_errors=True)
    wheels = download(wheels_folder)
    say("unpacking packages and generating files")
    packages = {group: [unpack(wheel, making) for wheel in paths] for group, paths in wheels.items()}
    made = {owner: generate(owner, making) for owner in ("shared", "first", "day_later", "second")}
    first = [*joined([*packages["base"], *packages["first"]]), *made["shared"], *made["first"]]
    say("writing the images")
    make_ext4(images["first"], SIZE, UUID(int=1), first)
    make_xfs(images["first_xfs"], SIZE, UUID(int=1), first)
    make_day_later(images["first"], images["day_later"], made, joined(packages["day"]))
    other = [*packages["base"], *packages["second"]]
    random.Random(2).shuffle(other)  # another order, the same each time
    half = len(other) // 2
    second = [*made["second"], *joined(other[:half]), *made["shared"], *joined(other[half:])]
    make_ext4(images["second"], SIZE, UUID(int=2), second)
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
