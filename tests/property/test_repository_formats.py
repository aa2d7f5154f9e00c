"""Every format of rok-repository(5): what is written is read back, and what was damaged is never taken for good."""

from datetime import UTC, datetime

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.chunk.codec import expand_frame
from engine.errors import Damaged, Refused, RokError
from engine.repo import descriptor as descriptors
from engine.repo.document import canonical, open_document, seal_document
from engine.repo.manifest import (
    Manifest,
    Member,
    Origin,
    Totals,
    VersionIdentity,
    from_document,
    open_manifest,
    seal_manifest,
    to_document,
)
from engine.repo.map import (
    REGION,
    ZEROS,
    RegionBuilder,
    decode_page,
    decode_region,
    decode_top,
    encode_page,
    encode_top,
    region_blocks,
    region_count,
)
from engine.repo.naming import ObjectName
from engine.repo.pack import ChunkId, PackBuilder, PackKind, PackName, parse_pack_key, read_directory
from engine.repo.seal import Keyring
from engine.repo.segment import PackFacts, decode_segment, encode_segment, facts_of

OWNER = "0123456789abcdef0123456789abcdef"


def keyring(encrypted=True):
    return Keyring(bytes(range(32)), encrypted=encrypted)


def counting_entropy():
    count = 0

    def entropy(size):
        nonlocal count
        count += 1
        return blake3(count.to_bytes(8, "little")).digest(length=size)

    return entropy


def build_pack(bodies, kind=PackKind.CHUNKS, encrypted=True):
    name = PackName(OWNER, 7)
    pack = PackBuilder(name, kind, bytearray(1 << 20), keyring(encrypted), counting_entropy())
    for number, body in enumerate(bodies):
        pack.add(ChunkId(blake3(number.to_bytes(4, "little")).digest()), body, raw=number % 2 == 0, blocks=number % 129)
    return pack, bytes(pack.finish())


def directory_of(blob, encrypted=True):
    return read_directory(PackName(OWNER, 7), len(blob), lambda o, n: blob[o : o + n], keyring(encrypted))


bodies = st.lists(st.binary(min_size=1, max_size=3000), max_size=30)


@given(bodies, st.sampled_from(PackKind), st.booleans())
@settings(max_examples=60)
def test_a_pack_describes_itself_and_every_record_opens(contents, kind, encrypted):
    pack, blob = build_pack(contents, kind, encrypted)

    directory = directory_of(blob, encrypted)

    assert (directory.name, directory.kind, directory.size) == (pack.name, kind, len(blob))
    assert list(directory.records) == pack.records
    cipher = keyring(encrypted).cipher("pack", str(pack.name))
    for record, body in zip(directory.records, contents, strict=True):
        assert cipher.open(record.chunk[:12], blob[record.offset : record.offset + record.length]) == body


@pytest.mark.slow
@given(bodies, st.integers(0), st.integers(1, 255), st.booleans())
@settings(max_examples=150)
def test_a_flipped_byte_of_a_pack_never_gives_other_content(contents, where, mask, encrypted):
    pack, blob = build_pack(contents, encrypted=encrypted)
    damaged = bytearray(blob)
    damaged[where % len(blob)] ^= mask
    cipher = keyring(encrypted).cipher("pack", str(pack.name))

    hurt = 0
    try:
        assert list(directory_of(bytes(damaged), encrypted).records) == pack.records
    except Damaged:
        hurt += 1
    for record, body in zip(pack.records, contents, strict=True):
        try:
            opened = cipher.open(record.chunk[:12], bytes(damaged[record.offset : record.offset + record.length]))
        except Damaged:
            hurt += 1
        else:
            assert opened == body
    padding = where % len(blob) >= len(blob) - 4  # the trailer's last four bytes mean nothing
    assert hurt >= 1 or padding


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_no_pack(blob):
    with pytest.raises(Damaged):
        directory_of(blob)


def test_a_pack_of_another_name_is_refused():
    _, blob = build_pack([b"one"])
    with pytest.raises(Damaged):
        read_directory(PackName(OWNER, 8), len(blob), lambda o, n: blob[o : o + n], keyring())


