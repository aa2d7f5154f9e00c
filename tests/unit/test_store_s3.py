"""What the answers of S3 servers mean, by a client that gives them; the real server is in tests/s3."""

import base64
import hashlib
import os
from datetime import UTC, datetime
from io import BytesIO

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import (
    ConnectionClosedError,
    EndpointConnectionError,
    NoCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber
from urllib3 import HTTPResponse

from engine.errors import Failed, NotFound, OutOfSpace, Refused, RokError, Unreachable
from engine.store.base import BlobExists, NoSuchBlob
from engine.store.s3 import EXPECT_FROM, STORAGE_CLASS_FROM, S3Store, open_s3
from engine.store.url import open_store
from tests.manual_clock import ManualClock

pytestmark = pytest.mark.slow

KEY_ID = "AKIASESAME"


@pytest.fixture
def client():
    made = boto3.client("s3", region_name="us-east-1", aws_access_key_id=KEY_ID, aws_secret_access_key="sesame")
    yield made
    made.close()


@pytest.fixture
def server(client):
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def store(client):
    return S3Store(client, "bucket", "pre/fix", url="s3://bucket/pre/fix")


OPERATIONS = {
    "put_object": lambda store: store.put("a", b"1"),
    "get_object": lambda store: store.get("a"),
    "head_object": lambda store: store.stat("a"),
    "delete_object": lambda store: store.delete("a"),
    "list_objects_v2": lambda store: list(store.list("a/")),
    "head_bucket": lambda store: store.now(),
}

ANSWERS = [
    (403, "AccessDenied", Refused),
    (403, "InvalidAccessKeyId", Refused),
    (403, "SignatureDoesNotMatch", Refused),
    (403, "403", Refused),
    (401, "Unauthorized", Refused),
    (400, "ExpiredToken", Refused),
    (403, "RequestTimeTooSkewed", Refused),
    (301, "PermanentRedirect", Refused),
    (400, "AuthorizationHeaderMalformed", Refused),
    (404, "NoSuchBucket", NotFound),
    (500, "InternalError", Unreachable),
    (503, "SlowDown", Unreachable),
    (502, "502", Unreachable),
    (429, "TooManyRequests", Unreachable),
    (400, "RequestTimeout", Unreachable),
    (409, "OperationAborted", Unreachable),
    (400, "BadDigest", Unreachable),
    (507, "InsufficientStorage", OutOfSpace),
    (403, "QuotaExceeded", OutOfSpace),
    (400, "XMinioAdminBucketQuotaExceeded", OutOfSpace),
    (501, "NotImplemented", Failed),
    (400, "InvalidArgument", Failed),
]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    ("status", "code", "expected"), ANSWERS, ids=[f"{answer[0]} {answer[1]}" for answer in ANSWERS]
)
def test_a_refusal_says_what_to_do(store, server, operation, status, code, expected):
    server.add_client_error(operation, code, f"what of {KEY_ID}?", status)
    with pytest.raises(RokError) as caught:
        OPERATIONS[operation](store)
    assert type(caught.value) is expected
    assert "s3://bucket/pre/fix" in caught.value.message
    assert caught.value.hint or expected is Failed
    if expected is Refused:
        assert KEY_ID not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("code", ["NoSuchKey", "404"])
@pytest.mark.parametrize("operation", ["get_object", "head_object"])
def test_a_missing_blob_is_no_missing_bucket(store, server, operation, code):
    server.add_client_error(operation, code, "", 404)
    with pytest.raises(NoSuchBlob, match="a"):
        OPERATIONS[operation](store)


def test_a_missing_bucket_is_found_out_where_only_the_status_tells(store, server):
    server.add_client_error("head_bucket", "404", "Not Found", 404)
    with pytest.raises(NotFound, match="bucket bucket") as caught:
        store.now()
    assert not isinstance(caught.value, NoSuchBlob)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(412, "PreconditionFailed", BlobExists), (409, "ConditionalRequestConflict", Unreachable)],
)
def test_a_create_that_is_refused(store, server, status, code, expected):
    server.add_client_error("put_object", code, "", status)
    with pytest.raises(expected):
        store.create("a", b"1")


