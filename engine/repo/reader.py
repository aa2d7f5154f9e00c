"""Reading a repository: from a version's root to verified chunks.

Nothing leaves here that was not compared with its id. Collections move chunks to other packs meanwhile: when one is not where
the index says, the index is read anew.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from operator import itemgetter
from typing import Final, TypeVar

import numpy as np
from blake3 import blake3

from engine.chunk.codec import Codec
from engine.chunk.identity import chunk_id
from engine.errors import Damaged
from engine.pages import Scratch
from engine.repo.index import Index, Location
from engine.repo.map import (
    BLOCK,
    CHUNK_LIMIT,
    REFERENCE,
    ZEROS,
    Entry,
    decode_page,
    decode_region,
    decode_top,
    hole_region,
    page_count,
    page_regions,
    region_blocks,
    region_columns,
)
from engine.repo.pack import PackName
from engine.repo.seal import NONCE, TAG, Cipher, Keyring
from engine.repo.span import SPAN_LIMIT, spans
from engine.store.base import Buffer, NoSuchBlob, Store
from engine.units import MIB

MAP_CACHE: Final = 32 * MIB
AHEAD: Final = 32  # regions whose maps are read together: the largest that there are fill less than half of the cache

Item = TypeVar("Item")
Found = TypeVar("Found")
Part = TypeVar("Part")

_ROUNDS: Final = 3  # looks for one chunk; and renewals of the index in all for chunks that it does not know


class Missing(Damaged):
    """A chunk or map that a version needs is in no readable pack."""


class _Gone(Missing):
    """A pack that the index names is gone."""


_Wanted = tuple[PackName, int, int, bool, Entry]
"""A chunk's pack, its offset and sealed length there, whether it is raw, and the entry that wants it."""

_place: Final[Callable[[_Wanted], tuple[PackName, int, int]]] = itemgetter(0, 1, 2)


class Room:
    """Where one thread has chunks put: each where the one before was, so each is used before the next is asked for.

    Others put them where they are wanted.
    """

    def __init__(self) -> None:
        self.codec = Codec()
        self.frame = Scratch(CHUNK_LIMIT)  # what the content of a chunk is made of
        self.span = Scratch(SPAN_LIMIT)  # what a store gives at once
        self._body = Scratch(CHUNK_LIMIT)

    def for_chunk(self, entry: Entry) -> memoryview:
        """Memory of the length of the entry, for its content. A try that fails may leave anything in it."""
        return self._body.first(entry.blocks * BLOCK)


