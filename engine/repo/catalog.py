"""What is in the packs of a repository: by index segments, as far as they can be believed, and else by the packs themselves."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from engine.errors import Damaged
from engine.repo import condemnation
from engine.repo.cache import Mask
from engine.repo.condemnation import given_up, read_condemnations, survey_condemnations
from engine.repo.factcache import FactCache, Read
from engine.repo.index import Index, trust
from engine.repo.pack import PackName, parse_pack_key, read_directory
from engine.repo.segment import SEGMENT_LIMIT, PackFacts, decode_segment, facts_of
from engine.repo.stated import UNTOLD, Stated
from engine.repo.table import Table
from engine.store.base import Blob, NoSuchBlob
from engine.units import MIB

_BATCH_LIMIT: Final = 4 * MIB
_PACK_PREFIX: Final = len("pack/")

Item = TypeVar("Item")
Result = TypeVar("Result")
Other = TypeVar("Other")


class Grounds(condemnation.Grounds, Protocol):
    """What is needed of a repository."""

    @property
    def connections(self) -> int:
        """How many requests are under way at a time."""
        ...

    def concurrently(self, call: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Call for every item, several at once."""
        ...

    def both(self, one: Callable[[], Result], other: Callable[[], Other]) -> tuple[Result, Other]:
        """Two calls at once that do not wait for each other."""
        ...


