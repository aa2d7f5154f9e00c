"""rokctl, restic and borg on the same images, in turn, beside the machine's own limits.

Each phase is a process of its own through the real command line: start-up, opening the repository and fsync are counted. What a
phase reads has been read once before it, so that the processor is measured and not the disk.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Final

from benchmark.corpus import Corpus, Image, corpus, default_folder, digest, require_corpus
from benchmark.measure import (
    MIB,
    ROOT,
    Cost,
    clean_environment,
    exit_code,
    leave,
    median,
    require_space,
    rokctl,
    rokctl_state,
    run,
    say,
    settle,
    total,
    warm,
    workspace,
)
from benchmark.peers import PEERS, draw, find_peers, plotting_python
from benchmark.programs import Borg, Program, Restic, Rokctl, Source, stored
from benchmark.reflinks import change_in_place, reflinks
from benchmark.verdict import (
    COLLECT,
    DAILY,
    DELTA,
    FIRST,
    LIMIT,
    RESTORE,
    SECOND,
    VERIFY,
    XFS,
    Figures,
    Results,
    Verdict,
    as_json,
    judge,
    table,
)

NEEDED: Final = (
    20_000 * MIB
)  # of the corpus: a pool 7.7 GiB, repositories 5.2, sealed pieces 0.8, a dense restored file 4
STRONGER: Final = 3  # the zstd level of a second repository of rokctl's
Commands = Sequence[Sequence[str]]


def main(words: Sequence[str]) -> int:
    """Get what is missing, run the phases in turn, print the table."""
    options = parse(words)
    images = own_images(options.images) if options.images else corpus(options.corpus)
    peers = find_peers(options.peers, install=options.install)
    python = plotting_python(install=options.install) if options.plot else None
    with workspace(keep=options.keep) as folder:
        comparison = Comparison(folder, images, peers)
        for number in range(options.runs):
            say(f"run {number + 1} of {options.runs}")
            comparison.run(stronger=number == 0)
        results = comparison.results()
    targets = judge(results)
    record = as_json(results, targets, options.runs)
    print(record if options.json else table(results, targets, options.runs))
    if python is not None:
        draw(python, "comparison", record, options.plot)
    missed = [target.sentence() for target in targets if target.verdict() is not Verdict.MET] if options.check else []
    return exit_code(missed) or int(bool(options.plot) and python is None)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line; what cannot be run is refused before anything is made."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure rokctl beside restic, borg and the machine's own limits"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        default=default_folder(),
        metavar="FOLDER",
        help="where the images are kept (%(default)s)",
    )
    parser.add_argument(
        "--images", type=Path, nargs=3, metavar=("FIRST", "LATER", "OTHER"),
        help="three images of your own in place of the corpus: a volume, the same later, and another one",
    )  # fmt: skip
    parser.add_argument(
        "--peers", type=lambda value: tuple(filter(None, value.split(","))), default=PEERS, metavar="NAMES",
        help=f"beside whom, with commas (default {','.join(PEERS)})",
    )  # fmt: skip
    parser.add_argument(
        "--no-install",
        dest="install",
        action="store_false",
        help="install nothing: who is missing is named and left out",
    )
    parser.add_argument("--runs", type=int, default=1, help="all phases, so often; medians are shown (default 1)")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder, and say where it is")
    parser.add_argument("--json", action="store_true", help="print one JSON object and no table")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the table as a PNG, by matplotlib in .venv-peers"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args(words)
    if options.runs < 1:
        parser.error("--runs starts at 1")
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"--peers knows {' and '.join(PEERS)}, not {', '.join(sorted(unknown))}")
    for image in options.images or ():
        if not image.is_file():
            leave(f"{image} is no file that exists")
    if options.plot and not options.plot.absolute().parent.is_dir():
        leave(f"{options.plot.parent} is no folder that exists")
    if options.images:
        require_space(needed(options.images))
    else:
        require_corpus(options.corpus, beside=NEEDED)
    return options


def own_images(paths: Sequence[Path]) -> Corpus:
    """Images of the user's own."""
    say("reading the images")
    first, later, other = (Image(path, digest(path)) for path in paths)
    return Corpus(first, later, other, None)


def needed(images: Sequence[Path]) -> int:
    """How many bytes a comparison needs of images that may not compress: a pool, four repositories, a dense restored file."""
    return 64 * MIB + 5 * sum(image.stat().st_blocks * 512 for image in images) + images[0].stat().st_size


# The run


