"""Restore a member of a version: to a volume, new or in place; to a file; or to a stream.

Every chunk is compared with its id before it is written. What a volume holds already, by a snapshot of it that was itself
pushed, is not written again.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from engine.crew import employ
from engine.device import blockio
from engine.device.base import Outcome, Pool, Target, Volume
from engine.errors import NotFound, Refused, RokError
from engine.extent import Extent, align, normalise, total
from engine.hand import stop_if_fails
from engine.ops.around import ForgivingReader
from engine.ops.difference import RegionTask, difference_tasks, extent_of, fresh_tasks, overwrite_tasks, regions_of
from engine.ops.gather import Gather, Run, write_behind
from engine.ops.inorder import ContentInOrder
from engine.progress import Progress
from engine.repo.manifest import Manifest, Member
from engine.repo.map import BLOCK, REGION, ZEROS
from engine.repo.reader import Missing, Reader
from engine.repo.repository import Repository
from engine.units import format_size
from engine.values import dataclass
from engine.writebehind import WriteBehind

NEAR_WORKERS: Final = min(os.cpu_count() or 1, 16)  # for a store that is a directory of this node
FAR_WORKERS: Final = min(4 * (os.cpu_count() or 1), 16)


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """How to restore. More workers than cores pay where the store answers slowly; each takes 9 MiB of memory, and
    their writers 8.

    `around_damage`: what is lost is left as zeros and reported, where else it would be an error.
    With 0 of them the calling thread does it all.
    """

    workers: int = FAR_WORKERS
    around_damage: bool = False


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did. Bytes and seconds; `base` is the snapshot whose content was not written again.

    `losses` are the extents that could not be had and read as zeros, `lost` bytes in all.
    """

    bucket: str
    object: str
    version: str
    member: str
    target: str
    base: str | None
    size: int
    written: int
    discarded: int
    seconds: float
    outcome: Outcome
    lost: int
    losses: tuple[Extent, ...]


def restore_to_volume(
    repository: Repository,
    manifest: Manifest,
    member: Member,
    pool: Pool,
    volume: str,
    *,
    in_place: bool,
    options: RestoreOptions,
    progress: Progress,
) -> RestoreReport:
    """Make a volume hold the member: a new one, or with `in_place` an existing one, of which only what differs is written.

    A volume whose restore of this very version was interrupted is taken up again without `in_place`. Before anything is
    touched it is known that every chunk is somewhere. Raises Refused, Busy, OutOfSpace, Missing, Failed.
    """
    begun = repository.clock.monotonic()
    reader, losses = _begin(repository, member, options)
    existing = _find(pool, volume)
    if existing is not None:
        _check_destination(existing, manifest, member, in_place=in_place)
    with ExitStack() as stack:
        base, tasks = None, fresh_tasks(reader, member)
        outcome = Outcome.CREATED
        if existing is None:
            existing = pool.create_volume(volume, member.size, restoring=manifest.version).item
            target = stack.enter_context(pool.open_target(volume))
        else:
            outcome = Outcome.CHANGED
            target = stack.enter_context(pool.open_target(volume))
            if losses is None:
                base, tasks = _in_place_tasks(repository, reader, member, pool, existing, target.size, stack)
            else:  # a base may be as damaged, and what is on the volume cannot stand in for what is lost
                tasks = overwrite_tasks(reader, member, target.size)
        pool.mark_restoring(volume, manifest.version)
        name = f"{pool.name}/{volume}"
        try:
            written, discarded = _write(reader, target, member, tasks, options, losses, progress)
            target.flush()
        except RokError as error:
            error.hint = error.hint or f"{name} is incomplete; run the same restore again"
            raise
        pool.mark_restoring(volume, None)
    seconds = repository.clock.monotonic() - begun
    return _report(manifest, member, name, base, written, discarded, seconds, outcome, losses)


def _find(pool: Pool, volume: str) -> Volume | None:
    try:
        return pool.volume(volume)
    except NotFound:
        return None


def _check_destination(volume: Volume, manifest: Manifest, member: Member, *, in_place: bool) -> None:
    name = f"{volume.pool}/{volume.name}"
    if volume.size < member.size:
        raise Refused(
            f"{name} has {format_size(volume.size)}, and the version needs {format_size(member.size)}",
            hint=f"grow it with `rokctl volume resize {name} --size {member.size}`, or restore to a new volume",
        )
    if in_place or volume.restoring == manifest.version:
        return
    state = f"holds an unfinished restore of {volume.restoring}" if volume.restoring else "exists"
    raise Refused(f"the volume {name} {state}", hint="say --in-place to overwrite it, or name a new volume")


def _begin(repository: Repository, member: Member, options: RestoreOptions) -> tuple[Reader, list[Extent] | None]:
    """The reader, and where losses are collected; None where each is an error, which is known before anything is touched."""
    if options.around_damage:
        reader = ForgivingReader(repository.store, repository.keyring, repository.catalog.index_for_reading())
        return reader, reader.losses
    strict = repository.reader()
    try:
        _require_all_chunks(strict, member)
    except Missing as error:
        error.hint = (
            "nothing was touched; `rokctl repo check` shows what is hurt, and --around-damage restores what can be read"
        )
        raise
    return strict, None