@pytest.mark.parametrize(
    "key",
    ["pack/x", "pack/", f"pack/{OWNER}", f"pack/{OWNER}-7", f"pack/{OWNER.upper()}-00000007", f"pack/{OWNER}-+0000007"],
)
def test_a_key_that_is_no_packs_is_not_taken_for_one(key):
    assert parse_pack_key(key) is None


def test_a_pack_key_names_its_pack():
    assert parse_pack_key(f"pack/{OWNER}-0000002a") == PackName(OWNER, 42)


packs = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.sampled_from(PackKind), st.lists(st.integers(1, 2**21), max_size=20)),
    max_size=6,
)


@given(packs, st.booleans())
def test_an_index_segment_gives_back_its_facts(described, encrypted):
    facts = [
        PackFacts(
            PackName(OWNER, number),
            kind,
            sum(lengths) + 32 + number % 1000,
            bytes(range(16)) * len(lengths),
            np.array(lengths, np.uint32),
        )
        for number, kind, lengths in described
    ]

    blob = encode_segment("ab" * 16, facts, keyring(encrypted), counting_entropy())
    read = decode_segment("ab" * 16, blob, keyring(encrypted))

    assert [(f.name, f.kind, f.size, f.prefixes, f.lengths.tolist()) for f in read] == [
        (f.name, f.kind, f.size, f.prefixes, f.lengths.tolist()) for f in facts
    ]
    with pytest.raises(Damaged):
        decode_segment("cd" * 16, blob, keyring(encrypted))


@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_are_no_segment(blob, with_magic):
    with pytest.raises(Damaged):
        decode_segment("ab" * 16, (b"ROKINDX\x01" if with_magic else b"") + blob, keyring())


def test_facts_of_a_pack_know_where_its_records_are():
    pack, blob = build_pack([b"a" * 10, b"b" * 20, b"c" * 3000])
    facts = facts_of(directory_of(blob))
    assert [(r.offset, r.length, r.raw) for r in facts.records()] == [(r.offset, r.length, r.raw) for r in pack.records]


runs = st.lists(st.tuples(st.integers(1, 128), st.booleans()), min_size=1, max_size=60)


@given(runs)
def test_a_region_map_gives_back_its_entries_with_zeros_joined(described):
    builder = RegionBuilder()
    wanted = []
    for number, (blocks, is_hole) in enumerate(described):
        chunk = ZEROS if is_hole else blake3(number.to_bytes(4, "little")).digest(length=16)
        builder.add(blocks, chunk)
        if is_hole and wanted and wanted[-1][1] == ZEROS:
            wanted[-1] = (wanted[-1][0] + blocks, ZEROS)
        else:
            wanted.append((blocks, chunk))
    total = sum(blocks for blocks, _ in described)

    encoded = builder.encode()

    if encoded is None:
        assert all(chunk == ZEROS for _, chunk in wanted)
        return
    entries = decode_region(encoded, total)
    assert [(entry.blocks, entry.chunk) for entry in entries] == wanted
    assert [entry.start for entry in entries] == [sum(b for b, _ in wanted[:n]) for n in range(len(wanted))]
    with pytest.raises(Damaged):
        decode_region(encoded, total + 1)


@given(st.binary(max_size=200), st.sampled_from([b"", b"RMAP", b"RMAP\x01\0\0\0", b"RMAP\x02\0\0\0"]))
def test_arbitrary_bytes_are_no_region_map_or_a_true_one(body, start):
    try:
        entries = decode_region(start + body, 100)
    except Damaged:
        return
    assert sum(entry.blocks for entry in entries) == 100


@given(st.lists(st.booleans(), max_size=256))
def test_pages_and_tops_drop_zeros_at_the_end_only(filled):
    references = [bytes([n + 1 & 255, 1] * 8) if full else ZEROS for n, full in enumerate(filled)]
    page, top = encode_page(references), encode_top(references)
    assert (page is None) == (not any(filled)) == (top is None)
    if page is not None and top is not None:
        assert decode_page(page, len(references)) == references == decode_top(top, len(references))
        with pytest.raises(Damaged):
            decode_top(page, len(references))