class Reader:
    """Reads maps and chunks. Any number of threads may; each passes its own Room.

    `renew` gives the index as it is now. Up to `map_cache` bytes of maps are kept, since neighbours share them.
    """

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        index: Index,
        renew: Callable[[], Index] | None = None,
        *,
        map_cache: int = MAP_CACHE,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._index = index
        self._renew = renew
        self._renewing = threading.Lock()
        self._unknown = 0  # renewals for chunks that the index did not know
        self._chunk_key = keyring.subkey("chunk id")
        self._map_key = keyring.subkey("map id")
        self._ciphers: dict[PackName, Cipher] = {}
        self._maps: dict[bytes, bytes] = {}  # the newest, as far as the cache goes
        self._maps_size = 0
        self._map_cache = map_cache
        self._keeping = threading.Lock()

    def pages(self, root: bytes, size: int) -> list[bytes]:
        """The references of the pages of a volume of `size` bytes."""
        count = page_count(size)
        return [ZEROS] * count if root == ZEROS else self._decoded(root, "the top map", decode_top, count)

    def regions(self, page: bytes, number: int, size: int) -> list[bytes]:
        """The references of the regions of page `number`."""
        count = page_regions(size, number)
        return [ZEROS] * count if page == ZEROS else self._decoded(page, f"map page {number}", decode_page, count)

    def region(self, reference: bytes, number: int, size: int) -> list[Entry]:
        """The entries of region `number`."""
        blocks = region_blocks(size, number)
        if reference == ZEROS:
            return hole_region(blocks)
        return self._decoded(reference, f"the map of region {number}", decode_region, blocks)

    def region_chunks(self, reference: bytes, number: int, size: int) -> bytes:
        """The references of the chunks of region `number`, joined: much faster than its entries."""
        (chunks,) = self._decoded(reference, f"the map of region {number}", _chunks, region_blocks(size, number))
        return chunks

    def all_regions(self, root: bytes, size: int) -> Iterator[bytes]:
        """The references of all regions of a volume, in order."""
        for number, page in enumerate(self.pages(root, size)):
            yield from self.regions(page, number, size)

    def ahead(self, items: Iterable[Item], references: Callable[[Item], Iterable[bytes]]) -> Iterator[Item]:
        """The same items, each when the maps that it needs have been read: many at a time, since stores answer slowly.

        What cannot be read is met again when it is asked for.
        """
        remaining = iter(items)
        while batch := list(islice(remaining, AHEAD)):
            self._recall({reference for item in batch for reference in references(item)} - {ZEROS})
            yield from batch

    def _recall(self, references: Collection[bytes]) -> None:
        missing = [reference for reference in references if reference not in self._maps]
        found = zip(missing, self._index.locations(missing), strict=True)
        self.recall(sorted((place.pack, place.offset, place.length, reference) for reference, place in found if place))

    def recall(self, places: Iterable[tuple[PackName, int, int, bytes]]) -> None:
        """Read maps whose places are known and in order: packs, offsets, lengths, references. As `ahead` does, for one batch."""
        for span in spans(places, lambda place: place[:3]):
            (pack, start, _, _), (_, last, last_length, _) = span[0], span[-1]
            try:
                sealed = memoryview(self._store.get_range(pack.key, start, last + last_length - start))
            except NoSuchBlob:
                continue
            for _, offset, length, reference in span:
                with suppress(Damaged):
                    encoded = self._opened_map(pack, reference, sealed[offset - start : offset - start + length])
                    self._keep(reference, encoded)

    def has_map(self, reference: bytes) -> bool:
        """Can the map be read from some pack? Asks the packs, each time."""
        try:
            self._find_map(self._index, reference, "a map")
        except Missing:
            return False
        return True

    def _decoded(
        self, reference: bytes, what: str, decode: Callable[[bytes, int], list[Part]], count: int
    ) -> list[Part]:
        encoded = self.encoded_map(reference, what)
        try:
            return decode(encoded, count)
        except Damaged as error:  # it is what its id says, so it was written like this, and no other copy is better
            raise Missing(f"{what} is none: {error.message}", hint="`rokctl repo check` shows what is hurt") from error

    def encoded_map(self, reference: bytes, what: str = "a map") -> bytes:
        """A map as it is stored. Raises Missing, naming it as `what`."""
        encoded = self._maps.get(reference)
        if encoded is None:
            encoded = self._persist(lambda index: self._find_map(index, reference, what))
            self._keep(reference, encoded)
        return encoded

    def _keep(self, reference: bytes, encoded: bytes) -> None:
        with self._keeping:
            self._maps_size += len(encoded) - len(self._maps.pop(reference, b""))
            self._maps[reference] = encoded
            while self._maps_size > self._map_cache:
                self._maps_size -= len(self._maps.pop(next(iter(self._maps))))

    def _find_map(self, index: Index, reference: bytes, what: str) -> bytes:
        kind, problem = Missing, f"{what} is in no pack of the repository"
        for location in index.find_all(reference):
            try:
                sealed = self._store.get_range(location.pack.key, location.offset, location.length)
                return self._opened_map(location.pack, reference, sealed)
            except (NoSuchBlob, Damaged) as error:
                problem = f"{what} cannot be read from pack {location.pack}: {error.message}"
                kind = _Gone if isinstance(error, NoSuchBlob) else kind
        raise kind(problem, hint="`rokctl repo check --read-data` shows what is hurt")

    def _opened_map(self, pack: PackName, reference: bytes, sealed: Buffer) -> bytes:
        encoded = self._cipher(pack).open(reference[:NONCE], sealed)
        if blake3(encoded, key=self._map_key).digest(length=REFERENCE) != reference:
            raise Damaged("it is not what its id says")
        return bytes(encoded)

    def lacking(self, reference: bytes, number: int, size: int) -> list[Entry]:
        """The entries of region `number` whose chunks are in no pack. Their content is not looked at."""
        if (self._index.find_many(self.region_chunks(reference, number, size)).packs >= 0).all():
            return []
        return [entry for entry in self.region(reference, number, size) if not (entry.is_hole or self.has(entry.chunk))]

    def has(self, chunk: bytes) -> bool:
        """Does some pack hold the chunk? Its content is not looked at."""
        return self._index.find(chunk) is not None

    def chunks(self, entries: Iterable[Entry], room: Room) -> Iterator[tuple[Entry, memoryview]]:
        """The content of the entries that are chunks, in the order of the packs, each as soon as it has its place in the room.

        Raises Missing for a chunk that no pack gives.
        """
        for entry, body in self.tries(entries, room):
            if isinstance(body, Missing):
                raise body
            yield entry, body

    def tries(self, entries: Iterable[Entry], room: Room) -> Iterator[tuple[Entry, memoryview | Missing]]:
        """The same, with the error in place of the content for a chunk that no pack gives: first those that none states."""
        wanted, unknown = _located(self._index, list(entries))
        late = []
        for entry in unknown:
            try:
                location = self._persist(partial(_locate, entry))
            except Missing as missing:
                yield entry, missing
                continue
            late.append((location.pack, location.offset, location.length, location.raw, entry))
        for span in spans(chain(wanted, sorted(late, key=_place)), _place):
            pack, start = span[0][:2]
            cipher, sealed = self._cipher(pack), self._read_span(span, room)
            for _, offset, length, raw, entry in span:
                at = offset - start
                try:
                    body = self._verified(cipher, sealed[at : at + length], length, entry, room, raw=raw)
                except Damaged as error:
                    yield entry, self._found_elsewhere(entry, room, pack, error)
                else:
                    yield entry, body

    def _read_span(self, span: Sequence[_Wanted], room: Room) -> memoryview:
        """What the pack has of the span, which may be cut short."""
        (pack, start, *_), (_, last, last_length, *_) = span[0], span[-1]
        memory = room.span.first(min(last + last_length - start, SPAN_LIMIT))  # no chunk is longer
        try:
            return memory[: self._store.read_into(pack.key, start, memory)]
        except NoSuchBlob:
            return memory[:0]

    def _found_elsewhere(self, entry: Entry, room: Room, pack: PackName, error: Damaged) -> memoryview | Missing:
        """A chunk that one pack does not give, from another, or by a newer index."""
        problem = f"chunk {entry.chunk.hex()} in pack {pack} cannot be read: {error.message}"
        try:
            return self._persist(lambda index: self._find_chunk(index, entry, room, problem))
        except Missing as missing:
            return missing

    def _find_chunk(self, index: Index, entry: Entry, room: Room, problem: str) -> memoryview:
        kind = Missing
        for location in index.find_all(entry.chunk):
            try:
                sealed = memoryview(self._store.get_range(location.pack.key, location.offset, location.length))
                cipher = self._cipher(location.pack)
                return self._verified(cipher, sealed, location.length, entry, room, raw=location.raw)
            except NoSuchBlob:
                kind = _Gone
            except Damaged:
                continue
        raise kind(problem, hint="`rokctl repo check --read-data` shows which versions are hurt")

    def _persist(self, find: Callable[[Index], Found]) -> Found:
        """What `find` gives, by the present index or a newer one. Raises Missing."""
        for _ in range(_ROUNDS):
            index = self._index
            try:
                return find(index)
            except Missing as error:
                missing = error
            if not self._look_again(index, is_gone=isinstance(missing, _Gone)):
                break
        raise missing

    def _look_again(self, index: Index, *, is_gone: bool) -> bool:
        """Is there an index newer than this one? Where much is lost, it is not read again for each chunk."""
        with self._renewing:
            if self._index is index:
                if self._renew is None or not (is_gone or self._unknown < _ROUNDS):
                    return False
                self._unknown += not is_gone
                self._index = self._renew()
        return True

    def _verified(
        self, cipher: Cipher, sealed: memoryview, length: int, entry: Entry, room: Room, *, raw: bool
    ) -> memoryview:
        if len(sealed) != length:
            raise Damaged("the pack is missing or cut short")
        nonce, body = entry.chunk[:NONCE], room.for_chunk(entry)
        if raw:
            cipher.open_into(nonce, sealed, body)
        else:
            frame = room.frame.first(length - TAG)
            cipher.open_into(nonce, sealed, frame)
            room.codec.expand(frame, body)
        if chunk_id(self._chunk_key, body)[:REFERENCE] != entry.chunk:
            raise Damaged("its content is not what its id says")
        return body

    def _cipher(self, pack: PackName) -> Cipher:
        cipher = self._ciphers.get(pack)
        if cipher is None:
            cipher = self._ciphers[pack] = self._keyring.cipher("pack", str(pack))
        return cipher


def _chunks(encoded: bytes, blocks: int) -> list[bytes]:
    return [region_columns(encoded, blocks)[1]]


def _locate(entry: Entry, index: Index) -> Location:
    location = index.find(entry.chunk)
    if location is None:
        raise Missing(
            f"chunk {entry.chunk.hex()} is in no pack of the repository",
            hint="`rokctl repo check` shows which versions are hurt",
        )
    return location


def _located(index: Index, entries: Sequence[Entry]) -> tuple[list[_Wanted], list[Entry]]:
    """The entries that some pack holds, in the order of packs and places, and those that none does."""
    places = index.find_many(b"".join([entry.chunk for entry in entries]))
    order = np.lexsort((places.offsets, places.packs))
    columns = [column[order].tolist() for column in (places.packs, places.offsets, places.lengths, places.raw)]
    packs = {number: index.pack(number) for number in set(columns[0]) if number >= 0}
    wanted, unknown = [], []
    for number, offset, length, raw, at in zip(*columns, order.tolist(), strict=True):
        if number < 0:
            unknown.append(entries[at])
        else:
            wanted.append((packs[number], offset, length, raw, entries[at]))
    return wanted, unknown
