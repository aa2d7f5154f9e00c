"""Whatever a configuration, a URL, a record of a pool or a tool of the node says: an error that names it, or a value."""

import io
import json
import os
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.config import known_keys, read_config
from engine.device import records
from engine.device.lvmreport import parse_report, parse_volumes
from engine.device.probe import parse_signatures
from engine.device.thinxml import read_delta, read_mappings
from engine.errors import Damaged, Failed, NotFound, Refused
from engine.extent import Extent
from engine.store.url import parse_url
from tests.fuzz import as_json, fuzzed, scalars, spoiled, twisted

CONFIG = """\
repository:
  url: s3://bucket/prefix?endpoint=https://host
  password_file: secret
push:
  bucket: home
  compression: 3
  labels: {team: research}
limits:
  read: 50MiB
node: node1
state_directory: /var/lib/rokctl
"""


def read(path, text):
    path.write_bytes(text)
    try:
        config = read_config({}, path)
    except (Refused, NotFound) as error:
        assert len(error.message) < 2000  # noqa: PT017 - most are read
        return
    for value in (config.repository.url, config.repository.password_file, config.node, config.state_directory):
        assert b"\0" not in os.fsencode(value or "")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "config.yaml"


@given(spoiled(CONFIG.encode()))
@fuzzed()
def test_a_spoiled_configuration_is_refused_or_read(path, text):
    read(path, text)


@given(st.sampled_from(known_keys()), scalars | st.lists(scalars, max_size=2))
@fuzzed()
@example("limits.read", "x" * 5000)
def test_a_configuration_with_any_value_is_refused_or_read(path, key, value):
    section, _, name = key.rpartition(".")
    document = {section: {name: value}} if section else {name: value}
    read(path, json.dumps(document).encode())


HOSTILE = [
    "node: 2026-13-45", "node: !!int x", "node: !!float x", "node: !!timestamp x", "node: !!bool x", "node: !!binary x",
    "node: !!null x", "node: !!python/object:os.system {}", "node: " + "9" * 5000, "node: &a [*a]", "node: 1:30", "node: .nan",
    "node: '\\0'", 'node: "\\0"', 'node: "\\ud800"', 'repository: {password_file: "a\\0b"}', "node: {<<: [&a {b: c}, *a]}",
    "push: {labels: &a {x: *a}}", "push: {labels: {<<: 1}}", "push: &p {labels: {<<: *p}}", "push: {labels: {1: 2}}",
    "push: {labels: !!omap [a: b]}", "push: {workers: 0x10}", "limits: {read: 9e999}", "limits: {read: .inf}",
    "limits: {read: 1" + "0" * 30 + "}", "node: *missing", "node: !!set {a}", "node: !<tag:yaml.org,2002:str> x",
    "node: !!pairs [a: b]", "[" * 500, "{a: " * 500, "? [a]\n: b", "%YAML 9.9\n---\nnode: x", "node: x\n---\nnode: y",
    "\ufeffnode: x", "\t", "a: b: c", "!!map",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:30]))
def test_yaml_of_every_odd_kind_is_refused_or_read(path, text):
    read(path, text.encode())


