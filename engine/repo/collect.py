"""Collection: packs that hold dead bytes are condemned, their live chunks copied out, and the packs deleted.

    choose -> gc/R -> s0/R -> wait for those sessions and the grace time -> look -> copy -> delete packs, gc/R, s0/R

The rules I3, I5, I7 and I8 of rok-repository(5), COLLECTION, say why this order loses nothing whatever runs beside it, and
which of these steps are safety and which economy: any choice of packs is safe. Everything may stop anywhere; the next run,
on any node, goes on from the records.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Final

from engine.errors import Busy, Damaged, RokError
from engine.progress import Progress
from engine.repo.condemnation import (
    GC_PREFIX,
    S0_PREFIX,
    Condemnation,
    open_awaited,
    read_condemnations,
    seal_awaited,
    seal_condemnation,
)
from engine.repo.consolidate import Consolidation, consolidate
from engine.repo.index import Location
from engine.repo.look import Look, Postponed, Roots, list_versions, look_into, settled_versions
from engine.repo.map import REFERENCE
from engine.repo.marks import Marks, Stale
from engine.repo.pack import PackName
from engine.repo.reader import AHEAD, Missing, Reader
from engine.repo.repository import Repository
from engine.repo.rescue import Rescue
from engine.repo.session import PACK_TARGET, session_of
from engine.repo.standing import PackSurvey, Standing, survey_packs
from engine.repo.sweep import break_dead_sessions, plan_sweep
from engine.store.base import BlobExists, NoSuchBlob, Store
from engine.units import MIB
from engine.values import dataclass

_ROUNDS: Final = 3  # of looking at what others change meanwhile
_BATCH: Final = 256  # maps that are looked up, and read, at a time
_MAP_CACHE: Final = 8 * MIB  # between reading neighbours together and taking them one by one

Placed = tuple[bytes, Location | None]  # a map, and where it is
_NOWHERE: Final = (PackName("", 0), 0)
COUNT_AGAIN: Final = 32  # updates after which the marks are made anew, whatever they say


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """How to collect.

    `grace` passes between condemning a pack and deleting it. A pack is condemned when less than `live_share` of the bytes of
    its records is live. Segments are rewritten when more than `dangling_share` of their facts dangle. Tombstones are removed
    after `keep_tombstones`, which must be longer than any request may be under way; None keeps them for ever. What is copied
    goes into packs of up to `pack_size` bytes.
    """

    grace: timedelta = timedelta(hours=24)
    live_share: float = 0.75
    dangling_share: float = 0.05
    keep_tombstones: timedelta | None = None
    pack_size: int = PACK_TARGET
    dry_run: bool = False


class Reason(StrEnum):
    """Why condemned packs are not deleted yet."""

    GRACE = "grace"  # the grace time is not over
    SESSIONS = "sessions"  # pushes that may rely on them have not ended
    BUSY = "busy"  # versions came and went faster than they could be looked at
    DAMAGED = "damaged"  # live chunks in them cannot be read


@dataclass(frozen=True, slots=True)
class Waiting:
    """Condemned packs that a later run will delete: how many, their bytes, and what for."""

    record: str
    packs: int
    bytes: int
    reason: Reason
    until: datetime | None = None
    sessions: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


@dataclass(slots=True)
class CollectReport:
    """What a collection found and did; with `dry_run` what it would do. Counts, and bytes where the name says so.

    `record_bytes` are what the packs hold beside their own directories: `live_bytes` and dead ones.
    """

    dry_run: bool
    versions: int = 0
    live_chunks: int = 0
    packs: int = 0
    pack_bytes: int = 0
    record_bytes: int = 0
    live_bytes: int = 0
    condemned_packs: int = 0
    condemned_bytes: int = 0
    copied_bytes: int = 0
    deleted_packs: int = 0
    freed_bytes: int = 0
    waiting: tuple[Waiting, ...] = ()
    segments_removed: int = 0
    segments_written: int = 0
    sessions_broken: int = 0
    leftovers_removed: int = 0
    maps_read: int = 0

    @property
    def dead_bytes(self) -> int:
        """What nothing needs."""
        return self.record_bytes - self.live_bytes

    @property
    def reclaimable_later(self) -> int:
        """Bytes of condemned packs that still wait."""
        return sum(waiting.bytes for waiting in self.waiting)


def collect(
    repository: Repository, options: CollectOptions, *, progress: Progress, cache: Store | None = None
) -> CollectReport:
    """Go on with what earlier collections began, condemn what has died since, and tidy up.

    `cache` is a store on this node that keeps the marks between runs; without one, or when it is lost, all maps are read.

    Raises Damaged when it cannot be told what a version needs, and Busy while that changes too fast: then nothing is deleted.
    """
    progress.begin("collecting", None)
    try:
        return _Collection(repository, options, cache).run()
    finally:
        progress.end()


class _Collection:
    """One run."""

    def __init__(self, repository: Repository, options: CollectOptions, cache: Store | None) -> None:
        self._repository = repository
        self._options = options
        self._cache = cache
        repository.catalog.stated()  # the node's cache is made before the marks are there: each takes much memory
        self._marks = _load_marks(cache, repository.id)
        self._kept = self._marks.versions
        self._maps: _Maps | None = None
        self._survey = PackSurvey((), (), ())
        self._waiting: list[Waiting] = []
        self._report = CollectReport(dry_run=options.dry_run)

    def run(self) -> CollectReport:
        report, repository, options = self._report, self._repository, self._options
        if not options.dry_run:
            report.sessions_broken = len(break_dead_sessions(repository))
        for record in read_condemnations(repository):
            self._advance(record)
        self._condemn()
        self._keep_marks()
        merged = self._consolidate()
        report.segments_removed, report.segments_written = merged.removed, merged.written
        sweep = plan_sweep(repository, options.keep_tombstones)
        report.leftovers_removed = len(sweep.keys)
        if not options.dry_run:
            sweep.carry_out(repository)
        report.waiting = tuple(self._waiting)
        return report

    def _condemn(self) -> None:
        """Choose the packs that hold too many dead bytes, and write the record that condemns them."""
        repository, options, report = self._repository, self._options, self._report
        versions = self._mark_present()
        condemned = frozenset(pack for record in read_condemnations(repository) for pack in record.packs)
        self._survey = survey_packs(repository, self._marks, condemned)
        packs = self._survey.packs
        chosen = [pack for pack in packs if _is_worth_it(pack, options.live_share)]
        report.versions, report.live_chunks = len(versions), len(self._marks)
        report.packs, report.pack_bytes = len(packs), sum(pack.size for pack in packs)
        report.record_bytes, report.live_bytes = sum(pack.records for pack in packs), sum(pack.live for pack in packs)
        report.condemned_packs, report.condemned_bytes = len(chosen), sum(pack.size for pack in chosen)
        if not chosen:
            return
        name = repository.entropy(16).hex()
        if options.dry_run:
            self._wait(_Subject(name, report.condemned_packs, report.condemned_bytes), Reason.GRACE)
            return
        blob = seal_condemnation(name, (pack.name for pack in chosen), repository.keyring, repository.entropy)
        repository.store.create(f"{GC_PREFIX}{name}", blob)
        try:
            made = repository.store.stat(f"{GC_PREFIX}{name}").modified
        except NoSuchBlob:
            return  # another run has taken it up, and finished it
        self._advance(Condemnation(name, frozenset(pack.name for pack in chosen), damaged=False, made=made))

    def _advance(self, record: Condemnation) -> None:
        """Take a record as far as it goes today."""
        repository = self._repository
        sizes = {name: size for name, size in repository.catalog.pack_sizes().items() if name in record.packs}
        subject = _Subject(record.name, len(sizes), sum(sizes.values()))
        if sessions := self._awaited(record) & repository.open_sessions():
            self._wait(subject, Reason.SESSIONS, sessions=tuple(sorted(sessions)))
            return
        end = record.made + self._options.grace
        if repository.store.now() < end:
            self._wait(subject, Reason.GRACE, until=end)
            return
        records = read_condemnations(repository)
        if record.name not in {one.name for one in records}:
            return  # another run has finished it
        try:
            self._mark(settled_versions(repository, self._marks.versions))
        except Postponed as postponed:
            reason = Reason.SESSIONS if postponed.sessions else Reason.BUSY
            self._wait(subject, reason, sessions=postponed.sessions)
            return
        condemned = frozenset(pack for one in records for pack in one.packs)
        damaged = frozenset(pack for one in records if one.damaged for pack in one.packs)
        self._empty(subject, look_into(repository, record.packs, condemned, self._marks), damaged, sizes)

    def _awaited(self, record: Condemnation) -> frozenset[str]:
        """The sessions that were open after the record was written: listed once, by whichever run comes first."""
        repository, key = self._repository, f"{S0_PREFIX}{record.name}"
        with suppress(NoSuchBlob, Damaged):  # a later list holds all of them that have not ended, and more
            return open_awaited(record.name, repository.store.get(key), repository.keyring)
        sessions = {session_of(blob.key) for blob in repository.store.list("pending/")}
        awaited = frozenset(session for session in sessions if session is not None)
        if not self._options.dry_run:
            with suppress(BlobExists):
                repository.store.create(key, seal_awaited(record.name, awaited, repository.keyring, repository.entropy))
        return awaited

    def _empty(
        self, subject: "_Subject", look: Look, damaged: frozenset[PackName], sizes: Mapping[PackName, int]
    ) -> None:
        """Copy out what is needed, and delete the packs; where nothing is needed first, which makes room for the copies."""
        repository, report = self._repository, self._report
        dead = [one.directory.name for one in look.contents if not one.needed]
        dead += [name for name in look.unknown if name in damaged]
        full = [one for one in look.contents if one.needed]
        if self._options.dry_run:
            report.copied_bytes += sum(record.length for one in full for record in one.needed)
            report.deleted_packs += len(sizes)
            report.freed_bytes += sum(sizes.values())
            return
        self._delete(dead, sizes)
        rescue = Rescue(repository, self._options.pack_size)
        try:
            for one in full:
                rescue.copy(one.directory, one.needed)
            rescue.finish()
        except NoSuchBlob:
            self._wait(subject, Reason.BUSY)  # another run is at the same record
            return
        report.copied_bytes += rescue.copied
        kept = [name for name in look.unknown if name not in damaged]
        for one in full:
            name = one.directory.name
            lost = [record for record in one.needed if record.chunk[:REFERENCE] not in rescue.taken]
            if lost and name not in damaged:
                kept.append(name)
        self._delete([one.directory.name for one in full if one.directory.name not in kept], sizes)
        if kept:
            left = _Subject(subject.record, len(kept), sum(sizes[name] for name in kept))
            self._wait(left, Reason.DAMAGED, damaged=tuple(map(str, kept)))
            return
        # Last of all: while the record stands, nobody relies on the packs.
        repository.store.delete(f"{GC_PREFIX}{subject.record}")
        repository.store.delete(f"{S0_PREFIX}{subject.record}")

    def _delete(self, packs: Sequence[PackName], sizes: Mapping[PackName, int]) -> None:
        self._repository.concurrently(lambda name: self._repository.store.delete(name.key), packs)
        self._report.deleted_packs += len(packs)
        self._report.freed_bytes += sum(sizes.get(name, 0) for name in packs)

    def _wait(
        self,
        subject: "_Subject",
        reason: Reason,
        *,
        until: datetime | None = None,
        sessions: tuple[str, ...] = (),
        damaged: tuple[str, ...] = (),
    ) -> None:
        self._waiting.append(Waiting(subject.record, subject.packs, subject.bytes, reason, until, sessions, damaged))

    def _mark_present(self) -> Mapping[str, Roots]:
        """Let the marks be of the versions as they are listed; give those. Raises Busy."""
        for _ in range(_ROUNDS):
            versions = list_versions(self._repository, self._marks.versions).live
            with suppress(Postponed):
                self._mark(versions)
                return versions
        raise Busy("versions are forgotten faster than a collection can look at them", hint="run it again later")

    def _mark(self, versions: Mapping[str, Roots]) -> None:
        """Let the marks be of these versions. Raises Postponed when one was forgotten meanwhile, and its maps are gone."""
        try:
            self._update_marks(versions)
        except Damaged:
            self._marks = Marks()
            if versions.keys() <= list_versions(self._repository, versions).live.keys():
                raise
            raise Postponed(()) from None

    def _update_marks(self, versions: Mapping[str, Roots]) -> None:
        if self._marks.updates >= COUNT_AGAIN:
            self._marks = Marks()
        try:
            self._marks.update(versions, self._read_maps)
        except Stale:
            self._marks = Marks()
            self._marks.update(versions, self._read_maps)

    def _read_maps(self, maps: Sequence[bytes]) -> Iterator[bytes]:
        if not maps:
            return  # or the whole index would be loaded for none
        self._report.maps_read += len(maps)
        self._maps = self._maps or _Maps(self._repository)
        placed = self._maps.placed(maps)
        for start in range(0, len(placed), _BATCH):
            yield from self._read_batch(placed[start : start + _BATCH])

    def _read_batch(self, maps: Sequence[Placed]) -> list[bytes]:
        for _ in range(_ROUNDS):
            self._maps = self._maps or _Maps(self._repository)
            try:
                return self._maps.read(maps)
            except Missing as error:
                self._maps, missing = None, error  # other collections move maps to newer packs: look again
        raise Damaged(
            f"nothing more was deleted: {missing.message}, so it cannot be told what a version needs",
            hint="`rokctl repo check` names the versions that are hurt: forget them, or mend them by `rokctl repo repair`",
        ) from missing

    def _keep_marks(self) -> None:
        """Keep the marks, and let go of them: what is left to do needs its own memory."""
        if self._cache is not None and self._marks.versions != self._kept:
            with suppress(RokError):  # a cache that is full costs the next run its time, and this one nothing
                self._marks.save(self._cache, self._repository.id)
        self._marks, self._maps = Marks(), None

    def _consolidate(self) -> Consolidation:
        options, survey = self._options, self._survey
        return consolidate(
            self._repository,
            survey.segments,
            survey.unstated,
            dangling_share=options.dangling_share,
            dry_run=options.dry_run,
        )


class _Maps:
    """Reads maps in whatever pack: what is condemned may be read as long as it is there. Each once, so few are kept."""

    def __init__(self, repository: Repository) -> None:
        self._concurrently, self._index = repository.concurrently, repository.catalog.index_without(())
        self._reader = Reader(repository.store, repository.keyring, self._index, map_cache=_MAP_CACHE)

    def placed(self, maps: Sequence[bytes]) -> list[Placed]:
        """The same references as their maps lie in the packs."""
        found = list[Placed]()
        for start in range(0, len(maps), _BATCH):
            batch = maps[start : start + _BATCH]
            found += zip(batch, self._index.locations(batch), strict=True)
            self._index.release()  # or the whole of it would soon be in memory, beside the marks
        return sorted(found, key=lambda one: (one[1].pack, one[1].offset) if one[1] else _NOWHERE)

    def read(self, maps: Sequence[Placed]) -> list[bytes]:
        """These maps, neighbours at once. Raises Missing."""
        runs = [maps[start : start + AHEAD] for start in range(0, len(maps), AHEAD)]
        try:
            return list(chain.from_iterable(self._concurrently(self._read_run, runs)))
        finally:
            self._index.release()

    def _read_run(self, maps: Sequence[Placed]) -> list[bytes]:
        self._reader.recall((place.pack, place.offset, place.length, one) for one, place in maps if place)
        return [self._reader.encoded_map(one) for one, _ in maps]


@dataclass(frozen=True, slots=True)
class _Subject:
    """A record and what is left of its packs."""

    record: str
    packs: int
    bytes: int


def _is_worth_it(pack: Standing, live_share: float) -> bool:
    return (pack.dead > 0 and pack.live < live_share * pack.records) or pack.records == 0


def _load_marks(cache: Store | None, repository_id: str) -> Marks:
    if cache is None:
        return Marks()
    try:
        return Marks.load(cache, repository_id)
    except (NoSuchBlob, Damaged):
        return Marks()
