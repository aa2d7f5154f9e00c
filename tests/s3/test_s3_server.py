"""The S3 store against a real server: credentials, buckets, addresses, and a server that is not there."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from engine.clock import SystemClock
from engine.errors import NotFound, Refused, Unreachable
from engine.store.retry import Retrying
from engine.store.url import open_store

pytestmark = pytest.mark.s3


@pytest.fixture
def prefix(request):
    return f"server/{request.node.originalname}"


@pytest.fixture
def url(seaweedfs, s3_bucket, s3_environment, prefix):
    return f"s3://{s3_bucket}/{prefix}?endpoint={seaweedfs.endpoint}"


@pytest.fixture
def opened():
    stores = []

    def open_it(url, environment=None):
        stores.append(open_store(url, environment=environment or {}, clock=SystemClock()))
        return stores[-1]

    yield open_it
    for store in stores:
        store.close()


def test_a_store_is_opened_by_its_url_and_lies_under_its_prefix(opened, url, s3_bucket, seaweedfs, prefix):
    store = opened(url)
    store.put("pack/1", b"body")
    assert store.url == url
    outer = opened(f"s3://{s3_bucket}?endpoint={seaweedfs.endpoint}")
    assert outer.get(f"{prefix}/pack/1") == b"body"
    assert [blob.key for blob in outer.list(f"{prefix}/")] == [f"{prefix}/pack/1"]


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_the_endpoint_may_come_from_the_environment(opened, url, s3_bucket, seaweedfs, prefix, name):
    opened(url).put("pack/1", b"body")
    assert opened(f"s3://{s3_bucket}/{prefix}", {name: seaweedfs.endpoint}).get("pack/1") == b"body"


def test_a_wrong_secret_is_refused_and_not_shown(opened, url, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame")
    with pytest.raises(Refused, match="SignatureDoesNotMatch") as caught:
        opened(url).get("a")
    shown = caught.value.message + caught.value.hint
    assert "sesame" not in shown
    assert os.environ["AWS_ACCESS_KEY_ID"] not in shown


def test_an_unknown_user_is_refused_and_not_shown(opened, url, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "password-in-disguise")
    with pytest.raises(Refused) as caught:
        list(opened(url).list(""))
    assert "password-in-disguise" not in caught.value.message + caught.value.hint


def test_no_credentials_are_asked_for(opened, url, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Refused) as caught:
        opened(url).get("a")
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def test_a_missing_profile_is_refused_when_the_store_is_opened(opened, url, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(Refused, match="nobody"):
        opened(url)


def test_a_missing_bucket_is_named(opened, seaweedfs, s3_environment):
    store = opened(f"s3://elsewhere?endpoint={seaweedfs.endpoint}")
    for call in (lambda: store.get("a"), lambda: list(store.list("")), store.now, lambda: store.delete("a")):
        with pytest.raises(NotFound, match="bucket elsewhere"):
            call()


def test_a_closed_port_is_unreachable(opened, s3_environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and never listening
        store = opened(f"s3://bucket?endpoint=http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Unreachable, match="s3://bucket"):
            store.put("a", b"1")


def test_a_garbled_body_is_refused_by_the_server_as_worth_another_try(opened, url, monkeypatch):
    store = opened(url)
    monkeypatch.setattr("engine.store.s3.hashlib.md5", lambda body, **how: __import__("hashlib").new("md5", b"other"))
    with pytest.raises(Unreachable, match="BadDigest"):
        store.put("garbled", b"body")


def test_boto3_sends_each_request_once(opened, url):
    store = opened(url)
    sent = []

    def garble(request, **rest):
        sent.append(request)
        raise ConnectionClosedError(endpoint_url=request.url)

    store._client.meta.events.register("before-send.s3.PutObject", garble)
    with pytest.raises(Unreachable):
        store.create("once", b"1")
    assert len(sent) == 1


def test_a_create_whose_answer_was_lost_on_the_way_is_found_to_be_ours(opened, url):
    store = opened(url)
    lost = []

    def lose(**answer):
        if not lost:
            lost.append(answer)
            raise ReadTimeoutError(endpoint_url="http://host")

    store._client.meta.events.register("before-parse.s3.PutObject", lose)
    Retrying(store, SystemClock(), os.urandom).create("versions/lost", b"mine")
    assert lost
    assert store.get("versions/lost") == b"mine"


def test_more_threads_than_connections_are_served(opened, url):
    store = opened(url)
    with ThreadPoolExecutor(48) as threads:
        list(threads.map(lambda number: store.put(f"many/{number}", b"%d" % number), range(96)))
    assert len([*store.list("many/")]) == 96


def test_opening_a_directory_loads_no_boto(tmp_path):
    program = (
        "import sys; from engine.store.url import open_store; from engine.clock import SystemClock;"
        f"open_store({str(tmp_path)!r}, environment={{}}, clock=SystemClock());"
        "sys.exit(any(name.startswith('boto') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
