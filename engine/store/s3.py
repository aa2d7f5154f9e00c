"""A store in a bucket of Amazon S3, Ceph RGW, SeaweedFS, or whatever else speaks S3.

Import this module only when such a store is opened: botocore takes longer to load than most commands to run.
"""

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.utils import determine_content_length

from engine.errors import Failed, NotFound, OutOfSpace, Refused, RokError, Unreachable
from engine.store.base import Blob, BlobExists, Buffer, NoSuchBlob, check_key, check_prefix, is_key
from engine.units import KIB, MIB

# Amazon bills a smaller blob of its cheaper classes as one of this size, so those stay in the default class.
STORAGE_CLASS_FROM: Final = 128 * KIB
# Larger bodies wait for the server's word to go on, a round trip more, so that its refusal comes before a body that it
# does not read to the end, which would look like a broken connection.
EXPECT_FROM: Final = MIB
_PIECE: Final = 256 * KIB

_CREDENTIAL_ERRORS: Final = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
    ProfileNotFound,
)
_CREDENTIALS_HINT: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_FULL: Final = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_DENIED: Final = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_MISDIRECTED: Final = {"PermanentRedirect", "AuthorizationHeaderMalformed", "InvalidBucketName", "InvalidStorageClass"}
_UNTRUSTED: Final = ("CERTIFICATE_VERIFY_FAILED", "[X509")  # the second: the CA file holds no certificate
_PASSING: Final = {
    "ConditionalRequestConflict", "OperationAborted", "SlowDown", "RequestTimeout", "Throttling", "TooManyRequests",
    "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch",  # garbled on the way
}  # fmt: skip


