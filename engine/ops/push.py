"""Push snapshots to a repository as one version: what changed since the newest version whose snapshot is still here."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field

from engine.device.base import Change, Filesystem, Outcome, Pool, Snapshot, Source
from engine.errors import Damaged, NotFound, Refused
from engine.extent import Extent
from engine.ops.intake import Effort, Intake, Stored, open_session, store_contents
from engine.progress import Progress
from engine.repo.hurt import hurt_versions
from engine.repo.manifest import Manifest, Member, Origin, Totals
from engine.repo.map import VOLUME_LIMIT
from engine.repo.naming import ObjectName
from engine.repo.reader import Missing
from engine.repo.repository import Repository
from engine.repo.session import Purpose, Session
from engine.units import format_size
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class PushOptions(Effort):
    """How to push. `full` reads everything even where a delta is known."""

    labels: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    full: bool = False


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did. Bytes, except `chunks` and `new_chunks` (counts) and `seconds`.

    `read` is what was read of the volumes, `stored` what was sent to the store, everything counted.
    """

    bucket: str
    object: str
    version: str
    base: str | None
    size: int
    data: int
    read: int
    stored: int
    chunks: int
    new_chunks: int
    seconds: float
    outcome: Outcome


def push(
    repository: Repository,
    snapshots: Sequence[tuple[Pool, Snapshot]],
    destination: ObjectName,
    options: PushOptions,
    *,
    node: str,
    tool: str,
    progress: Progress,
) -> PushReport:
    """Push the snapshots as one version of `destination`.

    Asked again for the same snapshots it answers `already there`, unless `options.full`. No version appears unless all
    of it was read and stored. A base whose maps turn out to be lost is done without.
    """
    _refuse_ambiguous(snapshots)
    _refuse_too_large(snapshots)
    hurt, known = repository.both(
        lambda: hurt_versions(repository), lambda: repository.versions(destination.bucket, destination.name)
    )
    # A version that lost something is no base, since the holes would be inherited; and its snapshots are worth sending again.
    versions = [version for version in known if version.version not in hurt]
    there = None if options.full else _already_pushed(versions, snapshots)
    if there is not None and _stands(repository, there):
        return _report(there, read=0, stored=0, new_chunks=0, seconds=0.0, outcome=Outcome.ALREADY_THERE)
    new = _NewVersion(repository, snapshots, destination, options, node, tool, progress)
    base, previous = (None, {}) if options.full else _choose_base(versions, snapshots)
    if base is None:
        return new.push(None, {})
    try:
        return new.push(base, previous)
    except Missing:  # a map of the base is lost, which no repair has marked yet: everything is read instead
        return new.push(None, {})


@dataclass(frozen=True, slots=True)
class _NewVersion:
    """What a push makes, whether it has a base or none."""

    repository: Repository
    snapshots: Sequence[tuple[Pool, Snapshot]]
    destination: ObjectName
    options: PushOptions
    node: str
    tool: str
    progress: Progress

    def push(self, base: Manifest | None, previous: "Mapping[str, _Previous]") -> PushReport:
        """One session, from its opening to its commit."""
        begun = self.repository.clock.monotonic()
        purpose = Purpose(self.destination, base.version if base is not None else None, self.node)
        with open_session(self.repository, purpose, self.options) as session:
            if session.base is None:
                previous = {}
            members = _store_members(self.repository, session, self.snapshots, previous, self.options, self.progress)

            def build() -> Manifest:
                return Manifest(
                    version=session.version,
                    object=self.destination,
                    created=self.repository.clock.now(),
                    store_time=session.opened,
                    node=self.node,
                    tool=self.tool,
                    message=self.options.message,
                    labels=self.options.labels,
                    base=session.base.version if session.base is not None else None,
                    members=tuple(member for member, _ in members),
                    totals=Totals(
                        size=sum(member.size for member, _ in members),
                        data=sum(member.data for member, _ in members),
                        read=sum(stored.read for _, stored in members),
                        stored=session.stored,
                        chunks=sum(member.chunks for member, _ in members),
                        new_chunks=sum(stored.new_chunks for _, stored in members),
                        seconds=self.repository.clock.monotonic() - begun,
                    ),
                )

            manifest = session.commit(build)
        totals = manifest.totals
        return _report(
            manifest,
            read=totals.read,
            stored=totals.stored,
            new_chunks=totals.new_chunks,
            seconds=self.repository.clock.monotonic() - begun,
            outcome=Outcome.CREATED,
        )


def _refuse_ambiguous(snapshots: Sequence[tuple[Pool, Snapshot]]) -> None:
    names = [snapshot.volume for _, snapshot in snapshots]
    for name in names:
        if names.count(name) > 1:
            raise Refused(
                f"{name!r} stands for two members of one version", hint="push volumes of one name to different objects"
            )
    if len({snapshot.group for _, snapshot in snapshots}) > 1:
        raise Refused(
            "the snapshots were not taken together, so they are no consistent group",
            hint="take them in one `rokctl snapshot create`, or push each to its own object",
        )


