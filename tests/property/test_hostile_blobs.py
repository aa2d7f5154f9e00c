"""Whatever lies in a store, a reader gives an error that was promised, or something that the rest of the program can bear.

Damage and strangers spoil bytes; a node that was taken over holds the key, and seals what it likes.
"""

import json
import struct
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
import zstandard
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from engine.chunk.codec import Codec
from engine.errors import Damaged, Refused, WrongKey
from engine.policy.retention import Candidate, Rules, decide
from engine.repo.condemnation import open_awaited, open_condemnation, seal_awaited, seal_condemnation
from engine.repo.derivation import Argon2id, Scrypt
from engine.repo.descriptor import check_seal, clear_master, make_descriptor, parse_descriptor
from engine.repo.document import canonical
from engine.repo.hurt import open_mark, seal_mark
from engine.repo.keyblob import parse_key, passphrase_secret, unwrap_master, wrap_master
from engine.repo.manifest import Manifest, Member, Origin, Totals, open_manifest, seal_manifest, to_document
from engine.repo.map import BLOCK, CHUNK_LIMIT, RegionBuilder, decode_page, decode_region, decode_top, encode_top
from engine.repo.marks import Marks
from engine.repo.naming import ObjectName
from engine.repo.pack import PACK_LIMIT, ChunkId, PackBuilder, PackKind, PackName, read_directory
from engine.repo.paper import PaperKey, paper_lines, parse_paper
from engine.repo.seal import Keyring, seal_box
from engine.repo.segment import PackFacts, decode_segment, encode_segment, facts_of
from engine.repo.session import open_record
from engine.repo.tags import Tags, open_tags, seal_tags
from engine.store.memory import MemoryStore
from engine.units import format_size
from rokctl.render import json_line, shown
from rokctl.version import record
from tests.counting_entropy import CountingEntropy
from tests.fuzz import as_json, fuzzed, spoiled, twisted, values
from tests.manual_clock import ManualClock
from tests.sealing import sealed

VERSION, OWNER = "ab" * 16, "0123456789abcdef0123456789abcdef"
KEYRING = Keyring(bytes(range(32)), encrypted=False)
TIME = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
FARTHEST = [timezone(timedelta(hours=hours)) for hours in (-14, 14)]


def cipher(purpose, name=VERSION):
    return KEYRING.cipher(purpose, name)


# Documents

ORIGIN = Origin("pool0", "home", "s1", "vu", "su", "g", TIME)
MEMBER = Member("home", b"r" * 16, 1 << 30, 512, "ext4", "label", "uuid", True, 12345, 77, ORIGIN, {"later": [1]})
MANIFEST = Manifest(
    version=VERSION,
    object=ObjectName("bucket", "object"),
    created=TIME,
    store_time=TIME,
    node="node1",
    tool="rokctl",
    message="why",
    labels={"k": "v"},
    base=None,
    members=(MEMBER,),
    totals=Totals(1 << 30, 5, 4, 3, 2, 1, 1.5),
    extra={"from_the_future": {"x": 1}},
)
TAGS = Tags(frozenset({"release", "v1"}), True, TIME, {"later": 1})


@given(spoiled(seal_manifest(MANIFEST, KEYRING, CountingEntropy())))
@fuzzed()
def test_a_manifest_whose_bytes_were_spoiled_is_damaged(blob):
    with pytest.raises(Damaged):
        open_manifest(VERSION, blob, KEYRING)


