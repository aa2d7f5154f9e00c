"""The content of volumes becomes members of a version: read what changed, cut it, store what is new.

delta or allocation -> regions -> (cut -> id -> known? -> compress -> seal) in every worker -> packs -> uploads

Where the content comes from is behind `Content`: a snapshot on this node, or a version of another repository.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from operator import attrgetter
from typing import Final, Protocol

from engine.chunk.codec import Codec
from engine.chunk.cut import Fresh, Hole, Kept, Window, cut, recut
from engine.chunk.identity import chunk_id
from engine.crew import employ
from engine.device.base import Change, Source
from engine.extent import Extent, between
from engine.ops.plan import RegionPlan, plan_delta, plan_full
from engine.progress import Progress
from engine.rate import RateLimit
from engine.repo.manifest import Member
from engine.repo.map import BLOCK, REFERENCE, REGION, ZEROS, Entry, RegionBuilder, region_blocks
from engine.repo.pack import ChunkId
from engine.repo.repository import Repository
from engine.repo.session import PACK_TARGET, Purpose, Session
from engine.repo.volumemap import VolumeMap
from engine.values import dataclass

DEFAULT_LEVEL: Final = 1
_WORKERS: Final = min(os.cpu_count() or 1, 6)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of the machine to take. `level` is zstd's; packs have up to `pack_size` bytes.

    A worker takes 21 MiB of memory, an uploader 16 MiB, the rest 60 MiB, and 35 MiB more for S3: by default no more than
    256 MiB. With 0 of them the calling thread cuts, or sends, itself.
    """

    level: int = DEFAULT_LEVEL
    workers: int = _WORKERS
    uploaders: int = min(4, 8 - _WORKERS)
    pack_size: int = PACK_TARGET
    read_limit: RateLimit | None = None