class Comparison:
    """The images in a pool, the programs, and what each phase took of each of them."""

    def __init__(self, folder: Path, images: Corpus, peers: Mapping[str, str]) -> None:
        self._folder, self._images, self._peers = folder, images, peers
        self._state = rokctl_state(folder)
        self._environment = {**clean_environment(), **self._state}
        self._figures: dict[tuple[str, str], list[Figures]] = {}
        say("putting the images into a pool")
        self._sources = dict(self._fill_pool(images))

    def results(self) -> Results:
        """The medians of all runs. Where only rokctl knows what changed, the others' daily push is that of the full scan."""
        results = {key: median(figures) for key, figures in self._figures.items()}
        if any(phase == DELTA for phase, _ in results):
            results |= {(DELTA, name): results[DAILY, name] for name in self._peers}
        return results

    def run(self, *, stronger: bool) -> None:
        """All phases, on new repositories; phase by phase, the programs in turn."""
        place = self._folder / "run"
        programs = self._programs(place)
        pushing = [*programs, Rokctl(place / "stronger", self._state, STRONGER)] if stronger else programs
        first = self._sources[FIRST]
        for program in pushing:
            self._call(program.create(), program.environment)
        self._limit(FIRST, [first.path], "push", first.path)
        for phase, program in product((FIRST, DAILY, SECOND), pushing):
            self._push(phase, program)
        sealed = place / "sealed"
        self._call([limit("seal", first.path, sealed)], self._environment)
        self._limit(RESTORE, [sealed], "restore", sealed, place / "limit")
        for program in programs:
            self._restore(program, first, place / "restored")
        for program in programs:
            self._measure(VERIFY, program, program.verify(), files(program.repository))
        for program in programs:
            self._measure(COLLECT, program, program.collect(first), files(program.repository))
        shutil.rmtree(place)
        self._run_delta(place)
        if XFS in self._sources:
            self._run_xfs(place)

    def _run_delta(self, place: Path) -> None:
        """The push of the day after, of a volume whose pool knows what has changed."""
        first, later = self._images.first, self._images.day_later
        place.mkdir()
        with reflinks(place, first.path.stat().st_size) as folder:
            if folder is not None:
                program = Rokctl(place / "rokctl", self._state)
                self._rokctl("pool", "create", "reflinks", "--dir", str(folder / "pool"))
                self._call(program.create(), program.environment)
                head = self._volume("reflinks/first", first)
                self._call(program.push(self._snapshot("reflinks/first@now", first)), program.environment)
                change_in_place(head, later.path)
                source = self._snapshot("reflinks/first@later", later)
                if digest(source.path) != source.digest:
                    leave("the volume on reflinks is not what it was changed to", code=1)
                program.learn(source, self._measure(DELTA, program, program.push(source), [source.path]))
                for snapshot in ("now", "later"):
                    self._rokctl("snapshot", "remove", f"reflinks/first@{snapshot}")
                self._rokctl("volume", "remove", "reflinks/first")
                self._rokctl("pool", "remove", "reflinks")
        shutil.rmtree(place)

    def _run_xfs(self, place: Path) -> None:
        for program in self._programs(place):
            self._call(program.create(), program.environment)
            self._push(XFS, program)
        shutil.rmtree(place)

    def _programs(self, folder: Path) -> list[Program]:
        makers: dict[str, Callable[[Path, str], Program]] = {"restic": Restic, "borg": Borg}
        others = [makers[name](folder / name, executable) for name, executable in self._peers.items()]
        return [Rokctl(folder / "rokctl", self._state), *others]

    def _push(self, phase: str, program: Program) -> None:
        source = self._sources[phase]
        program.learn(source, self._measure(phase, program, program.push(source), [source.path]))

    def _restore(self, program: Program, source: Source, folder: Path) -> None:
        folder.mkdir()
        self._measure(RESTORE, program, program.restore(source, folder), files(program.repository))
        (restored,) = files(folder)
        if digest(restored) != source.digest:
            leave(f"what {program.name} restored is not what was pushed", code=1)
        shutil.rmtree(folder)

    def _measure(self, phase: str, program: Program, commands: Commands, reads: Iterable[Path]) -> str:
        """Run what a program does in a phase; what it printed last."""
        before = stored(program)
        output, cost = self._timed(commands, program.environment, reads)
        self._keep(phase, program.name, cost, stored(program) - before)
        return output

    def _limit(self, phase: str, reads: Iterable[Path], *words: str | Path) -> None:
        self._keep(phase, LIMIT, self._timed([limit(*words)], self._environment, reads)[1], 0)

    def _timed(self, commands: Commands, environment: Mapping[str, str], reads: Iterable[Path]) -> tuple[str, Cost]:
        for path in files(self._folder):
            settle(path)  # nobody pays for what another wrote
        for path in reads:
            warm(path)
        outputs, costs = zip(*(run(command, environment, self._folder) for command in commands), strict=True)
        return outputs[-1], total(costs)

    def _keep(self, phase: str, name: str, cost: Cost, added: int) -> None:
        self._figures.setdefault((phase, name), []).append(Figures(cost.wall, cost.cpu, cost.peak, cost.read, added))
        say(f"  {phase}, {name}: {cost.wall:.2f} s")

    def _call(self, commands: Commands, environment: Mapping[str, str]) -> str:
        """Run what is not measured; what it printed last."""
        return [run(command, environment, self._folder)[0] for command in commands][-1]

    # The pool

    def _fill_pool(self, images: Corpus) -> Iterator[tuple[str, Source]]:
        """A volume for each workspace, with a snapshot of each of its states. The volumes are emptied, for space."""
        self._rokctl("pool", "create", "bench", "--dir", str(self._folder / "pool"))
        first = self._volume("bench/first", images.first)
        yield FIRST, self._snapshot("bench/first@now", images.first)
        subprocess.run(["cp", "--sparse=always", images.day_later.path, first], check=True)
        yield DAILY, self._snapshot("bench/first@later", images.day_later)
        os.truncate(first, 0)
        for phase, volume, image in ((SECOND, "bench/second", images.second), (XFS, "bench/xfs", images.first_xfs)):
            if image is not None:
                head = self._volume(volume, image)
                yield phase, self._snapshot(f"{volume}@now", image)
                os.truncate(head, 0)

    def _volume(self, name: str, image: Image) -> Path:
        return Path(json.loads(self._rokctl("volume", "import", name, str(image.path)))["path"])

    def _snapshot(self, name: str, image: Image) -> Source:
        path = Path(json.loads(self._rokctl("snapshot", "create", name))["path"])
        return Source(name, name.partition("@")[0], path, image.digest)

    def _rokctl(self, *words: str) -> str:
        return self._call([rokctl(*words)], self._environment)


def limit(*words: str | Path) -> list[str]:
    """A command of the machine's limits, at rokctl's own level."""
    return [sys.executable, str(ROOT / "scripts" / "bench"), "limit", *map(str, words)]


def files(folder: Path) -> list[Path]:
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