@given(twisted(to_document(MANIFEST)))
@fuzzed(3)
@example({**to_document(MANIFEST), "created": "9999-12-31T23:59:59-14:00"})
@example({**to_document(MANIFEST), "totals": {**to_document(MANIFEST)["totals"], "milliseconds": 10**400}})
def test_a_manifest_of_a_hostile_node_is_refused_or_can_be_listed_shown_judged_and_written_again(document):
    blob = sealed(b"ROKVERS\x01", cipher("version"), as_json(document))
    try:
        manifest = open_manifest(VERSION, blob, KEYRING)
    except (Damaged, Refused):
        return
    json_line(record(manifest, Tags()))
    for value in (manifest.created, manifest.labels, manifest.message, manifest.totals.size, *manifest.members):
        shown(value)
    format_size(manifest.totals.data)
    candidate = Candidate(VERSION, manifest.store_time, frozenset(), False, None)
    for zone in FARTHEST:
        decide([candidate], Rules(daily=1), TIME, zone)
    for member in manifest.members:
        decode_top(encode_top([b"r" * 16]), -(-member.size // 2**34) or 1)
    assert open_manifest(VERSION, seal_manifest(manifest, KEYRING, CountingEntropy()), KEYRING) == manifest


@given(spoiled(seal_tags(VERSION, TAGS, KEYRING, CountingEntropy())))
@fuzzed()
def test_tags_whose_bytes_were_spoiled_are_damaged(blob):
    with pytest.raises(Damaged):
        open_tags(VERSION, blob, KEYRING)


@given(twisted({"tags": ["a", "b"], "pinned": True, "pinned_until": TIME.isoformat(), "later": {"x": [1]}}))
@fuzzed(2)
def test_tags_of_a_hostile_node_are_refused_or_can_be_shown_and_written_again(document):
    try:
        tags = open_tags(VERSION, sealed(b"ROKTAGS\x01", cipher("tags"), as_json(document)), KEYRING)
    except Damaged:
        return
    json_line(record(MANIFEST, tags))
    decide([Candidate(VERSION, TIME, tags.names, tags.pinned, tags.pinned_until)], Rules(), TIME, UTC)
    assert open_tags(VERSION, seal_tags(VERSION, tags, KEYRING, CountingEntropy()), KEYRING) == tags


TEXTS = [
    b"", b"{}", b"[]", b"1e999", b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1e999}', b'{"a":"\\ud800"}', b"\xff",
    b'{"a":' * 50 + b"1" + b"}" * 50, b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"9" * 5000 + b"}", b"\xef\xbb\xbf{}",
    b'{"a":1}garbage', "{}".encode("utf-16"),
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:20]))
@pytest.mark.parametrize("read", [open_manifest, open_tags])
def test_text_that_is_no_canonical_document_is_damaged(read, text):
    magic, purpose = (b"ROKVERS\x01", "version") if read is open_manifest else (b"ROKTAGS\x01", "tags")
    with pytest.raises(Damaged):
        read(VERSION, sealed(magic, cipher(purpose), text), KEYRING)


# What lies there in clear

DESCRIPTOR = make_descriptor(VERSION, TIME, KEYRING)
CHEAP = Argon2id(m=8, t=1, p=1)
SECRET = passphrase_secret("correct horse")


def key_blob(derivation=CHEAP):
    return wrap_master(
        KEYRING,
        SECRET,
        name=VERSION,
        label="",
        repository_id=VERSION,
        created=TIME,
        entropy=CountingEntropy(),
        derivation=derivation,
    )


@given(spoiled(DESCRIPTOR))
@fuzzed()
def test_a_spoiled_descriptor_opens_nothing(blob):
    with pytest.raises((Damaged, Refused)):
        open_descriptor(blob)


def open_descriptor(blob):
    descriptor = parse_descriptor(blob, "memory:")
    keyring = KEYRING if descriptor.encrypted else Keyring(clear_master(descriptor), encrypted=False)
    check_seal(descriptor, keyring, "memory:")
    return descriptor


def with_seal(document):
    """A descriptor as a holder of the key can write it."""
    rest = {key: value for key, value in document.items() if key != "seal"}
    try:
        text = canonical(rest)
    except (ValueError, RecursionError):
        return as_json(rest)
    return canonical({**rest, "seal": blake3(text, key=KEYRING.subkey("descriptor")).hexdigest()})


@given(twisted(json.loads(DESCRIPTOR)), st.booleans())
@fuzzed(2)
def test_a_hostile_descriptor_is_refused_or_describes_a_repository(document, is_sealed):
    try:
        descriptor = open_descriptor(with_seal(document) if is_sealed else as_json(document))
    except (Damaged, Refused):
        return
    json_line(descriptor.created)
    assert descriptor.format == 1
    assert paper_lines(PaperKey(descriptor.id, KEYRING.master))