class Content(Protocol):
    """What a volume holds at one moment."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def expected(self) -> int | None:
        """About how many bytes there are to read in full; None where that is not known before they are read."""
        ...

    def open_source(self) -> AbstractContextManager[Source]:
        """Open to read."""
        ...

    def allocated(self) -> Iterator[Extent]:
        """Where it may hold anything but zeros, as `Pool.allocated` has it."""
        ...

    def delta(self) -> Generator[Change, None, None] | None:
        """What changed since the content that the base was made of, as `Pool.delta` has it. Asked only where there is one."""
        ...


@dataclass(frozen=True, slots=True)
class Intake:
    """A content to be stored. `base` is the member that it changed from, of the version that the session inherits from."""

    content: Content
    base: Member | None


@dataclass(slots=True)
class Stored:
    """What became of a content. Bytes, except `chunks` and `new_chunks` (counts); `root` is the reference of its top map."""

    root: bytes = ZEROS
    logical_block_size: int = 0
    data: int = 0
    chunks: int = 0
    read: int = 0
    new_chunks: int = 0


def open_session(repository: Repository, purpose: Purpose, effort: Effort) -> AbstractContextManager[Session]:
    """A session to store contents in, with that effort."""
    return repository.session(
        purpose, threads=effort.uploaders, writers=max(1, effort.workers), pack_size=effort.pack_size
    )


def store_contents(
    repository: Repository, session: Session, intakes: Sequence[Intake], effort: Effort, progress: Progress
) -> list[Stored]:
    """Store each content in the session; of one with a base, what changed since. Maps are exactly those of a full read."""
    reader = repository.reader(session.index)
    members = []
    for intake in intakes:
        root, size = (intake.base.root, intake.base.size) if intake.base else (ZEROS, 0)
        members.append(_Member(intake.content, intake.base, VolumeMap(intake.content.size, reader, root, size)))
    crew = [_Cutter(repository, session, effort, progress) for _ in range(max(1, effort.workers))]
    progress.begin("reading", _expected(members))
    try:
        with ExitStack() as stack:
            employ(crew, _tasks(members, stack), session.keep_alive, inline=effort.workers == 0)
    finally:
        progress.end()
    return [member.finish(session, crew) for member in members]


@dataclass(slots=True)
class _Counts:
    """What one worker counted; added up when all are done."""

    read: int = 0
    data_blocks: int = 0
    chunks: int = 0
    new_chunks: int = 0


class _Member:
    """One content on its way into a version."""

    def __init__(self, content: Content, base: Member | None, map_: VolumeMap) -> None:
        self.content, self.base, self.map = content, base, map_
        self.logical_block_size = 0

    def finish(self, session: Session, crew: "Iterable[_Cutter]") -> Stored:
        counts = [worker.counts.get(id(self), _Counts()) for worker in crew]
        before = (self.base.data, self.base.chunks) if self.base else (0, 0)
        return Stored(
            root=self.map.finish(session.put_map),
            logical_block_size=self.logical_block_size,
            data=before[0] + sum(count.data_blocks for count in counts) * BLOCK,
            chunks=before[1] + sum(count.chunks for count in counts),
            read=sum(count.read for count in counts),
            new_chunks=sum(count.new_chunks for count in counts),
        )


@dataclass(frozen=True, slots=True)
class _RegionTask:
    member: _Member
    source: Source
    plan: RegionPlan
    old: Sequence[Entry]


def _expected(members: Sequence[_Member]) -> int | None:
    """The bytes to read, where that is known before they are read: not where only changes are."""
    amounts = [None if member.base else member.content.expected for member in members]
    return None if None in amounts else sum(amount for amount in amounts if amount is not None)


def _tasks(members: Sequence[_Member], stack: ExitStack) -> Iterator[_RegionTask]:
    for member in members:
        content = member.content
        source = stack.enter_context(content.open_source())
        member.logical_block_size = source.logical_block_size
        plans = None
        if member.base is not None:
            changes = content.delta()
            if changes is not None:
                stack.enter_context(closing(changes))
                plans = plan_delta(changes, content.size, member.base.size)
        if plans is None:
            member.base = None
            member.map = member.map.emptied()
            plans = plan_full(content.allocated(), content.size)
        for plan in plans:
            old = member.map.entries(plan.region) if member.base is not None else ()
            yield _RegionTask(member, source, plan, old)


class _Ahead:
    """What of a region will be read next. Who is told that can let the disk read on while a processor looks at what was read."""

    def __init__(self, certain: Sequence[Extent], distance: int) -> None:
        self._certain = certain
        self._distance = distance  # bytes, and no further: the cache may be small
        self._told = 0  # all that is certain before this was read, or told

    def after(self, offset: int) -> Extent | None:
        """What to tell when all before `offset` has been read."""
        told = max(self._told, offset)
        place = bisect_right(self._certain, told, key=attrgetter("end"))
        if place == len(self._certain):
            return None
        next_ = self._certain[place]
        start, end = max(told, next_.start), min(next_.end, offset + self._distance)
        if start >= end:
            return None
        self._told = end
        return between(start, end)


class _Cutter:
    """One worker: cuts regions, and stores the chunks that the repository lacks."""

    def __init__(self, repository: Repository, session: Session, effort: Effort, progress: Progress) -> None:
        self._session = session
        self._writer = session.writer()
        self._codec = Codec(effort.level)
        self._window = Window()
        self._key = repository.keyring.subkey("chunk id")
        self._seed = repository.keyring.cut_seed
        self._limit = effort.read_limit
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

    def _pieces(self, task: _RegionTask, read: Callable[[int, memoryview], None]) -> Iterator[Hole | Fresh | Kept]:
        plan, blocks = task.plan, region_blocks(task.member.content.size, task.plan.region)
        if plan.changed is None:
            return cut(read, blocks, self._seed, self._window, plan.holes)
        old = [(entry.blocks, entry.is_hole) for entry in task.old]
        return recut(read, blocks, self._seed, self._window, old, plan.changed, plan.holes)

    def _reading(self, task: _RegionTask, counts: _Counts) -> Callable[[int, memoryview], None]:
        """Reads of one region; a volume that ends within a block reads as if zeros followed."""
        start, size, source = task.plan.region * REGION, task.member.content.size, task.source
        certain = task.plan.certain_reads(region_blocks(size, task.plan.region))
        ahead = _Ahead(certain, self._window.blocks * BLOCK)

        def read(offset: int, target: memoryview) -> None:
            inside = min(len(target), size - start - offset)
            if self._limit is not None:
                self._limit.take(inside)
            source.read_into(start + offset, target[:inside])
            if inside < len(target):
                target[inside:] = bytes(len(target) - inside)
            if self._limit is None and (extent := ahead.after(offset + len(target))) is not None:
                source.expect(between(start + extent.start, min(start + extent.end, size)))
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