def _refuse_too_large(snapshots: Sequence[tuple[Pool, Snapshot]]) -> None:
    for _, snapshot in snapshots:
        if snapshot.size > VOLUME_LIMIT:
            raise Refused(
                f"{snapshot.pool}/{snapshot.volume} has {format_size(snapshot.size)}",
                hint=f"a version takes volumes of up to {format_size(VOLUME_LIMIT)}",
            )


def _already_pushed(versions: Sequence[Manifest], snapshots: Sequence[tuple[Pool, Snapshot]]) -> Manifest | None:
    wanted = {snapshot.uuid for _, snapshot in snapshots}
    for manifest in reversed(versions):
        if {member.origin.snapshot_uuid for member in manifest.members} == wanted:
            return manifest
    return None


def _stands(repository: Repository, version: Manifest) -> bool:
    """Is the version there still, and whole? What the node recalls of it does not tell."""
    try:
        repository.manifest(version.version)
    except (NotFound, Damaged):
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Previous:
    """What a member was in the base: its record, and the snapshot that is still on the node."""

    member: Member
    snapshot: str


def _choose_base(
    versions: Sequence[Manifest], snapshots: Sequence[tuple[Pool, Snapshot]]
) -> tuple[Manifest | None, dict[str, _Previous]]:
    """The newest version with a member whose snapshot this node still has, and those members by volume."""
    here = {snapshot.uuid: {s.uuid: s.name for s in pool.snapshots(snapshot.volume)} for pool, snapshot in snapshots}
    for manifest in reversed(versions):
        previous = {}
        for _, snapshot in snapshots:
            for member in manifest.members:
                name = here[snapshot.uuid].get(member.origin.snapshot_uuid)
                if name is not None and member.size <= snapshot.size:
                    previous[snapshot.volume] = _Previous(member, name)
        if previous:
            return manifest, previous
    return None, {}


@dataclass(frozen=True, slots=True)
class _SnapshotContent:
    """What a snapshot holds; `before` names the one that the base was pushed from."""

    pool: Pool
    snapshot: Snapshot
    before: str | None

    @property
    def size(self) -> int:
        return self.snapshot.size

    @property
    def expected(self) -> int | None:
        return self.pool.volume(self.snapshot.volume).used

    def open_source(self) -> AbstractContextManager[Source]:
        return self.pool.open_source(self.snapshot.volume, self.snapshot.name)

    def allocated(self) -> Iterator[Extent]:
        return self.pool.allocated(self.snapshot.volume, self.snapshot.name)

    def delta(self) -> Generator[Change, None, None] | None:
        assert self.before is not None, "there is no base"
        return self.pool.delta(self.snapshot.volume, self.before, self.snapshot.name)


def _store_members(
    repository: Repository,
    session: Session,
    snapshots: Sequence[tuple[Pool, Snapshot]],
    previous: Mapping[str, _Previous],
    options: PushOptions,
    progress: Progress,
) -> list[tuple[Member, Stored]]:
    filesystems = [pool.filesystem(snapshot.volume, snapshot.name) for pool, snapshot in snapshots]
    intakes = []
    for pool, snapshot in snapshots:
        before = previous.get(snapshot.volume)
        content = _SnapshotContent(pool, snapshot, before.snapshot if before else None)
        intakes.append(Intake(content, before.member if before else None))
    stored = store_contents(repository, session, intakes, options, progress)
    return [
        (_member(snapshot, filesystem, one), one)
        for (_, snapshot), filesystem, one in zip(snapshots, filesystems, stored, strict=True)
    ]


def _member(snapshot: Snapshot, filesystem: Filesystem | None, stored: Stored) -> Member:
    return Member(
        name=snapshot.volume,
        root=stored.root,
        size=snapshot.size,
        logical_block_size=stored.logical_block_size,
        filesystem_type=filesystem.type if filesystem else "",
        filesystem_label=filesystem.label if filesystem else "",
        filesystem_uuid=filesystem.uuid if filesystem else "",
        frozen=snapshot.frozen,
        data=stored.data,
        chunks=stored.chunks,
        origin=Origin(
            pool=snapshot.pool,
            volume=snapshot.volume,
            snapshot=snapshot.name,
            volume_uuid=snapshot.volume_uuid,
            snapshot_uuid=snapshot.uuid,
            group=snapshot.group,
            taken=snapshot.created,
        ),
    )


def _report(
    manifest: Manifest, *, read: int, stored: int, new_chunks: int, seconds: float, outcome: Outcome
) -> PushReport:
    return PushReport(
        bucket=manifest.object.bucket,
        object=manifest.object.name,
        version=manifest.version,
        base=manifest.base,
        size=manifest.totals.size,
        data=manifest.totals.data,
        read=read,
        stored=stored,
        chunks=manifest.totals.chunks,
        new_chunks=new_chunks,
        seconds=seconds,
        outcome=outcome,
    )