@given(spoiled(key_blob()))
@fuzzed()
def test_a_spoiled_key_is_damaged(blob):
    with pytest.raises(Damaged):
        parse_key(VERSION, blob)


def with_sum(document):
    """A key as anyone can write it: its sum needs no key."""
    rest = {key: value for key, value in document.items() if key != "sum"}
    try:
        text = canonical(rest)
    except (ValueError, RecursionError):
        return as_json(rest)
    return canonical({**rest, "sum": blake3(text).digest(length=16).hex()})


costs = st.integers(1, 12).map(lambda power: 1 << power) | st.sampled_from([65536, 3, 0, -2, 2**70])


ARGON2ID = json.loads(key_blob())
SCRYPT = json.loads(key_blob(Scrypt(n=16, r=1, p=1)))


@given(twisted(ARGON2ID) | twisted(SCRYPT), st.none() | st.tuples(costs, st.integers(0, 4), st.integers(0, 4)))
@fuzzed(2)
@example(SCRYPT, (65536, 1, 1))  # RFC 7914 wants N below 2^(16 r)
@example(SCRYPT, (2, 1 << 20, 1))  # almost all of the memory is for r, not for n times r
@example(SCRYPT, (2, 1, 1 << 20))
@example(ARGON2ID, (8, 1 << 20, 1))  # little memory, gone through for hours
@example(ARGON2ID, (1 << 16, 1, 1 << 13))
def test_a_hostile_key_is_refused_or_can_be_tried_and_shown(document, cost):
    if cost is not None:
        document.update(zip("nrp" if "n" in document else "mtp", cost, strict=True))
    try:
        key = parse_key(VERSION, with_sum(document))
        json_line([key.created, str(key.derivation), key.derivation.is_weak])
        key.label(KEYRING)
        if key.derivation.memory <= 1 << 26:
            unwrap_master(key, SECRET, VERSION)
    except (Damaged, Refused, WrongKey):
        return


paper = "\n".join(paper_lines(PaperKey(VERSION, bytes(32))))


@given(spoiled(paper.encode()))
@fuzzed()
@example(b"1" * 5000 + b": 00")
def test_a_spoiled_paper_copy_is_refused_or_is_the_same_key(text):
    try:
        parsed = parse_paper(text.decode("ascii", "replace"))
    except Refused:
        return
    assert parsed == PaperKey(VERSION, bytes(32))


# Packs, segments and maps


def build_pack(kind=PackKind.CHUNKS, records=5):
    pack = PackBuilder(PackName(OWNER, 7), kind, bytearray(1 << 16), KEYRING, CountingEntropy())
    for number in range(records):
        pack.add(ChunkId(blake3(bytes([number])).digest()), bytes(50 * number + 1), raw=True, blocks=number + 1)
    return bytes(pack.finish())


PACK = build_pack()


def directory_of(blob):
    return read_directory(PackName(OWNER, 7), len(blob), lambda o, n: blob[o : o + n], KEYRING)


@given(spoiled(PACK))
@fuzzed(2)
def test_a_spoiled_pack_says_nothing_false_of_itself(blob):
    try:
        directory = directory_of(blob)
    except Damaged:
        return
    assert [record.chunk for record in directory.records] == [record.chunk for record in directory_of(PACK).records]


def pack_with(directory, records=b"", kind=1):
    """A pack as a holder of the key can write it, with any plaintext for its directory."""
    header = struct.pack("<8sB3x16sI", b"ROKPACK\x01", kind, bytes.fromhex(OWNER), 7)
    box = seal_box(KEYRING.cipher("pack directory", f"{OWNER}-00000007"), directory, CountingEntropy(), header)
    return header + records + box + struct.pack("<8sI4x", b"ROKTAIL\x01", len(box))


words = st.sampled_from([0, 1, 15, 16, 17, 100, 2**16, 2**31 - 1, 2**31, 2**31 + 40, 2**32 - 1])