@given(st.integers(1, 1 << 45))
def test_regions_cover_a_volume_exactly(size):
    count = region_count(size)
    last = region_blocks(size, count - 1)
    assert 1 <= last <= 16384
    assert (count - 1) * REGION + last * 4096 - size in range(4096)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), json_values, max_size=4), st.booleans())
@settings(max_examples=50)
def test_a_document_is_read_back_and_only_under_its_own_name(document, encrypted):
    cipher = keyring(encrypted).cipher("version", "a")
    blob = seal_document(b"ROKTEST\x01", cipher, document, counting_entropy())
    assert open_document(b"ROKTEST\x01", cipher, blob, "it") == document
    for other in (keyring(encrypted).cipher("version", "b"), keyring(encrypted).cipher("pending", "a")):
        with pytest.raises(Damaged):
            open_document(b"ROKTEST\x01", other, blob, "it")


def test_a_decompression_bomb_is_refused_before_it_takes_memory():
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    with pytest.raises(Damaged, match="beyond the limit"):
        expand_frame(bomb, 1 << 20)
    streaming = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 16))
    with pytest.raises(Damaged, match="beyond the limit"):
        expand_frame(streaming, 1 << 20)


TIME = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


def manifest(**changes):
    origin = Origin("pool0", "home", "s1", "vu", "su", "g", TIME)
    member = Member(
        "home", b"r" * 16, 1 << 30, 512, "ext4", "lâbel", "uuid", True, 123456789, 77, origin, {"later": [1]}
    )
    fields = {
        "version": "ab" * 16,
        "object": ObjectName("Ведро", "📦 объект"),
        "created": TIME,
        "store_time": TIME,
        "node": "node1",
        "tool": "rokctl 0.1.0",
        "message": "why",
        "labels": {"k": "v"},
        "base": None,
        "members": (member,),
        "totals": Totals(1 << 30, 5, 4, 3, 2, 1, 1.5),
        "copied_from": VersionIdentity("cd" * 16, "ef" * 16),
        "extra": {"from_the_future": {"x": 1}},
    }
    return Manifest(**{**fields, **changes})


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_manifest_is_read_back_with_the_fields_it_does_not_know(encrypted):
    blob = seal_manifest(manifest(), keyring(encrypted), counting_entropy())
    assert len(blob) > 16
    assert open_manifest("ab" * 16, blob, keyring(encrypted)) == manifest()


def test_the_store_sees_no_name_in_an_encrypted_manifest():
    blob = seal_manifest(manifest(), keyring(), counting_entropy())
    for word in ("📦".encode(), b"home", b"pool0", b"node1"):
        assert word not in blob


@pytest.mark.slow
@given(st.sampled_from(sorted(to_document(manifest()))), json_values)
def test_a_manifest_with_a_wrong_field_is_damaged_never_a_traceback(name, value):
    document = {**to_document(manifest()), name: value}
    try:
        from_document(document, "it")
    except RokError:
        return


def test_a_manifest_of_a_newer_format_says_so():
    with pytest.raises(Refused, match="newer"):
        from_document({**to_document(manifest()), "format": 2}, "it")


def test_a_descriptor_opens_only_with_its_key_and_unchanged():
    blob = descriptors.make_descriptor("ab" * 16, TIME, keyring())
    read = descriptors.parse_descriptor(blob, "mem")
    assert (read.id, read.encrypted, read.created) == ("ab" * 16, True, TIME)
    descriptors.check_seal(read, keyring(), "mem")
    with pytest.raises(Damaged):
        descriptors.check_seal(read, Keyring(bytes(32), encrypted=True), "mem")
    weakened = descriptors.parse_descriptor(canonical({**read.document, "encryption": "none"}), "mem")
    with pytest.raises(Damaged):
        descriptors.check_seal(weakened, keyring(), "mem")


@pytest.mark.parametrize("blob", [b"", b"{}", b"[1]", b"\xff", b'{"program":"other"}', b"x" * 100_000])
def test_what_another_program_wrote_is_refused(blob):
    with pytest.raises(Refused, match="not a rokctl repository"):
        descriptors.parse_descriptor(blob, "mem")


def test_a_newer_repository_format_is_refused():
    with pytest.raises(Refused, match="format 2"):
        descriptors.parse_descriptor(b'{"program":"rokctl","format":2}', "mem")
