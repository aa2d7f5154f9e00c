"""Store URLs: what they mean, and what is refused before anything is touched."""

from pathlib import Path

import pytest

from engine.errors import NotFound, Refused
from engine.store.directory import DirectoryStore
from engine.store.url import DirectoryLocation, S3Location, open_store, parse_url
from tests.manual_clock import ManualClock

GOOD = {
    "/srv/backup": DirectoryLocation(Path("/srv/backup")),
    "backup": DirectoryLocation(Path("backup")),
    "./s3:odd": DirectoryLocation(Path("s3:odd")),
    "C:odd": DirectoryLocation(Path("C:odd")),
    "file:///srv/backup": DirectoryLocation(Path("/srv/backup")),
    "FILE:///srv/backup": DirectoryLocation(Path("/srv/backup")),
    "file://localhost/srv/my%20backup": DirectoryLocation(Path("/srv/my backup")),
    "file:///srv/a@b": DirectoryLocation(Path("/srv/a@b")),
    "s3://bucket": S3Location("bucket", ""),
    "s3://bucket/": S3Location("bucket", ""),
    "s3://bucket/a/b/": S3Location("bucket", "a/b"),
    "s3://Old_Bucket.name/a": S3Location("Old_Bucket.name", "a"),
    "s3://bucket/a?endpoint=https://host:9000": S3Location("bucket", "a", endpoint="https://host:9000"),
    "s3://bucket?endpoint=https%3A%2F%2Fhost&region=eu-west-1": S3Location(
        "bucket", "", endpoint="https://host", region="eu-west-1"
    ),
    "s3://bucket/a?profile=second": S3Location("bucket", "a", profile="second"),
    "s3://bucket/a?ca=/etc/ca.pem&storage_class=STANDARD_IA": S3Location(
        "bucket", "a", ca="/etc/ca.pem", storage_class="STANDARD_IA"
    ),
}


@pytest.mark.parametrize("url", GOOD)
def test_a_url_says_where_the_store_is(url):
    assert parse_url(url) == GOOD[url]


BAD = [
    "",
    "  ",
    "a\0b",
    "file://host/srv",
    "file://srv",
    "file:///srv?create=1",
    "file:/srv",
    "s3:bucket",
    "s3:https://host/bucket",
    "s3://",
    "s3:///prefix",
    "s3://ab",
    "s3://bucket:9000/a",
    "s3://[bucket/a",
    "s3://bucket/a//b",
    "s3://bucket/../b",
    "s3://bucket/ä",
    "s3://bucket/a#b",
    "s3://bucket?colour=blue",
    "s3://bucket?region=",
    "s3://bucket?region=a&region=b",
    "s3://bucket?region=a%0Ab",
    "s3://bucket?endpoint=host:9000",
    "s3://bucket?endpoint=ftp://host",
    "s3://bucket?endpoint=https://",
    "s3://bucket?endpoint=https://host:port",
    "s3://bucket?endpoint=https://host/%3Fa=b",
    "s3://bucket?storage_class=GLACIER",
    "s3://bucket?profile=",
    "s3://bucket?profile=a/b",
    "gs://bucket/a",
    "az://container/a",
    "gs:bucket:/a",
    "http://host/a",
    "sftp://host/a",
]


@pytest.mark.parametrize("url", BAD)
def test_a_malformed_url_is_refused_with_a_hint(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused) as caught:
        open_store(url, environment={}, clock=ManualClock(), create=True)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:sesame@bucket/a",
        "s3://key:sesame#1@bucket/a",
        "s3://key:sesame?1@bucket/a",
        "s3://key:ses/ame@bucket/a",
        "s3://bucket/a?endpoint=https://key:sesame@host",
        "s3://bucket/a?endpoint=https://key:sesame%40host&region=",
        "s3://bucket/a?endpoint=https://key:sesame%40host",
        "file://key:sesame@host/a",
        "gs://key:sesame@bucket",
    ],
)
def test_a_secret_in_a_url_is_refused_and_never_repeated(url):
    with pytest.raises(Refused) as caught:
        parse_url(url)
    assert "sesame" not in caught.value.message + caught.value.hint + repr(caught.value.__cause__)


def test_a_kind_of_store_that_is_to_come_is_named():
    with pytest.raises(Refused, match="Google Cloud Storage is not supported yet"):
        parse_url("gs://bucket")


def test_an_unknown_parameter_is_told_the_known_ones():
    with pytest.raises(Refused, match="'proxy'") as caught:
        parse_url("s3://bucket?proxy=x")
    assert "endpoint, region, ca, storage_class, profile" in caught.value.hint


def test_a_directory_is_made_only_when_asked(tmp_path):
    url = f"file://{tmp_path}/store"
    with pytest.raises(NotFound):
        open_store(url, environment={}, clock=ManualClock())
    store = open_store(url, environment={}, clock=ManualClock(), create=True)
    assert isinstance(store, DirectoryStore)
    assert store.url == str(tmp_path / "store")
    store.close()


def test_a_ca_file_that_is_missing_is_found_out_before_anything_is_sent(tmp_path):
    with pytest.raises(NotFound, match=r"none\.pem"):
        open_store(f"s3://bucket?ca={tmp_path}/none.pem", environment={}, clock=ManualClock())