def open_s3(
    bucket: str,
    prefix: str,
    *,
    url: str,
    endpoint: str | None = None,
    region: str | None = None,
    ca: str | None = None,
    storage_class: str | None = None,
    profile: str | None = None,
    connections: int = 32,
    page_size: int = 1000,
) -> "S3Store":
    """The store under `prefix` of a bucket. Nothing is sent yet.

    Without `endpoint` it is Amazon's, or what AWS_ENDPOINT_URL_S3 or the profile says. Credentials come by boto3's chain, or
    from `profile` alone, so that two stores of one process may have different ones.
    Raises Refused when the profile or the CA file cannot be used.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        # Retrying tries again, and must know of every try: one repeated in here hides whether a create had succeeded.
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=connections,
        tcp_keepalive=True,
        # Else boto3 sends a trailer over HTTPS that Ceph up to Pacific at least refuses. We send Content-MD5 instead.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if endpoint else None,
        user_agent_extra="rokctl",
    )
    try:
        session = boto3.Session(profile_name=profile)
        client = session.client(
            "s3",
            endpoint_url=endpoint,
            region_name=region or session.region_name or "us-east-1",
            verify=ca,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise Refused(f"cannot open {url}: {error}", hint="check the profile, the region and the endpoint") from error
    client.meta.events.register_last("before-call.s3", _send_small_bodies_at_once)
    return S3Store(client, bucket, prefix, url=url, storage_class=storage_class, page_size=page_size)


class _Body(io.RawIOBase):
    """A body to send, which stays where it is: a copy would take the memory of a pack for each upload."""

    def __init__(self, body: Buffer) -> None:
        self._view = memoryview(body).cast("B")
        self._position = 0

    def __len__(self) -> int:
        return len(self._view)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        part = self._view[self._position : self._position + len(target)]
        target[: len(part)] = part
        self._position += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._view)}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position


def _send_small_bodies_at_once(params: Any, **_: object) -> None:
    length = determine_content_length(params["body"])
    if length is not None and length < EXPECT_FROM:
        params["headers"].pop("Expect", None)


class S3Store:
    """The store under `prefix` (empty, or without a `/` at its end) of `bucket`, through a boto3 client.

    `page_size` is how many keys a request of a listing asks for. Times have whole seconds: a HEAD has no more.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str,
        *,
        url: str,
        storage_class: str | None = None,
        page_size: int = 1000,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._url = url
        self._storage_class = storage_class
        self._page_size = page_size

    @property
    def url(self) -> str:
        """The URL that it was opened by."""
        return self._url

    def put(self, key: str, body: Buffer) -> None:
        """PutObject."""
        self._put("write", key, body)

    def create(self, key: str, body: Buffer) -> None:
        """PutObject with `If-None-Match: *`. Some servers ignore that, and overwrite: try before relying on it."""
        self._put("create", key, body, IfNoneMatch="*")

    def get(self, key: str) -> bytes:
        """GetObject."""
        with self._errors("read", key):
            response = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
            return _receive(response)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """GetObject with a range."""
        with self._range(key, offset, length) as stream:
            body: bytes = stream.read()  # raises when fewer bytes arrive than the header announced
        return body[:length]

    def read_into(self, key: str, offset: int, target: memoryview) -> int:
        """GetObject with a range, received in pieces: no second memory of that length is taken."""
        done = 0
        with self._range(key, offset, len(target)) as stream:
            while done < len(target) and (count := stream.readinto(target[done : done + _PIECE])):
                done += count
        return done

    @contextmanager
    def _range(self, key: str, offset: int, length: int) -> Iterator[Any]:
        """A stream of what the blob has from `offset` on, `length` bytes or more."""
        if length == 0:
            self.stat(key)  # there is no empty range in HTTP; but the blob must exist
            yield io.BytesIO()
            return
        wanted = f"bytes={offset}-{offset + length - 1}"
        with self._errors("read", key):
            try:
                response = self._client.get_object(Bucket=self._bucket, Key=self._name(key), Range=wanted)
            except ClientError as error:
                if _status(error) != 416:
                    raise
                response = {"Body": io.BytesIO(), "ContentRange": None}  # it begins at or after the end
            with closing(response["Body"]) as stream:
                if "ContentRange" not in response:  # a server may answer with all of it
                    stream.read(offset)
                yield stream

    def list(self, prefix: str) -> Iterator[Blob]:
        """ListObjectsV2, all pages before the first blob is given."""
        return self._listing(check_prefix(prefix))

    def keys(self, prefix: str) -> Mapping[str, int | None]:
        """The same, with all sizes: the server tells them anyway."""
        return {blob.key: blob.size for blob in self.list(prefix)}

    def stat(self, key: str) -> Blob:
        """HeadObject."""
        with self._errors("look at", key):
            response = self._client.head_object(Bucket=self._bucket, Key=self._name(key))
        return Blob(key, response["ContentLength"], _whole_second(response["LastModified"]).timestamp())

    def delete(self, key: str) -> None:
        """DeleteObject."""
        with self._errors("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def now(self) -> datetime:
        """The Date of a response."""
        with self._errors("read the clock of"):
            response = self._client.head_bucket(Bucket=self._bucket)
        date = response["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is None:
            raise Failed(f"{self.url} sends no Date with its responses, so its clock cannot be read")
        return parsedate_to_datetime(date).astimezone(UTC)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _put(self, doing: str, key: str, body: Buffer, **condition: str) -> None:
        name = self._name(key)
        sent = body if isinstance(body, bytes) else _Body(body)
        # Of all checksums this is the one that every server verifies. It saves the SHA-256 of the body over HTTPS.
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        if self._storage_class and len(sent) >= STORAGE_CLASS_FROM:
            condition["StorageClass"] = self._storage_class
        with self._errors(doing, key):
            self._client.put_object(
                Bucket=self._bucket, Key=name, Body=sent, ContentMD5=base64.b64encode(digest).decode(), **condition
            )

    def _listing(self, prefix: str) -> Iterator[Blob]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix, PaginationConfig={"PageSize": self._page_size}
        )
        found = []
        with self._errors("list", prefix):
            for page in pages:
                for entry in page.get("Contents", ()):
                    key = entry["Key"][len(self._prefix) :]
                    if is_key(key):
                        found.append(Blob(key, entry["Size"], _whole_second(entry["LastModified"]).timestamp()))
        # Amazon sorts by bytes; SeaweedFS folder by folder, so that `a/b` comes before `a-b`.
        found.sort(key=lambda blob: blob.key)
        yield from found

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    @contextmanager
    def _errors(self, doing: str, key: str = "") -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._answered(error, doing, key) from error
        except BotoCoreError as error:
            raise _unanswered(error, self._what(doing, key)) from error

    def _what(self, doing: str, key: str) -> str:
        return f"cannot {doing} {key} in {self.url}" if key else f"cannot {doing} {self.url}"

    def _answered(self, error: ClientError, doing: str, key: str) -> RokError:
        """What the server's refusal means."""
        code, status = _code(error), _status(error)
        if code == "NoSuchBucket" or (status == 404 and not key):
            return NotFound(
                f"bucket {self._bucket} of {self.url} does not exist", hint="create it, or correct its name"
            )
        if status == 404:
            return NoSuchBlob(f"{self.url} holds no {key}")
        if status == 412:
            return BlobExists(f"{self.url} already holds {key}")
        return _refusal(error, code, status, self._what(doing, key))


def _refusal(error: ClientError, code: str, status: int, what: str) -> RokError:
    """An error by the server's code, or by the status where it gave none."""
    # What a server writes about credentials may contain them; a Ceph access key can even be a password. So: the code.
    message = f"{what}: the server answered {code} ({status})"
    if code in _FULL or status == 507:
        return OutOfSpace(message, hint="raise the quota, or forget versions and run `rokctl repo gc`")
    if code == "RequestTimeTooSkewed":
        return Refused(message, hint="set the clock of this machine")
    if code in _DENIED or status in (401, 403):
        return Refused(message, hint="check the credentials, and what they may do in this bucket")
    if code in _MISDIRECTED or status in (301, 307):
        return Refused(message, hint="check bucket, region, endpoint and storage class in the URL")
    if code in _PASSING or status == 429 or (status >= 500 and status != 501):
        return Unreachable(message, hint="try again later")
    return Failed(f"{message}: {str(error.response['Error'].get('Message', ''))[:200]}")


def _unanswered(error: BotoCoreError, what: str) -> RokError:
    """An error of which no answer of the server tells."""
    if isinstance(error, _CREDENTIAL_ERRORS):
        return Refused(f"{what}: {_first_line(error)}", hint=_CREDENTIALS_HINT)
    if isinstance(error, SSLError) and any(sign in str(error) for sign in _UNTRUSTED):
        return Refused(
            f"{what}: the server's certificate cannot be verified",
            hint="add ca=FILE to the URL: a PEM file with the certificate of the authority that signed it",
        )
    if isinstance(error, NoConnectionError | HTTPClientError | IncompleteReadError):
        return Unreachable(f"{what}: {_first_line(error)}", hint="check the endpoint and the network, then try again")
    return Failed(f"{what}: {_first_line(error)}")


def _receive(response: Any) -> bytes:
    with closing(response["Body"]) as stream:
        body: bytes = stream.read()  # raises when fewer bytes arrive than the header announced
    return body


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "nothing"))


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"].get("HTTPStatusCode", 0))


def _first_line(error: BotoCoreError) -> str:
    return str(error).partition("\n")[0]


def _whole_second(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)
