"""Versions in a repository, looked at without a pool: what differs between two of them, and whether one can be read in whole."""

from collections.abc import Callable
from typing import Final

from engine.crew import employ
from engine.device.base import Change, ChangeKind
from engine.extent import Extent, normalise, total
from engine.ops.difference import difference_tasks, extent_of, fresh_tasks
from engine.progress import Progress
from engine.repo.manifest import Manifest, Member
from engine.repo.map import REGION, page_count, page_regions, region_count
from engine.repo.reader import Missing, Reader, Room
from engine.repo.repository import Repository
from engine.values import dataclass

DEFAULT_WORKERS: Final = 4


@dataclass(frozen=True, slots=True)
class MemberDiff:
    """How a member differs from the one of that name in the older version. Bytes; `old_size` is None where it is new."""

    member: str
    old_size: int | None
    size: int
    changed: int
    changed_extents: int
    holes: int
    hole_extents: int


def version_diff(
    repository: Repository,
    old: Manifest,
    new: Manifest,
    *,
    listen: Callable[[str, Change], None] = lambda member, change: None,
) -> list[MemberDiff]:
    """Compare the maps of two versions, member by member; content is not read. Every change is told to `listen`.

    `changed` counts whole chunks: what a restore over the older version would write. A member that only the older
    version has is not told of. Raises Missing when a map cannot be read.
    """
    reader = repository.reader()
    before = {member.name: member for member in old.members}
    return [_member_diff(reader, before.get(member.name), member, listen) for member in new.members]


def _member_diff(reader: Reader, old: Member | None, new: Member, listen: Callable[[str, Change], None]) -> MemberDiff:
    tasks = fresh_tasks(reader, new) if old is None else difference_tasks(reader, new, old, (), new.size)
    sums = {kind: [0, 0] for kind in ChangeKind}
    for task in tasks:
        written = normalise(extent_of(task.region, entry, new.size) for entry in task.write)
        for kind, extents in ((ChangeKind.CHANGED, written), (ChangeKind.HOLE, task.discard)):
            for extent in extents:
                sums[kind][0] += extent.length
                sums[kind][1] += 1
                listen(new.name, Change(extent, kind))
    changed, holes = sums[ChangeKind.CHANGED], sums[ChangeKind.HOLE]
    return MemberDiff(new.name, old.size if old else None, new.size, changed[0], changed[1], holes[0], holes[1])


@dataclass(frozen=True, slots=True)
class Loss:
    """Extents of a member that cannot be had back."""

    member: str
    extents: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was read of a version and compared with its ids: chunks (those in several places counted as often), bytes."""

    bucket: str
    object: str
    version: str
    chunks: int
    verified: int
    lost: int
    losses: tuple[Loss, ...]


def verify(
    repository: Repository, manifest: Manifest, *, progress: Progress, workers: int = DEFAULT_WORKERS
) -> VerifyReport:
    """Read every chunk of a version as a restore would, and write nothing."""
    reader = repository.reader()
    chunks = verified = 0
    losses = []
    progress.begin("verifying", manifest.totals.data)
    try:
        for member in manifest.members:
            maps, numbers = _readable_regions(reader, member)
            crew = [_Verifier(reader, member, progress) for _ in range(max(1, workers))]
            regions = reader.ahead(numbers, lambda region: (region[1],))
            employ(crew, regions, inline=workers == 0)
            lost = normalise([*maps, *(extent for worker in crew for extent in worker.lost)])
            chunks += sum(worker.chunks for worker in crew)
            verified += sum(worker.verified for worker in crew)
            if lost:
                losses.append(Loss(member.name, tuple(lost)))
    finally:
        progress.end()
    name = manifest.object
    lost_bytes = sum(total(loss.extents) for loss in losses)
    return VerifyReport(name.bucket, name.name, manifest.version, chunks, verified, lost_bytes, tuple(losses))


def _readable_regions(reader: Reader, member: Member) -> tuple[list[Extent], list[tuple[int, bytes]]]:
    """The regions whose maps can be reached, with their references; and the extents under lost pages."""
    lost: list[Extent] = []
    regions: list[tuple[int, bytes]] = []
    try:
        pages = reader.pages(member.root, member.size)
    except Missing:
        return [Extent(0, member.size)], []
    assert len(pages) == page_count(member.size)
    first = 0
    for number, page in enumerate(pages):
        count = page_regions(member.size, number)
        try:
            regions += enumerate(reader.regions(page, number, member.size), first)
        except Missing:
            start = first * REGION
            lost.append(Extent(start, min(count * REGION, member.size - start)))
        first += count
    assert first == region_count(member.size)
    return lost, regions


class _Verifier:
    """One worker: reads the chunks of regions, and notes what cannot be had."""

    def __init__(self, reader: Reader, member: Member, progress: Progress) -> None:
        self._reader, self._member, self._progress = reader, member, progress
        self._room = Room()
        self.chunks = 0
        self.verified = 0
        self.lost: list[Extent] = []

    def do(self, task: tuple[int, bytes]) -> None:
        """Verify one region."""
        number, reference = task
        size = self._member.size
        try:
            entries = [e for e in self._reader.region(reference, number, size) if not e.is_hole]
        except Missing:
            start = number * REGION
            self.lost.append(Extent(start, min(REGION, size - start)))
            return
        for entry, body in self._reader.tries(entries, self._room):
            extent = extent_of(number, entry, size)
            if isinstance(body, Missing):
                self.lost.append(extent)
            else:
                self._count(extent)

    def _count(self, extent: Extent) -> None:
        self.chunks += 1
        self.verified += extent.length
        self._progress.advance(extent.length)

    def finish(self) -> None:
        """Nothing is left to do."""