class Catalog:
    """The packs of a repository, and what is in them. `facts` keeps on this node what segments state."""

    def __init__(self, grounds: Grounds, facts: FactCache) -> None:
        self._grounds = grounds
        self._facts = facts

    def wrote_segment(self, name: str, blob: bytes) -> None:
        """A segment stands in the store, by us: this node need not read it."""
        self._facts.add(name, lambda: decode_segment(name, blob, self._grounds.keyring))

    def index_for_writing(self) -> tuple[Index, list[PackFacts]]:
        """The index over all packs, and the facts that packs state but no segment does.

        In the order of rule I4: condemnations, and the segments beside them, then the packs. A writer relies on no pack but
        those that were listed last of all and that no record condemns; nor on one that was cut short: where the listing tells
        no sizes, the index asks for those of the packs that claims come upon. Raises Damaged for a record that is, when the
        segments have been read.
        """
        records, stated = self._grounds.both(lambda: read_condemnations(self._grounds), self.stated)
        listed = self._grounds.store.keys("pack/").items()
        sizes = {key[_PACK_PREFIX:]: UNTOLD if size is None else size for key, size in listed}
        is_whole = self._is_of_size if UNTOLD in sizes.values() else trust
        tables, unstated = self._believed(stated, sizes, given_up(records))
        condemned = {pack for record in records for pack in record.packs}
        index = Index.over(tables, unstated, condemned, is_whole)
        return index, [facts for facts in unstated if facts.name not in condemned]

    def _is_of_size(self, pack: PackName, size: int) -> bool:
        return self._size(pack) == size

    def _size(self, pack: PackName) -> int | None:
        """As it is now, in bytes; None for a pack that is gone."""
        try:
            return self._grounds.store.stat(pack.key).size
        except NoSuchBlob:
            return None

    def index_for_reading(self) -> Index:
        """The index over all packs that can be read: what a collector has condemned, too, while it stands."""
        (records, _), stated = self._grounds.both(lambda: survey_condemnations(self._grounds), self.stated)
        return self._index_without(given_up(records), stated)

    def index_without(self, packs: Collection[PackName]) -> Index:
        """The index over all other packs, listed after the segments, with their sizes: what was cut short is not in it."""
        return self._index_without(packs, self.stated())

    def _index_without(self, packs: Collection[PackName], stated: Stated) -> Index:
        sizes = {key[_PACK_PREFIX:]: size for key, size, _ in self._grounds.store.list("pack/")}
        return Index.over(*self._believed(stated, sizes, packs))

    def _believed(
        self, stated: Stated, sizes: dict[str, int], left_out: Collection[PackName]
    ) -> tuple[Sequence[tuple[Table, Mask]], list[PackFacts]]:
        """What is in all other packs: what segments say of it that can be believed, and the rest.

        The packs that are listed come by name and not by PackName, which takes ten times as long to make: there may be many
        thousands.
        """
        for name in {str(pack) for pack in left_out} & sizes.keys():
            del sizes[name]
        believed = stated.believed(sizes)
        others = [
            (pack, sizes[name])
            for name in sorted(sizes.keys() - believed.packs)
            if (pack := parse_pack_key(f"pack/{name}")) is not None
        ]
        unstated = [facts for facts in self._grounds.concurrently(self._read_untold, others) if facts is not None]
        return believed.tables, unstated

    def _read_untold(self, pack: tuple[PackName, int]) -> PackFacts | None:
        name, listed = pack
        size = self._size(name) if listed == UNTOLD else listed
        return None if size is None else self.read_facts((name, size))

    def stated(self) -> Stated:
        """What the segments state that are listed now. Those that this node has read or written before are not read."""
        return self._stated(self._facts.stated)

    def verified(self) -> Stated:
        """The same, and every segment is read from the store itself; so pushes, too, come to know of those that are damaged."""
        return self._stated(self._facts.verified)

    def _stated(self, recall: Callable[[Sequence[str], Read], Stated]) -> Stated:
        segments = {blob.key.removeprefix("index/"): blob for blob in self._grounds.store.list("index/")}
        return recall(list(segments), lambda names: self._read_segments([segments[name] for name in names]))

    def stated_facts(self) -> Iterator[PackFacts]:
        """What all index segments state. A damaged segment is passed over: packs describe themselves."""
        for _, facts in self.segments():
            if facts is not None:
                yield from facts

    def segments(self) -> Iterator[tuple[str, list[PackFacts] | None]]:
        """Each segment's name and facts, read from the store itself; None for one that is damaged.

        Memory: a few small segments at a time, or one large.
        """
        for name, facts in self._read_segments(self._grounds.store.list("index/")):
            if facts is None:
                self._facts.forget(name)  # so that the next push of this node does without it
            yield name, facts

    def _read_segments(self, blobs: Iterable[Blob]) -> Iterator[tuple[str, list[PackFacts] | None]]:
        for batch in _batches(blobs, self._grounds.connections):
            yield from (entry for entry in self._grounds.concurrently(self._read_segment, batch) if entry is not None)

    def _read_segment(self, listed: Blob) -> tuple[str, list[PackFacts] | None] | None:
        name = listed.key.removeprefix("index/")
        if listed.size > SEGMENT_LIMIT:
            return name, None
        try:
            blob = self._grounds.store.get(listed.key)
        except NoSuchBlob:
            return None  # consolidated since it was listed: its facts are in another segment, and in the packs
        try:
            return name, decode_segment(name, blob, self._grounds.keyring)
        except Damaged:
            return name, None

    def segment(self, name: str) -> list[PackFacts]:
        """The facts of one segment; none when it is gone. Raises Damaged."""
        try:
            blob = self._grounds.store.get(f"index/{name}")
        except NoSuchBlob:
            return []
        return decode_segment(name, blob, self._grounds.keyring)

    def facts(self) -> Iterator[PackFacts]:
        """What is in each pack that is listed, condemned or not. Those that no segment states are asked themselves."""
        sizes = self.pack_sizes()
        for facts in self.stated_facts():
            if sizes.get(facts.name) == facts.size:
                del sizes[facts.name]  # several segments may state one pack
                yield facts
        yield from (facts for facts in self._grounds.concurrently(self.read_facts, sizes.items()) if facts is not None)

    def pack_sizes(self) -> dict[PackName, int]:
        """All packs that the store lists."""
        listed = ((parse_pack_key(blob.key), blob.size) for blob in self._grounds.store.list("pack/"))
        return {name: size for name, size in listed if name is not None}

    def read_facts(self, pack: tuple[PackName, int]) -> PackFacts | None:
        """What a listed pack of that name and size says of itself; None when it is gone or damaged."""
        name, size = pack
        try:
            return facts_of(
                read_directory(
                    name, size, lambda o, n: self._grounds.store.get_range(name.key, o, n), self._grounds.keyring
                )
            )
        except (NoSuchBlob, Damaged):
            return None  # not to be relied on; `check` names it


def _batches(blobs: Iterable[Blob], count: int) -> Iterator[list[Blob]]:
    """Runs of so many blobs, or fewer where they are large, to be read at once."""
    batch: list[Blob] = []
    for blob in blobs:
        if batch and (len(batch) == count or sum(one.size for one in batch) + blob.size > _BATCH_LIMIT):
            yield batch
            batch = []
        batch.append(blob)
    if batch:
        yield batch