def test_a_value_that_repeats_itself_without_end_is_refused_in_few_words(path):
    lists = "".join(f"    - &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    read(path, f"push:\n  labels:\n    - &a0 [x]\n{lists}".encode())


@given(spoiled(b"s3://bucket/prefix/x?endpoint=https://host:8333&region=eu-1&ca=/etc/ca.pem&storage_class=STANDARD_IA"))
@fuzzed(2)
def test_a_spoiled_url_is_refused_or_is_a_place(body):
    try_url(body.decode("utf-8", "surrogateescape"))


@given(
    st.text(max_size=40),
    st.sampled_from(["", "s3://", "file://", "file:///", "s3://bucket/", "s3://bucket?endpoint=", "gs://", "://"]),
)
@fuzzed(2)
@example("[::1", "s3://")
@example("http://host:99999", "s3://bucket?endpoint=")
@example("http://[", "s3://bucket?endpoint=")
@example("\u2100", "s3://")
def test_any_text_is_refused_or_is_a_place(text, start):
    try_url(start + text)


def try_url(url):
    try:
        parse_url(url)
    except Refused as error:
        assert error.hint  # noqa: PT017 - some are read


DELTA = b"""<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="0"><diff left="2" right="3">
<same begin="0" length="4"/><different begin="4" length="2"/><right_only begin="6" length="1"/><left_only begin="9" length="3"/>
</diff></superblock>"""
DUMP = b"""<superblock uuid="" time="0" transaction="1" version="2" data_block_size="128" nr_data_blocks="2048"><def name="17">
<range_mapping origin_begin="0" data_begin="100" length="3" time="0"/></def><device dev_id="1" mapped_blocks="4" transaction="0">
<ref name="17"/><single_mapping origin_block="3" data_block="7" time="0"/></device></superblock>"""
NUMBERS = st.sampled_from(
    [
        b"0",
        b"-1",
        b"1",
        b"65536",
        b"%d" % 2**64,
        b"9" * 5000,
        b"x",
        b"",
        b"1.5",
        b"+2",
        b" 3",
        b"1_0",
        "\u0663".encode(),
    ]
)


@st.composite
def twisted_xml(draw, xml):
    parts = xml.split(b'"')
    for _ in range(draw(st.integers(1, 2))):
        parts[draw(st.integers(0, len(parts) // 2 - 1)) * 2 + 1] = draw(NUMBERS)
    return b'"'.join(parts)


@given(spoiled(DELTA) | twisted_xml(DELTA), st.integers(0, 40), st.integers(1, 40))
@fuzzed(2)
def test_a_hostile_delta_fails_or_lies_inside_the_volume(xml, old_blocks, blocks):
    old_size, size = old_blocks * 65536 - min(old_blocks, 1) * 512, blocks * 65536
    try:
        changes = list(read_delta(io.BytesIO(xml), left=2, right=3, old_size=old_size, size=size))
    except Failed:
        return
    check_inside([change.extent for change in changes], size)


@given(spoiled(DUMP) | twisted_xml(DUMP), st.integers(1, 20))
@fuzzed(2)
@example(b'<!DOCTYPE x [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><superblock data_block_size="&b;"></superblock>', 1)
@example(b'<device dev_id="1"><single_mapping origin_block="3" data_block="7"/></device>', 1)
def test_hostile_mappings_fail_or_lie_inside_the_volume(xml, blocks):
    try:
        extents = list(read_mappings(io.BytesIO(xml), thin_id=1, size=blocks * 65536))
    except Failed:
        return
    check_inside(extents, blocks * 65536)


def check_inside(extents, size):
    assert all(isinstance(extent, Extent) and extent.end <= size for extent in extents)
    assert all(first.end <= second.start for first, second in pairwise(extents))


ROW = {
    "vg_name": "vg0", "vg_uuid": "u", "vg_tags": "", "vg_extent_size": "4194304", "vg_free": "0",
    "lv_name": "tank", "lv_uuid": "v", "lv_path": "/dev/vg0/tank", "lv_size": "8388608", "lv_tags": "a,b",
    "lv_layout": "thin,pool", "lv_time": "1700000000", "lv_permissions": "writeable", "lv_active_locally": "active",
    "lv_suspended": "", "lv_device_open": "open", "lv_health_status": "", "pool_lv_uuid": "", "origin_uuid": "", "thin_id": "1",
    "chunk_size": "65536", "lv_metadata_size": "4194304", "metadata_lv_uuid": "m",
}  # fmt: skip


@given(
    twisted({"report": [{"lv": [ROW]}]})
    | twisted({"report": [{"lv": [ROW]}]}).map(lambda one: {"report": [{"lv": [one]}]})
)
@fuzzed(2)
@example({"report": [{"lv": [{**ROW, "lv_time": "9" * 30}]}]})
def test_a_hostile_report_of_lvm_fails_or_gives_volumes(document):
    try:
        for volume in parse_volumes(parse_report(as_json(document).decode(), "lv")):
            assert volume.full_name
            volume.device, volume.is_thin_pool  # noqa: B018 - they must be able to be asked for
    except Failed:
        return


@given(twisted({"signatures": [{"type": "ext4", "usage": "filesystem", "label": None}]}))
@fuzzed(0.5)
@example([])
def test_a_hostile_report_of_signatures_fails_or_gives_words(document):
    try:
        assert all(isinstance(words, str) for words in parse_signatures(as_json(document).decode()))
    except Failed:
        return


RECORDS = {
    records.read_pool: {"format": 1, "name": "p", "uuid": "u"},
    records.read_volume: {
        "format": 1,
        "uuid": "u",
        "created": "2026-11-24T08:00:00+00:00",
        "origin": None,
        "restoring": None,
    },
    records.read_group: {
        "format": 1,
        "uuid": "u",
        "sequence": 3,
        "created": "2026-11-24T08:00:00+00:00",
        "members": [{"volume": "v", "volume_uuid": "u", "name": "s", "uuid": "w"}],
    },
}


@given(
    st.sampled_from(list(RECORDS)).flatmap(
        lambda read: st.tuples(st.just(read), twisted(RECORDS[read]).map(as_json) | spoiled(as_json(RECORDS[read])))
    )
)
@fuzzed(0.5)
@example(
    (
        records.read_group,
        b'{"format":1,"sequence":Infinity,"created":"2026-11-24T08:00:00+00:00","members":[],"uuid":"u"}',
    )
)
@example((records.read_pool, b"[" * 100_000))
def test_a_hostile_record_of_a_pool_is_damaged_or_can_be_used(path, read_and_body):
    read, body = read_and_body
    path.write_bytes(body)
    try:
        record = read(path)
    except (Damaged, Refused):
        return
    records.write(path, record)
    assert read(path) == record