@given(
    st.lists(st.tuples(st.binary(min_size=32, max_size=32), words, st.integers(0, 2**16 - 1)), max_size=5), st.data()
)
@fuzzed()
def test_a_directory_of_a_hostile_node_lies_inside_its_pack(entries, data):
    plaintext = b"".join(
        (
            data.draw(st.just(len(entries)) | words).to_bytes(4, "little"),
            b"".join(chunk for chunk, _, _ in entries),
            np.array([length for _, length, _ in entries], "<u4").tobytes(),
            np.array([blocks for _, _, blocks in entries], "<u2").tobytes(),
        )
    )
    length = sum(length & (2**31 - 1) for _, length, _ in entries)
    blob = pack_with(plaintext, bytes(length if length < 2**18 else 10), data.draw(st.sampled_from([0, 1, 2, 3, 255])))
    try:
        directory = directory_of(blob)
    except Damaged:
        return
    assert all(32 <= record.offset < record.offset + record.length <= len(blob) for record in directory.records)
    facts_of(directory)


def segment_of(packs, entries, body):
    """An index segment as a holder of the key can write it."""
    plaintext = struct.pack("<II", packs, entries) + body
    return b"ROKINDX\x01" + seal_box(KEYRING.cipher("index", VERSION), plaintext, CountingEntropy())


FACTS = [PackFacts(PackName(OWNER, 1), PackKind.CHUNKS, 1000, bytes(range(32)), np.array([40, 60], np.uint32))]


@given(spoiled(encode_segment(VERSION, FACTS, KEYRING, CountingEntropy())))
@fuzzed()
def test_a_spoiled_segment_is_damaged(blob):
    with pytest.raises(Damaged):
        decode_segment(VERSION, blob, KEYRING)


pack_rows = st.lists(
    st.tuples(
        words, st.integers(0, 3), st.integers(0, 4) | words, st.sampled_from([64, 4096, 2**26, 2**26 + 1, 2**32 - 1])
    ),
    max_size=3,
)
counts = st.integers(0, 4) | st.sampled_from([2**20, 2**20 + 1, 2**32 - 1])


@given(pack_rows, counts, counts, st.binary(max_size=80), st.data())
@fuzzed(2)
@example([], 0, 2**20 + 1, b"", None)
@example([], 2**32 - 1, 2**32 - 1, b"", None)
def test_facts_of_a_hostile_node_lie_inside_packs(rows, packs, entries, prefixes, data):
    honest = data is not None and data.draw(st.booleans())
    total = sum(row[2] for row in rows)
    if honest and total < 10:
        packs, entries, prefixes = len(rows), total, bytes(16 * total)
    lengths = (
        b"" if data is None else data.draw(st.lists(words, min_size=0, max_size=10).map(lambda many: many[:total]))
    )
    shuffled = np.array(lengths or [40] * min(entries, 10), "<u4").view(np.uint8).reshape(-1, 4).T.tobytes()
    body = b"".join(struct.pack("<16sIB3xII", bytes.fromhex(OWNER), *row) for row in rows)
    blob = segment_of(packs, entries, body + prefixes + zstandard.ZstdCompressor().compress(shuffled))
    try:
        found = decode_segment(VERSION, blob, KEYRING)
    except Damaged:
        return
    for facts in found:
        assert facts.size <= PACK_LIMIT
        assert all(record.offset + record.length <= facts.size for record in facts.records())


def region_map():
    builder = RegionBuilder()
    for number in range(6):
        builder.add(number + 1, bytes([number]) * 16)
    return builder.encode()


@given(spoiled(region_map()), st.sampled_from([1, 21, 16384]))
@fuzzed(2)
@example(b"RMAP\x01\0\0\0\xff\x7f" + b"c" * 16, 0x7FFF)
def test_a_hostile_region_map_covers_its_region_with_chunks_of_the_size_of_chunks(encoded, blocks):
    try:
        entries = decode_region(encoded, blocks)
    except Damaged:
        return
    assert sum(entry.blocks for entry in entries) == blocks
    assert all(entry.is_hole or entry.blocks * BLOCK <= CHUNK_LIMIT for entry in entries)


@given(spoiled(encode_top([bytes([n]) * 16 for n in range(5)])), st.integers(0, 8))
@fuzzed()
def test_hostile_pages_and_tops_have_no_more_references_than_their_volume(encoded, count):
    for decode, magic in ((decode_page, b"PMAP"), (decode_top, b"TMAP")):
        try:
            references = decode(magic + encoded[4:], count)
        except Damaged:
            continue
        assert [len(reference) for reference in references] == [16] * count


