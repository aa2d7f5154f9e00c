"""Push snapshots to a repository as one version: read what changed, cut it, store what is new, commit.

delta or allocation -> regions -> (cut -> id -> known? -> compress -> seal) in every worker -> packs -> uploads
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Final

from engine.chunk.codec import Codec
from engine.chunk.cut import Fresh, Hole, Kept, Window, cut, recut
from engine.chunk.identity import chunk_id
from engine.crew import employ
from engine.device.base import Outcome, Pool, Snapshot, Source
from engine.errors import Damaged, NotFound, Refused
from engine.ops.plan import RegionPlan, plan_delta, plan_full
from engine.progress import Progress
from engine.rate import RateLimit
from engine.repo.manifest import Manifest, Member, Origin, Totals
from engine.repo.map import BLOCK, REFERENCE, REGION, ZEROS, Entry, RegionBuilder, region_blocks
from engine.repo.naming import ObjectName
from engine.repo.pack import ChunkId
from engine.repo.repository import Repository
from engine.repo.session import Purpose, Session
from engine.repo.volumemap import VolumeMap

DEFAULT_LEVEL: Final = 1


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push. `level` is zstd's; `full` reads everything even where a delta is known.

    A worker takes 23 MiB of memory, an uploader 16 MiB, the rest 74 MiB: by default no more than 256 MiB.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    level: int = DEFAULT_LEVEL
    full: bool = False
    workers: int = min(os.cpu_count() or 1, 6)
    uploaders: int = 2
    read_limit: RateLimit | None = None


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
    of it was read and stored.
    """
    _refuse_ambiguous(snapshots)
    begun = repository.clock.monotonic()
    versions = repository.versions(destination.bucket, destination.name)
    there = None if options.full else _already_pushed(versions, snapshots)
    if there is not None and _stands(repository, there):
        return _report(there, read=0, stored=0, new_chunks=0, seconds=0.0, outcome=Outcome.ALREADY_THERE)
    base, previous = (None, {}) if options.full else _choose_base(versions, snapshots)
    purpose = Purpose(destination, base.version if base is not None else None, node)
    with repository.session(purpose, threads=options.uploaders, writers=options.workers) as session:
        if session.base is None:
            previous = {}
        members = _store_members(repository, session, snapshots, previous, options, progress)
        counts = [member.counts for member in members]

        def build() -> Manifest:
            return Manifest(
                version=session.version,
                object=destination,
                created=repository.clock.now(),
                store_time=session.opened,
                node=node,
                tool=tool,
                message=options.message,
                labels=options.labels,
                base=session.base.version if session.base is not None else None,
                members=tuple(member.record() for member in members),
                totals=Totals(
                    size=sum(member.snapshot.size for member in members),
                    data=sum(member.data for member in members),
                    read=sum(count.read for count in counts),
                    stored=session.stored,
                    chunks=sum(member.chunks for member in members),
                    new_chunks=sum(count.new_chunks for count in counts),
                    seconds=repository.clock.monotonic() - begun,
                ),
            )

        manifest = session.commit(build)
    totals = manifest.totals
    return _report(
        manifest,
        read=totals.read,
        stored=totals.stored,
        new_chunks=totals.new_chunks,
        seconds=repository.clock.monotonic() - begun,
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


@dataclass(slots=True)
class _Counts:
    """What one worker counted; added up when all are done."""

    read: int = 0
    data_blocks: int = 0
    chunks: int = 0
    new_chunks: int = 0


class _MemberPush:
    """One volume on its way into a version."""

    def __init__(self, pool: Pool, snapshot: Snapshot, previous: _Previous | None, map_: VolumeMap) -> None:
        self.pool, self.snapshot, self.previous, self.map = pool, snapshot, previous, map_
        self.counts = _Counts()
        self.root = ZEROS
        self.logical_block_size = 0
        self.filesystem = pool.filesystem(snapshot.volume, snapshot.name)

    @property
    def data(self) -> int:
        before = self.previous.member.data if self.previous else 0
        return before + self.counts.data_blocks * BLOCK

    @property
    def chunks(self) -> int:
        return (self.previous.member.chunks if self.previous else 0) + self.counts.chunks

    def record(self) -> Member:
        snapshot, filesystem = self.snapshot, self.filesystem
        return Member(
            name=snapshot.volume,
            root=self.root,
            size=snapshot.size,
            logical_block_size=self.logical_block_size,
            filesystem_type=filesystem.type if filesystem else "",
            filesystem_label=filesystem.label if filesystem else "",
            filesystem_uuid=filesystem.uuid if filesystem else "",
            frozen=snapshot.frozen,
            data=self.data,
            chunks=self.chunks,
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


@dataclass(frozen=True, slots=True)
class _RegionTask:
    member: _MemberPush
    source: Source
    plan: RegionPlan
    old: Sequence[Entry]


def _store_members(
    repository: Repository,
    session: Session,
    snapshots: Sequence[tuple[Pool, Snapshot]],
    previous: Mapping[str, _Previous],
    options: PushOptions,
    progress: Progress,
) -> list[_MemberPush]:
    reader = repository.reader(session.index)
    members = []
    for pool, snapshot in snapshots:
        before = previous.get(snapshot.volume)
        root, size = (before.member.root, before.member.size) if before else (ZEROS, 0)
        members.append(_MemberPush(pool, snapshot, before, VolumeMap(snapshot.size, reader, root, size)))
    crew = [_Cutter(repository, session, options, progress) for _ in range(options.workers)]
    progress.begin("reading", _expected(members))
    try:
        with ExitStack() as stack:
            employ(crew, _tasks(members, stack), session.keep_alive)
    finally:
        progress.end()
    for member in members:
        for worker in crew:
            counts = worker.counts.get(id(member), _Counts())
            member.counts.read += counts.read
            member.counts.data_blocks += counts.data_blocks
            member.counts.chunks += counts.chunks
            member.counts.new_chunks += counts.new_chunks
        member.root = member.map.finish(session.put_map)
    return members


def _expected(members: Sequence[_MemberPush]) -> int | None:
    """The bytes to read, where that is known before they are read: of a full push, what the volumes have allocated."""
    if any(member.previous for member in members):
        return None
    used = [member.pool.volume(member.snapshot.volume).used for member in members]
    return None if None in used else sum(amount for amount in used if amount is not None)


def _tasks(members: Sequence[_MemberPush], stack: ExitStack) -> Iterator[_RegionTask]:
    for member in members:
        snapshot, previous = member.snapshot, member.previous
        source = stack.enter_context(member.pool.open_source(snapshot.volume, snapshot.name))
        member.logical_block_size = source.logical_block_size
        plans = None
        if previous is not None:
            changes = member.pool.delta(snapshot.volume, previous.snapshot, snapshot.name)
            if changes is not None:
                stack.enter_context(closing(changes))
                plans = plan_delta(changes, snapshot.size, previous.member.size)
        if plans is None:
            member.previous = None
            member.map = member.map.emptied()
            plans = plan_full(member.pool.allocated(snapshot.volume, snapshot.name), snapshot.size)
        for plan in plans:
            old = member.map.entries(plan.region) if member.previous is not None else ()
            yield _RegionTask(member, source, plan, old)


class _Cutter:
    """One worker: cuts regions, and stores the chunks that the repository lacks."""

    def __init__(self, repository: Repository, session: Session, options: PushOptions, progress: Progress) -> None:
        self._session = session
        self._writer = session.writer()
        self._codec = Codec(options.level)
        self._window = Window()
        self._key = repository.keyring.subkey("chunk id")
        self._seed = repository.keyring.cut_seed
        self._limit = options.read_limit
        self._progress = progress
        self.counts: dict[int, _Counts] = {}

    def do(self, task: _RegionTask) -> None:
        """Cut one region, and put its map in its place."""
        counts = self.counts.setdefault(id(task.member), _Counts())
        builder = RegionBuilder()
        for piece in self._pieces(task, self._reading(task, counts)):
            if isinstance(piece, Hole):
                builder.add(piece.blocks, ZEROS)
            elif isinstance(piece, Kept):
                builder.add(piece.blocks, task.old[piece.entry].chunk)
            else:
                builder.add(piece.blocks, self._store(piece, counts))
        counts.data_blocks += builder.data_blocks - sum(entry.blocks for entry in task.old if not entry.is_hole)
        counts.chunks += builder.chunks - sum(not entry.is_hole for entry in task.old)
        task.member.map.set(task.plan.region, self._session.put_map(builder.encode()))

    def _pieces(self, task: _RegionTask, read: "Callable[[int, memoryview], None]") -> Iterator[Hole | Fresh | Kept]:
        plan, blocks = task.plan, region_blocks(task.member.snapshot.size, task.plan.region)
        if plan.changed is None:
            return cut(read, blocks, self._seed, self._window, plan.holes)
        old = [(entry.blocks, entry.is_hole) for entry in task.old]
        return recut(read, blocks, self._seed, self._window, old, plan.changed, plan.holes)

    def _reading(self, task: _RegionTask, counts: _Counts) -> "Callable[[int, memoryview], None]":
        """Reads of one region; a volume that ends within a block reads as if zeros followed."""
        start, size, source = task.plan.region * REGION, task.member.snapshot.size, task.source

        def read(offset: int, target: memoryview) -> None:
            inside = min(len(target), size - start - offset)
            if self._limit is not None:
                self._limit.take(inside)
            source.read_into(start + offset, target[:inside])
            if inside < len(target):
                target[inside:] = bytes(len(target) - inside)
            counts.read += inside
            self._progress.advance(inside)

        return read

    def _store(self, piece: Fresh, counts: _Counts) -> bytes:
        chunk = ChunkId(chunk_id(self._key, piece.body))
        prefix = chunk[:REFERENCE]
        if self._session.index.claim(prefix):
            payload, raw = self._codec.compress(piece.body)
            self._writer.add(chunk, payload, raw=raw, blocks=piece.blocks)
            counts.new_chunks += 1
        return prefix

    def finish(self) -> None:
        """Send what is left."""
        self._writer.close()


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
