"""Repair a repository: put right what can be, save what can be read, and mark what is lost (rok-repository(5), DAMAGE).

The order is that of a push: new packs, then their facts, then what they replace is taken out of use. So a repair that dies has
done no harm, and is run again. It deletes no pack, and nothing that can be read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import Final

from engine.errors import Damaged
from engine.extent import Extent, total
from engine.progress import Progress
from engine.repo.check import DEFAULT_WORKERS, Finding, damaged_blobs
from engine.repo.condemnation import GC_PREFIX, given_up, seal_condemnation
from engine.repo.diagnosis import Diagnosis, Hurt, depths, diagnose, portion_to_read
from engine.repo.examine import Depth, Fault, Problem
from engine.repo.hurt import HURT_PREFIX, Losses, hurt_versions, lift, losses_of, mark
from engine.repo.pack import PackName
from engine.repo.repository import Repository, Survey
from engine.repo.salvage import Salvage
from engine.repo.sample import Sample
from engine.repo.segment import PackFacts, decode_segment, encode_segment, in_batches
from engine.repo.table import said_of
from engine.store.base import NoSuchBlob
from engine.units import format_size
from engine.values import dataclass

RECORD_REST: Final = timedelta(
    days=2
)  # how long no collection may have run for that knew a record before it was damaged


class Mend(Enum):
    """What a repair does to a blob."""

    SAVED = "saved"
    CONDEMNED = "condemned"
    STATED = "stated"
    REMOVED = "removed"
    MARKED = "marked"
    LIFTED = "lifted"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done, or with a dry run to be done."""

    blob: str
    mend: Mend
    detail: str


@dataclass(frozen=True, slots=True)
class RepairReport:
    """How many steps were taken; what is lost all the same; and what is damaged and takes another command."""

    steps: int
    hurt: tuple[Hurt, ...]
    remaining: tuple[Finding, ...]


def repair(
    repository: Repository,
    *,
    from_packs: bool,
    read_data: Sample | bool,
    dry_run: bool,
    progress: Progress,
    listen: Callable[[Step], object] = lambda step: None,
    workers: int = DEFAULT_WORKERS,
) -> RepairReport:
    """Mend what a check finds, telling `listen` of each step when it is done.

    With `from_packs` every pack's own directory is read and the index held against it; with `read_data` every record too,
    of all packs or of a sample. Memory: as for a check, and two packs.
    """
    survey = repository.survey()
    depth_of = depths(portion_to_read(repository, read_data), Depth.DIRECTORY if from_packs else Depth.FACTS)
    diagnosis = diagnose(repository, survey.manifests, depth_of, progress, workers)
    mending = _Mending(repository, diagnosis, listen, dry_run=dry_run)
    mending.mend_packs_and_segments()
    remaining = damaged_blobs(repository, survey)
    remaining.update(mending.mend_condemnations())
    if mending.condemned and not dry_run:
        diagnosis = diagnose(repository, survey.manifests, depths(None, Depth.FACTS), progress, workers)
    elif diagnosis.losses and not dry_run:
        before = {hurt.version for hurt in diagnosis.hurt}
        suspects = [manifest for manifest in survey.manifests if manifest.version in before]
        diagnosis = diagnose(repository, suspects, depths(None, Depth.FACTS), progress, workers)
    mending.mend_marks(survey, diagnosis.hurt)
    remaining = {blob: problem for blob, problem in remaining.items() if problem.fault is not Fault.MARK}
    findings = (Finding(blob, problem.fault, problem.text, ()) for blob, problem in sorted(remaining.items()))
    return RepairReport(mending.steps, tuple(diagnosis.hurt), tuple(findings))


