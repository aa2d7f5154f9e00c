"""A member of a version as a content to read from, as if it were a snapshot: its bytes, where it has any, what changed.

Every chunk is compared with its id before a byte of it is handed out.
"""

import threading
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager

from engine.device.base import Change, ChangeKind
from engine.errors import Damaged
from engine.extent import Extent, between, join
from engine.ops.difference import difference_tasks, extent_of, fresh_tasks
from engine.repo.manifest import Manifest, Member
from engine.repo.map import BLOCK, PAGE_REGIONS, REGION, Entry
from engine.repo.reader import Missing, Reader, Room
from engine.values import dataclass


class HurtVersion(Damaged):
    """A version cannot be read in whole: a map or a chunk that it needs is in no readable pack."""


class LostDelta(HurtVersion):
    """What changed between two versions cannot be told, because a map of one of them is in no readable pack."""


@dataclass(frozen=True, slots=True)
class MemberContent:
    """A `Content`: a member of a version; `before` is the member, no larger than it, that `delta` starts from."""

    reader: Reader
    manifest: Manifest
    member: Member
    before: Member | None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.member.size

    @property
    def expected(self) -> int:
        """The bytes that are not zeros."""
        return self.member.data

    @contextmanager
    def open_source(self) -> Iterator["MemberSource"]:
        """Open to read. Raises HurtVersion, as the source does."""
        yield MemberSource(self.reader, self.manifest, self.member)

    def allocated(self) -> Iterator[Extent]:
        """Where it holds anything but zeros; extents are cut where regions end. Raises HurtVersion for a lost map."""
        with _naming(self.manifest):
            for task in fresh_tasks(self.reader, self.member):
                yield from join(extent_of(task.region, entry, self.size) for entry in task.write)

    def delta(self) -> Generator[Change, None, None]:
        """What changed, by comparing maps: whole chunks; bytes beyond the end of `before` count as zeros.

        Raises LostDelta for a map that is lost.
        """
        assert self.before is not None, "there is nothing to compare with"
        with _naming(self.manifest, LostDelta):
            for task in difference_tasks(self.reader, self.member, self.before, (), self.size):
                written = (Change(extent_of(task.region, entry, self.size), ChangeKind.CHANGED) for entry in task.write)
                discarded = (Change(extent, ChangeKind.HOLE) for extent in task.discard)
                yield from sorted((*written, *discarded), key=lambda change: change.extent.start)


class MemberSource:
    """A `Source` over a member. A thread that reads forwards fetches each chunk once. Raises HurtVersion."""

    def __init__(self, reader: Reader, manifest: Manifest, member: Member) -> None:
        self._reader, self._manifest, self._member = reader, manifest, member
        with _naming(manifest):
            self._pages = reader.pages(member.root, member.size)
        self._threads = threading.local()

    @property
    def size(self) -> int:
        """Bytes."""
        return self._member.size

    @property
    def logical_block_size(self) -> int:
        """That of the device which the version was pushed from."""
        return self._member.logical_block_size

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` with the bytes at `offset`."""
        end = offset + len(target)
        assert end <= self.size, f"bytes {offset} to {end} of {self.size}"
        with _naming(self._manifest):
            while offset < end:
                region = offset // REGION
                stop = min(end, (region + 1) * REGION)
                self._place(region).read_into(offset - region * REGION, target[: stop - offset])
                target, offset = target[stop - offset :], stop

    def expect(self, extent: Extent) -> None:
        """Nothing is fetched before it is read: a store answers many threads at once."""

    def _place(self, region: int) -> "_Place":
        place: _Place | None = getattr(self._threads, "place", None)
        if place is None or place.region != region:
            page = region // PAGE_REGIONS
            references = self._reader.regions(self._pages[page], page, self.size)
            entries = self._reader.region(references[region % PAGE_REGIONS], region, self.size)
            place = self._threads.place = _Place(self._reader, region, entries)
        return place


class _Place:
    """Where one thread reads: a region, and the last chunk of it that was fetched, in which the next read may begin."""

    def __init__(self, reader: Reader, region: int, entries: Sequence[Entry]) -> None:
        self.region = region
        self._reader, self._entries = reader, entries
        self._starts = [entry.start * BLOCK for entry in entries]
        self._room = _RoomForEach()
        self._last: tuple[Entry, memoryview] | None = None

    def read_into(self, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes of the region from `start` on."""
        first, end = bisect_right(self._starts, start) - 1, start + len(target)
        wanted = []
        for entry in self._entries[first : bisect_right(self._starts, end - 1)]:
            if not entry.is_hole:
                wanted.append(entry)
                continue
            hole = _common(entry, start, end)
            target[hole.start - start : hole.end - start] = bytes(hole.length)
        for entry, body in self._bodies(wanted):
            part = _common(entry, start, end)
            at = part.start - entry.start * BLOCK
            target[part.start - start : part.end - start] = body[at : at + part.length]

    def _bodies(self, wanted: Sequence[Entry]) -> Iterable[tuple[Entry, memoryview]]:
        kept = self._last
        if kept is not None and kept[0] in wanted:
            yield kept
        for entry, body in self._reader.chunks((e for e in wanted if kept is None or e != kept[0]), self._room):
            if entry == wanted[-1]:
                self._last = (entry, body)
            yield entry, body


class _RoomForEach(Room):
    """One chunk is kept after the next was read."""

    def for_chunk(self, entry: Entry) -> memoryview:
        return memoryview(bytearray(entry.blocks * BLOCK))


def _common(entry: Entry, start: int, end: int) -> Extent:
    """The bytes of an entry, which lie between two places of its region."""
    return between(max(start, entry.start * BLOCK), min(end, (entry.start + entry.blocks) * BLOCK))


@contextmanager
def _naming(manifest: Manifest, kind: type[HurtVersion] = HurtVersion) -> Iterator[None]:
    try:
        yield
    except Missing as error:
        raise kind(f"{manifest.object}@{manifest.version} is hurt: {error.message}", hint=error.hint) from error
