"""Saving what can still be read in damaged packs: its records are copied into new packs, and nothing is removed."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from engine.errors import Damaged
from engine.repo.diagnosis import Diagnosis
from engine.repo.examine import Opened, RecordOpener, RecordRoom
from engine.repo.filler import PackFiller
from engine.repo.map import REFERENCE
from engine.repo.pack import PACK_LIMIT, Directory, PackKind, PackName, Record, read_directory
from engine.repo.repository import Repository
from engine.repo.segment import PackFacts
from engine.store.base import NoSuchBlob
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class Saved:
    """What came of one pack: records copied, records that other packs hold too, and records that are lost."""

    copied: int
    elsewhere: int
    lost: int


class Salvage:
    """Copies records out of damaged packs, into packs of the given owner; with `dry_run` it only reads.

    Memory: a pack that is read, and one of each kind that is filled.
    """

    def __init__(self, repository: Repository, diagnosis: Diagnosis, owner: str, *, dry_run: bool) -> None:
        self._repository, self._diagnosis, self._dry_run = repository, diagnosis, dry_run
        self._unreliable = diagnosis.examined.damaged | {
            pack for record in diagnosis.contents.condemned for pack in record.packs
        }
        self._saved: set[bytes] = set()
        self._filler = PackFiller(repository, owner)
        self._room = RecordRoom()

    @property
    def facts(self) -> Sequence[PackFacts]:
        """What is in the new packs."""
        return self._filler.facts

    def take(self, name: PackName) -> Saved | None:
        """Save what can be read of a pack; None when it is gone, or this time is whole: it was the way here that was bad."""
        if self._diagnosis.contents.sizes.get(name, 0) > PACK_LIMIT:
            return Saved(0, 0, 0)  # no pack of ours; nothing says what is in it
        try:
            blob = memoryview(self._repository.store.get(name.key))
        except NoSuchBlob:
            return None
        directory = self._directory(name, blob)
        records = directory.records if directory else tuple(self._stated(name))
        kind = directory.kind if directory else self._stated_kind(name)
        opened, lost = _open_all(RecordOpener(self._repository.keyring, name, kind, self._room), records, blob)
        if directory is not None and not lost:
            return None
        wanted = [record for record in opened if not self._is_elsewhere(record.chunk[:REFERENCE])]
        for record in wanted:
            self._saved.add(record.chunk[:REFERENCE])
            if not self._dry_run:
                self._filler.add(kind, record.chunk, record.payload, raw=record.raw, blocks=record.blocks)
        return Saved(len(wanted), len(opened) - len(wanted), lost)

    def finish(self) -> None:
        """Send the packs that are not full."""
        self._filler.finish()

    def _directory(self, name: PackName, blob: memoryview) -> Directory | None:
        try:
            return read_directory(name, len(blob), lambda at, n: blob[at : at + n], self._repository.keyring)
        except Damaged:
            return None

    def _stated(self, name: PackName) -> Iterator[Record]:
        """The records by whatever any segment says of the pack, be it of another length."""
        seen: set[tuple[bytes, int, int]] = set()
        for facts in self._diagnosis.contents.stated.facts(name):
            for record in facts.records():
                place = (record.chunk, record.offset, record.length)
                if place not in seen:
                    seen.add(place)
                    yield record

    def _stated_kind(self, name: PackName) -> PackKind:
        return next((facts.kind for facts in self._diagnosis.contents.stated.facts(name)), PackKind.CHUNKS)

    def _is_elsewhere(self, reference: bytes) -> bool:
        """Is it in a pack that will stay, or saved already?"""
        return reference in self._saved or any(
            place.pack not in self._unreliable for place in self._diagnosis.contents.index.find_all(reference)
        )


def _open_all(opener: RecordOpener, records: Iterable[Record], blob: memoryview) -> tuple[Collection[Opened], int]:
    """The records that can be read, each id once, and how many cannot."""
    opened: dict[bytes, Opened] = {}
    lost = 0
    for record in records:
        try:
            one = opener.open(record, blob)
        except Damaged:
            lost += 1
            continue
        opened[one.chunk] = one
    return opened.values(), lost