# Frames

BODY = bytes(range(256)) * 16


@given(st.sampled_from([True, False]).flatmap(lambda known: spoiled(frame(known))) | st.binary(max_size=60))
@fuzzed(2)
def test_a_spoiled_frame_is_no_chunk_or_fills_its_room(payload):
    for length in (len(BODY), 0, 4096 * 128):
        room = bytearray(b"\xa5" * (length + 8))
        with suppress(Damaged):
            Codec().expand(payload, memoryview(room)[4:-4])
            assert room[4:-4] == zstandard.ZstdDecompressor().decompress(payload, max_output_size=length)
        assert room[:4] == room[-4:] == b"\xa5" * 4


def frame(known):
    return zstandard.ZstdCompressor(write_content_size=known).compress(BODY)


@given(values)
@fuzzed(0.3)
def test_json_that_is_written_anyhow_is_read_or_damaged(value):
    for document in (value, {"a": value}):
        try:
            open_tags(VERSION, sealed(b"ROKTAGS\x01", cipher("tags"), as_json(document)), KEYRING)
        except Damaged:
            continue
        raise AssertionError("these are no tags")


# What collections, sessions and caches write

PACKS = {PackName(OWNER, 1), PackName(OWNER, 2)}
RECORDS = {
    "gc": (b"ROKCOND\x01", {"packs": [str(pack) for pack in PACKS], "damaged": True}),
    "s0": (b"ROKWAIT\x01", {"sessions": [VERSION]}),
    "hurt": (b"ROKHURT\x01", {"members": [{"name": "home", "lost": [[0, 4096], [8192, 512]]}]}),
    "pending": (
        b"ROKSESS\x01",
        {"version": VERSION, "kind": "push", "base": None, "node": "n", "opened": TIME.isoformat()},
    ),
}


def read_record(kind, blob):
    match kind:
        case "gc":
            record = open_condemnation(VERSION, blob, TIME, KEYRING)
            seal_condemnation(VERSION, record.packs, KEYRING, CountingEntropy(), damaged=record.damaged)
        case "s0":
            seal_awaited(VERSION, open_awaited(VERSION, blob, KEYRING), KEYRING, CountingEntropy())
        case "hurt":
            seal_mark(VERSION, open_mark(VERSION, blob, KEYRING), KEYRING, CountingEntropy())
        case _:
            record = open_record(VERSION, blob, KEYRING)
            assert isinstance(record.base, str | None)


@given(st.sampled_from(list(RECORDS)).flatmap(lambda kind: st.tuples(st.just(kind), twisted(RECORDS[kind][1]))))
@fuzzed(2)
@example(("gc", {"packs": {f"{OWNER}-00000001": 1}}))
@example(("gc", {}))
@example(("s0", {"sessions": None}))
def test_records_of_a_hostile_node_are_damaged_or_can_be_written_again(kind_and_document):
    kind, document = kind_and_document
    try:
        read_record(kind, sealed(RECORDS[kind][0], cipher(kind), as_json(document)))
    except Damaged:
        return


@given(st.sampled_from(list(RECORDS)), st.data())
@fuzzed()
def test_spoiled_records_are_damaged(kind, data):
    magic, document = RECORDS[kind]
    with pytest.raises(Damaged):
        read_record(kind, data.draw(spoiled(sealed(magic, cipher(kind), as_json(document)))))


@given(st.data())
@fuzzed()
def test_marks_of_which_anything_was_spoiled_are_damaged(data):
    cache, root = MemoryStore(ManualClock()), bytes(range(16))
    marks = Marks()
    marks.update({VERSION: (root,)}, lambda maps: [b"TMAP" for _ in maps])
    marks.save(cache, VERSION)
    key = data.draw(st.sampled_from([blob.key for blob in cache.list("")]))
    cache.put(key, data.draw(spoiled(cache.get(key))))
    with pytest.raises(Damaged):
        Marks.load(cache, VERSION)