class _Mending:
    """The steps, each told when it is done."""

    def __init__(
        self, repository: Repository, diagnosis: Diagnosis, listen: Callable[[Step], object], *, dry_run: bool
    ) -> None:
        self._repository, self._store = repository, repository.store
        self._contents, self._examined = diagnosis.contents, diagnosis.examined
        self._listen, self._dry_run = listen, dry_run
        self._record = repository.entropy(16).hex()  # owns the new packs, and condemns the old ones
        self._salvage = Salvage(repository, diagnosis, self._record, dry_run=dry_run)
        self.condemned: list[PackName] = []
        self.steps = 0

    def _tell(self, blob: str, mend: Mend, detail: str) -> None:
        self.steps += 1
        self._listen(Step(blob, mend, detail))

    def mend_packs_and_segments(self) -> None:
        """Save what damaged packs hold, make the index right, and only then take the damaged packs out of use."""
        for name in sorted(self._examined.damaged - given_up(self._contents.condemned)):
            saved = self._salvage.take(name)
            if saved is not None:
                self.condemned.append(name)
                detail = (
                    f"{saved.copied} records copied, {saved.elsewhere} are in other packs, {saved.lost} cannot be read"
                )
                self._tell(name.key, Mend.SAVED, detail)
        self._salvage.finish()
        self._mend_segments()
        if self.condemned:
            self._condemn()

    def _mend_segments(self) -> None:
        false = self._contents.false_statements(self._examined)
        broken = [name for name in sorted(self._contents.stated.damaged) if self._is_broken(name)]
        again = {facts.name: facts for facts in self._unstated()}
        for segment in false:
            for facts in self._repository.catalog.segment(segment):
                if facts.name in self._contents.sizes and facts.name not in self.condemned:
                    again[facts.name] = self._truth(facts)
        for batch in in_batches([*again.values(), *self._salvage.facts]):
            self._state(batch)
        for name in broken:
            self._remove(f"index/{name}", "it cannot be read, and what the packs hold is stated")
        for name, packs in false.items():
            self._remove(f"index/{name}", f"it stated what is not so of {len(packs)} packs")

    def _truth(self, stated: PackFacts) -> PackFacts:
        """What the pack says itself, where it was asked; else what is stated of it."""
        said = self._examined.said.get(stated.name)
        if said in (None, (stated.size, said_of(stated))):
            return stated
        return self._examined.facts.get(stated.name) or self._contents.believed.facts(stated.name) or stated

    def _is_broken(self, segment: str) -> bool:
        """Not only the way here was bad, when it was read first."""
        try:
            decode_segment(segment, self._store.get(f"index/{segment}"), self._repository.keyring)
        except NoSuchBlob:
            return False
        except Damaged:
            return True
        return False

    def _unstated(self) -> Iterator[PackFacts]:
        """What packs say of themselves and no segment does; a session that is open will state its own."""
        stated = self._contents.stated.packs
        sessions = self._repository.open_sessions()
        out_of_use = {pack for record in self._contents.condemned for pack in record.packs}.union(self.condemned)
        for name, facts in sorted(self._examined.facts.items()):
            if name in self._contents.sizes and name not in stated | out_of_use and name.owner not in sessions:
                yield facts

    def _state(self, facts: Sequence[PackFacts]) -> None:
        name, detail = self._repository.entropy(16).hex(), f"what {len(facts)} packs hold, by their own directories"
        if self._dry_run:
            self._tell("index", Mend.STATED, detail)
            return
        blob = encode_segment(name, facts, self._repository.keyring, self._repository.entropy)
        self._store.create(f"index/{name}", blob)
        self._tell(f"index/{name}", Mend.STATED, detail)

    def _remove(self, key: str, why: str) -> None:
        if not self._dry_run:
            self._store.delete(key)
        self._tell(key, Mend.REMOVED, why)

    def _condemn(self) -> None:
        if not self._dry_run:
            repository = self._repository
            blob = seal_condemnation(self._record, self.condemned, repository.keyring, repository.entropy, damaged=True)
            self._store.create(f"{GC_PREFIX}{self._record}", blob)
        for name in self.condemned:
            self._tell(name.key, Mend.CONDEMNED, "no push relies on it any more; a collection removes it")

    def mend_condemnations(self) -> Mapping[str, Problem]:
        """Remove records of condemnation that cannot be read, once no collection can be at work that still knows them."""
        young = {}
        for name, error in self._contents.unreadable_condemnations.items():
            key = f"{GC_PREFIX}{name}"
            try:
                free = self._store.stat(key).modified + RECORD_REST
            except NoSuchBlob:
                continue
            if free <= self._store.now():
                self._remove(key, "it cannot be read; the packs that it condemned are in use again")
            else:
                text = f"{error.message}; it is too young to be removed: repair again after {free:%Y-%m-%d %H:%M} UTC"
                young[key] = Problem(Fault.CONDEMNATION, text)
        return young

    def mend_marks(self, survey: Survey, hurt: Sequence[Hurt]) -> None:
        """Mark the versions that lost something, and no others."""
        losses: dict[str, dict[str, Sequence[Extent]]] = {}
        for one in hurt:
            losses.setdefault(one.version, {})[one.member] = one.extents
        for version, lost in sorted(losses.items()):
            if not self._is_marked(version, lost):
                if not self._dry_run:
                    mark(self._repository, version, lost)
                size = sum(total(extents) for extents in lost.values())
                self._tell(f"{HURT_PREFIX}{version}", Mend.MARKED, f"{format_size(size)} of it are lost")
        for version in sorted(hurt_versions(self._repository) - losses.keys() - survey.damaged.keys()):
            if not self._dry_run:
                lift(self._repository, version)
            self._tell(f"{HURT_PREFIX}{version}", Mend.LIFTED, "the version lacks nothing, or is forgotten")

    def _is_marked(self, version: str, losses: Losses) -> bool:
        try:
            return losses_of(self._repository, version) == losses
        except Damaged:
            return False