def _require_all_chunks(reader: Reader, member: Member) -> None:
    """Look up every chunk before the first write: a volume is not half overwritten for a version that cannot be had."""
    for number, reference in regions_of(reader, member):
        if reference == ZEROS:
            continue
        for entry in reader.lacking(reference, number, member.size):
            start = number * REGION + entry.start * BLOCK
            raise Missing(
                f"chunk {entry.chunk.hex()}, bytes {start} to {start + entry.blocks * BLOCK} of {member.name}, is in no pack"
            )


def _in_place_tasks(
    repository: Repository,
    reader: Reader,
    member: Member,
    pool: Pool,
    volume: Volume,
    target_size: int,
    stack: ExitStack,
) -> tuple[str | None, Iterator[RegionTask]]:
    """The difference to a snapshot of the volume that was pushed, and what changed since that snapshot; or everything."""
    if volume.restoring is None:
        pushed = {m.origin.snapshot_uuid: m for v in repository.versions() for m in v.members}
        for snapshot in reversed(pool.snapshots(volume.name)):
            base = pushed.get(snapshot.uuid)
            if base is None or base.size > target_size:
                continue
            changes = pool.delta(volume.name, snapshot.name, None)
            if changes is None:
                break
            stack.enter_context(closing(changes))
            touched = align((change.extent for change in changes), BLOCK)
            return snapshot.name, difference_tasks(reader, member, base, touched, target_size)
    return None, overwrite_tasks(reader, member, target_size)


def _write(
    reader: Reader,
    target: Target,
    member: Member,
    tasks: Iterable[RegionTask],
    options: RestoreOptions,
    losses: list[Extent] | None,
    progress: Progress,
) -> tuple[int, int]:
    behind = write_behind(target, options.workers)
    crew = [_Writer(reader, target, behind, member.size, losses, progress) for _ in range(max(1, options.workers))]
    progress.begin("restoring", member.data)

    def work() -> None:
        employ(crew, tasks, inline=options.workers == 0)
        behind.drain()

    try:
        stop_if_fails(work, behind.stop)
        behind.stop()
    finally:
        progress.end()
    return sum(worker.written for worker in crew), sum(worker.discarded for worker in crew)


class _Writer:
    """One worker: brings regions of the target to what is wanted."""

    def __init__(
        self,
        reader: Reader,
        target: Target,
        behind: WriteBehind[Run],
        size: int,
        losses: list[Extent] | None,
        progress: Progress,
    ) -> None:
        self._losses = losses
        self._reader, self._target, self._size, self._progress = reader, target, size, progress
        self._gather = Gather(behind, size)
        self.written = 0
        self.discarded = 0

    def do(self, task: RegionTask) -> None:
        for extent in task.discard:
            self._target.discard(extent)
            self.discarded += extent.length
        self._gather.region = task.region
        for entry, body in self._reader.tries(task.write, self._gather):
            if isinstance(body, Missing):
                extent = extent_of(task.region, entry, self._size)
                _lose(extent, body, self._losses)
                self._target.discard(extent)
                continue
            written = self._gather.keep(len(body))
            self.written += written
            self._progress.advance(written)
        self._gather.hand_over()

    def finish(self) -> None:
        pass


def _lose(extent: Extent, error: Missing, losses: list[Extent] | None) -> None:
    if losses is None:
        raise error
    losses.append(extent)


def restore_to_file(
    repository: Repository,
    manifest: Manifest,
    member: Member,
    path: Path,
    *,
    options: RestoreOptions,
    progress: Progress,
) -> RestoreReport:
    """Write the member to a new sparse file, which appears under its name when it is whole.

    Raises Refused when something has that name.
    """
    begun = repository.clock.monotonic()
    reader, losses = _begin(repository, member, options)
    with blockio.new_file(str(path), member.size) as target:
        written, _ = _write(reader, target, member, fresh_tasks(reader, member), options, losses, progress)
    seconds = repository.clock.monotonic() - begun
    return _report(manifest, member, str(path), None, written, 0, seconds, Outcome.CREATED, losses)


def restore_to_stream(
    repository: Repository,
    manifest: Manifest,
    member: Member,
    write: Callable[[memoryview], object],
    *,
    options: RestoreOptions,
    progress: Progress,
) -> RestoreReport:
    """Give the member's bytes to `write` in order, zeros included; a view is good for the time of the call."""
    begun = repository.clock.monotonic()
    reader, losses = _begin(repository, member, options)
    content = ContentInOrder(
        reader, member, workers=options.workers, lose=lambda extent, error: _lose(extent, error, losses)
    )

    def work() -> None:
        for view in content.views():
            write(view)
            progress.advance(len(view))

    progress.begin("restoring", member.size)
    try:
        stop_if_fails(work, content.stop)
    finally:
        progress.end()
    seconds = repository.clock.monotonic() - begun
    return _report(manifest, member, "-", None, member.size, 0, seconds, Outcome.CREATED, losses)


def _report(
    manifest: Manifest,
    member: Member,
    target: str,
    base: str | None,
    written: int,
    discarded: int,
    seconds: float,
    outcome: Outcome,
    losses: Iterable[Extent] | None,
) -> RestoreReport:
    lost = tuple(normalise(losses or ()))
    if written + discarded == 0 and outcome is Outcome.CHANGED:
        outcome = Outcome.UNCHANGED
    return RestoreReport(
        bucket=manifest.object.bucket,
        object=manifest.object.name,
        version=manifest.version,
        member=member.name,
        target=target,
        base=base,
        size=member.size,
        written=written,
        discarded=discarded,
        seconds=seconds,
        outcome=outcome,
        lost=total(lost),
        losses=lost,
    )
