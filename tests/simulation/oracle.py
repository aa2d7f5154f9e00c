"""The store of a simulation, and the oracle that looks at every write to it.

The oracle knows without asking the product what each version must hold, and after each write whether it can still be
had: from the manifest through the maps to chunks in packs that stand. Each record of a pack was compared with its id
when the pack arrived, so a map that names the right chunks at the right places gives the volume bit for bit.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from blake3 import blake3

from engine.chunk.codec import Codec
from engine.chunk.identity import chunk_id
from engine.repo.manifest import BROKEN, FORGOTTEN, open_manifest
from engine.repo.map import (
    BLOCK,
    REFERENCE,
    ZEROS,
    decode_page,
    decode_region,
    decode_top,
    page_count,
    page_regions,
    region_blocks,
)
from engine.repo.pack import PackKind, parse_pack_key, read_directory
from engine.repo.seal import NONCE
from engine.repo.segment import decode_segment
from engine.store.memory import MemoryStore

START = datetime(2030, 1, 1, tzinfo=UTC)
STRIDE = 16  # blocks from one letter of a volume to the next: 64 KiB, a data block of the simulated pool


def letter_block(letter):
    """The one block that stands for a letter. It does not end in zeros, and zeros follow: it is a chunk of its own."""
    return letter.encode() * BLOCK


class SimStore(MemoryStore):
    """A store in memory whose time a simulation owns, and whose writes an oracle sees."""

    def __init__(self, oracle, time=0.0):
        super().__init__(self)
        self.time = time
        self.oracle = oracle
        self.digest = 0  # of all keys and bodies
        self.index_before = ()  # the index as it was listed before the last change to it

    def now(self):
        return START + timedelta(seconds=self.time)

    def copy(self):
        made = SimStore(self.oracle.copy(), self.time)
        made._blobs = dict(self._blobs)
        made.digest, made.index_before = self.digest, self.index_before
        return made

    def put(self, key, body):
        self.write("put", key, bytes(body))

    def create(self, key, body):
        self.write("create", key, bytes(body))

    def delete(self, key):
        self.write("delete", key, b"")

    def write(self, operation, key, body):
        """Carry out a write, and show it to the oracle."""
        before = self._blobs.get(key)
        if key.startswith("index/"):
            self.index_before = tuple(self.list("index/"))
        if operation == "delete":
            super().delete(key)
        else:
            (super().create if operation == "create" else super().put)(key, body)
        if before is not None:
            self.digest ^= hash((key, before[0]))
        if operation != "delete":
            self.digest ^= hash((key, body))
        self.oracle.see(key, None if before is None else before[0], None if operation == "delete" else body)


@dataclass
class Oracle:
    """What the versions need, and what the packs hold. `lost` says what went wrong first."""

    keyring: object
    contents: dict  # uuid of a snapshot -> its letters; a dot is a hole
    packs: dict = field(default_factory=dict)  # key -> references of its records
    copies: Counter = field(default_factory=Counter)  # reference -> how many packs hold it
    needed: Counter = field(default_factory=Counter)  # reference -> how many standing versions need it
    live: dict = field(default_factory=dict)  # version -> the references it needs
    committed: dict = field(default_factory=dict)  # uuid of a snapshot -> the versions made of it
    maps: dict = field(default_factory=dict)  # reference -> the map, of every one that there ever was
    deleted: Counter = field(default_factory=Counter)  # folder -> how many blobs went
    tombstones: Counter = field(default_factory=Counter)
    lost: str | None = None

    def copy(self):
        return Oracle(
            self.keyring,
            self.contents,
            dict(self.packs),
            self.copies.copy(),
            self.needed.copy(),
            dict(self.live),
            {uuid: list(versions) for uuid, versions in self.committed.items()},
            self.maps,
            self.deleted.copy(),
            self.tombstones.copy(),
        )

    def see(self, key, before, after):
        folder, _, name = key.partition("/")
        if after is None and before is not None:
            self.deleted[folder] += 1
        if folder == "pack":
            self._see_pack(key, after)
        elif folder == "versions" and before != after:
            self._see_version(name, after)
        elif folder == "index" and after is not None:
            self._see_segment(name, after)

    def fail(self, problem):
        self.lost = self.lost or problem

    # -- packs and facts -------------------------------------------------------------------------------------

    def _see_pack(self, key, after):
        gone = self.packs.pop(key, None) or ()
        if after is not None:
            self.packs[key] = self._read_pack(key, after)
            self.copies.update(self.packs[key])
        self.copies.subtract(gone)
        for reference in gone:
            if not self.copies[reference] and self.needed[reference]:
                hurt = [version for version, needs in self.live.items() if reference in needs]
                self.fail(f"{key} is gone, and with it {reference.hex()[:8]} of {hurt}")

    def _read_pack(self, key, body):
        directory = self._directory(key, body)
        cipher, codec = self.keyring.cipher("pack", str(directory.name)), Codec()
        chunks = directory.kind is PackKind.CHUNKS
        for record in directory.records:
            payload = cipher.open(record.chunk[:NONCE], body[record.offset : record.offset + record.length])
            if chunks:
                content = payload if record.raw else bytearray(record.blocks * BLOCK)
                if not record.raw:
                    codec.expand(payload, memoryview(content))
                found = chunk_id(self.keyring.subkey("chunk id"), content)
            else:
                found = blake3(payload, key=self.keyring.subkey("map id")).digest()
                self.maps[found[:REFERENCE]] = bytes(payload)
            if found != record.chunk:
                self.fail(f"{key} holds something else than it says")
        return tuple(record.chunk[:REFERENCE] for record in directory.records)

    def _directory(self, key, body):
        return read_directory(parse_pack_key(key), len(body), lambda at, n: body[at : at + n], self.keyring)

    def _see_segment(self, name, body):
        for facts in decode_segment(name, body, self.keyring):
            held = self.packs.get(facts.name.key)
            stated = tuple(record.chunk for record in facts.records())
            if held is not None and held != stated:
                self.fail(f"segment {name} states of {facts.name} what is not true")

    def dangling(self, store):
        """The packs that segments name and that are gone."""
        facts = (facts for blob in store.list("index/") for facts in self._segment(store, blob.key))
        return [pack.name.key for pack in facts if pack.name.key not in self.packs]

    def _segment(self, store, key):
        return decode_segment(key.removeprefix("index/"), store.get(key), self.keyring)

    def dead_packs(self):
        """The packs that hold nothing that a version needs."""
        return [key for key, held in self.packs.items() if not any(self.needed[reference] for reference in held)]

    # -- versions --------------------------------------------------------------------------------------------

    def _see_version(self, version, after):
        self.needed.subtract(self.live.pop(version, ()))
        if after in (None, BROKEN, FORGOTTEN):
            self.tombstones[after] += after is not None
            return
        manifest = open_manifest(version, after, self.keyring)
        needs = set()
        for member in manifest.members:
            uuid = member.origin.snapshot_uuid
            self.committed.setdefault(uuid, []).append(version)
            try:
                needs |= self._needs(version, member, self.contents[uuid])
            except KeyError as error:
                self.fail(f"version {version} was committed, and its map {error.args[0].hex()[:8]} was never stored")
        self.live[version] = frozenset(needs)
        self.needed.update(needs)
        for reference in needs:
            if self.copies[reference] <= 0:
                self.fail(f"version {version} was committed, and no pack holds {reference.hex()[:8]} of it")

    def _needs(self, version, member, letters):
        """All references under a member's root, whose map must place each letter where it belongs. Raises KeyError."""
        if member.root == ZEROS:
            page = region = ZEROS
        else:
            (page,) = decode_top(self.maps[member.root], page_count(member.size))
            (region,) = decode_page(self.maps[page], page_regions(member.size, 0))
        placed = {}
        if region != ZEROS:
            entries = decode_region(self.maps[region], region_blocks(member.size, 0))
            placed = {entry.start: (entry.blocks, entry.chunk) for entry in entries if not entry.is_hole}
        wanted = {at * STRIDE: (1, self.reference(letter)) for at, letter in enumerate(letters) if letter != "."}
        if placed != wanted or member.size != len(letters) * STRIDE * BLOCK:
            self.fail(f"version {version} does not hold what its snapshot held")
        return {reference for reference in (member.root, page, region) if reference != ZEROS} | {
            chunk for _, chunk in placed.values()
        }

    def reference(self, letter):
        return chunk_id(self.keyring.subkey("chunk id"), letter_block(letter))[:REFERENCE]