ERRORS = [
    (EndpointConnectionError(endpoint_url="https://host"), Unreachable),
    (ConnectionClosedError(endpoint_url="https://host"), Unreachable),
    (ReadTimeoutError(endpoint_url="https://host"), Unreachable),
    (ResponseStreamingError(error="broken pipe"), Unreachable),
    (SSLError(endpoint_url="https://host", error="EOF occurred in violation of protocol"), Unreachable),
    (SSLError(endpoint_url="https://host", error="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), Refused),
    (NoCredentialsError(), Refused),
    (ProfileNotFound(profile="x"), Refused),
]


@pytest.mark.parametrize(("error", "expected"), ERRORS, ids=[type(error[0]).__name__ for error in ERRORS])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_answer_says_what_to_do(store, client, operation, error, expected):
    def fail(**request):
        raise error

    client.meta.events.register_first("before-send.s3.*", fail)
    with pytest.raises(RokError) as caught:
        OPERATIONS[operation](store)
    assert type(caught.value) is expected
    assert caught.value.hint
    assert "s3://bucket/pre/fix" in caught.value.message


def digest(body):
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def test_a_body_is_sent_with_its_digest(store, server):
    sent = {"Bucket": "bucket", "Key": "pre/fix/a", "Body": b"body", "ContentMD5": digest(b"body")}
    server.add_response("put_object", {}, sent)
    server.add_response("put_object", {}, sent | {"IfNoneMatch": "*"})
    store.put("a", b"body")
    store.create("a", b"body")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("length", [0, 1, EXPECT_FROM - 1, EXPECT_FROM])
def test_a_body_arrives_whole_and_waits_for_the_servers_word_only_if_it_is_large(monkeypatch, kind, length):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    body, sent = os.urandom(length), []

    def answer(request, **_):
        content = request.body if isinstance(request.body, bytes | bytearray) else request.body.read()
        sent.append((bytes(content), request.headers.get("Expect"), request.headers["Content-Length"]))
        return AWSResponse(request.url, 200, {}, HTTPResponse(BytesIO(), preload_content=False))

    store = open_s3("bucket", "", url="s3://bucket", endpoint="http://127.0.0.1:1")
    store._client.meta.events.register("before-send.s3", answer)
    store.put("a", kind(body))
    store.close()
    [(content, expect, announced)] = sent
    assert (content == body, int(announced)) == (True, length)
    assert (expect is not None) == (length >= EXPECT_FROM)


def test_only_large_blobs_go_to_the_storage_class(client, server):
    store = S3Store(client, "bucket", "", url="s3://bucket", storage_class="STANDARD_IA")
    small, large = bytes(STORAGE_CLASS_FROM - 1), bytes(STORAGE_CLASS_FROM)
    sent = {"Bucket": "bucket", "Key": "a", "Body": ANY, "ContentMD5": ANY}
    server.add_response("put_object", {}, sent)
    server.add_response("put_object", {}, sent | {"StorageClass": "STANDARD_IA"})
    store.put("a", small)
    store.put("a", large)


def stream(body, announced):
    return StreamingBody(BytesIO(body), announced)


def test_a_body_that_ends_early_is_not_taken_for_the_blob(store, server):
    server.add_response("get_object", {"Body": stream(b"012", 10)})
    with pytest.raises(Unreachable):
        store.get("a")
    server.add_response("get_object", {"Body": stream(b"012", 10), "ContentRange": "bytes 0-9/20"})
    with pytest.raises(Unreachable):
        store.read_into("a", 0, memoryview(bytearray(10)))


def test_a_server_that_ignores_ranges_is_coped_with(store, server):
    server.add_response("get_object", {"Body": stream(b"0123456789", 10)})
    assert store.get_range("a", 3, 4) == b"3456"
    server.add_response("get_object", {"Body": stream(b"0123456789", 10)})
    memory = memoryview(bytearray(4))
    assert store.read_into("a", 3, memory) == 4
    assert memory == b"3456"


def test_a_listing_is_sorted_across_pages_and_skips_what_is_no_key(store, server):
    moment = datetime(2030, 1, 1, 12, 0, 0, 999000, tzinfo=UTC)

    def page(*keys):
        return {"Contents": [{"Key": f"pre/fix/{key}", "Size": 1, "LastModified": moment} for key in keys]}

    # SeaweedFS sorts folder by folder
    server.add_response(
        "list_objects_v2", page("", "a/b", ".odd") | {"IsTruncated": True, "NextContinuationToken": "t"}
    )
    server.add_response("list_objects_v2", page("a-b", "a b"))
    blobs = [*store.list("")]
    assert [blob.key for blob in blobs] == ["a-b", "a/b"]
    assert blobs[0].modified == datetime(2030, 1, 1, 12, tzinfo=UTC)


def test_the_clock_is_the_date_of_a_response(store, server):
    headers = {"date": "Tue, 01 Jan 2030 13:00:00 +0100"}
    server.add_response("head_bucket", {"ResponseMetadata": {"HTTPHeaders": headers, "HTTPStatusCode": 200}})
    now = store.now()
    assert (now, now.tzinfo) == (datetime(2030, 1, 1, 12, tzinfo=UTC), UTC)


def test_a_response_without_a_date_is_an_error(store, server):
    server.add_response("head_bucket", {"ResponseMetadata": {"HTTPHeaders": {}, "HTTPStatusCode": 200}})
    with pytest.raises(Failed, match="Date"):
        store.now()


def test_an_empty_range_downloads_nothing_but_asks_for_the_blob(store, server):
    server.add_response("head_object", {"ContentLength": 10, "LastModified": datetime(2030, 1, 1, tzinfo=UTC)})
    assert store.get_range("a", 3, 0) == b""


@pytest.mark.parametrize(
    ("url", "environment", "sent_to"),
    [
        ("s3://bucket/p?endpoint=https://store.example", {}, "https://store.example/bucket/p/a"),
        ("s3://bucket/p", {"AWS_ENDPOINT_URL_S3": "https://env.example"}, "https://env.example/bucket/p/a"),
        ("s3://bucket/p", {}, "https://bucket.s3.amazonaws.com/p/a"),
        ("s3://bucket", {"AWS_REGION": "eu-west-1"}, "https://bucket.s3.eu-west-1.amazonaws.com/a"),
        ("s3://bucket?region=eu-west-2", {"AWS_REGION": "eu-west-1"}, "https://bucket.s3.eu-west-2.amazonaws.com/a"),
    ],
)
def test_a_bucket_is_in_the_path_for_all_servers_but_amazon(url, environment, sent_to, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    opened = open_store(url, environment=environment, clock=ManualClock())
    sent = []

    def stop(request, **rest):
        sent.append(request.url)
        raise ConnectionClosedError(endpoint_url=request.url)

    opened._client.meta.events.register("before-send.s3.*", stop)
    with pytest.raises(Unreachable):
        opened.get("a")
    opened.close()
    assert sent == [sent_to]


def test_two_stores_of_one_process_may_have_credentials_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "credentials").write_text(
        "[second]\naws_access_key_id = SECOND\naws_secret_access_key = sesame\n", encoding="utf-8"
    )
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FIRST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")

    def key_of(url):
        store = open_store(url, environment={}, clock=ManualClock())
        credentials = store._client._request_signer._credentials
        store.close()
        return credentials.access_key

    assert key_of("s3://bucket?endpoint=http://127.0.0.1:9") == "FIRST"
    assert key_of("s3://bucket?endpoint=http://127.0.0.1:9&profile=second") == "SECOND"
    with pytest.raises(Refused, match="third"):
        key_of("s3://bucket?profile=third")
