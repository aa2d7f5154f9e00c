"""Store URLs: a path, `file:///PATH`, or `s3://BUCKET/PREFIX?endpoint=…&region=…&ca=…&storage_class=…&profile=…`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from engine.clock import Clock
from engine.errors import NotFound, Refused
from engine.store.base import Store, is_key
from engine.store.directory import DirectoryStore
from engine.values import dataclass

_FORMS: Final = "write it as /PATH, file:///PATH or s3://BUCKET/PREFIX?endpoint=https://HOST"
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")
_LATER: Final = {"gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
_PARAMETERS: Final = ("endpoint", "region", "ca", "storage_class", "profile")
_SLOW_CLASSES: Final = {"GLACIER", "DEEP_ARCHIVE"}


@dataclass(frozen=True, slots=True)
class DirectoryLocation:
    """A directory of this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class S3Location:
    """A prefix of a bucket, and how to reach it. None: by the ordinary chain of settings."""

    bucket: str
    prefix: str
    endpoint: str | None = None
    region: str | None = None
    ca: str | None = None
    storage_class: str | None = None
    profile: str | None = None


Location = DirectoryLocation | S3Location


def open_store(url: str, *, environment: Mapping[str, str], clock: Clock, create: bool = False) -> Store:
    """The store at `url`. A directory is made if `create` says so; a bucket never is.

    Credentials of S3 come by boto3's own chain, not in the URL. Raises Refused for a URL that is none, before anything is
    touched; NotFound for a directory or a CA file that does not exist. The network is first used by the first call.
    """
    location = parse_url(url)
    if isinstance(location, DirectoryLocation):
        return DirectoryStore(location.path, create=create)
    if location.ca is not None and not Path(location.ca).is_file():
        raise NotFound(f"file {location.ca} does not exist, which the s3 URL names as ca", hint="correct the path")
    from engine.store.s3 import open_s3  # loads botocore, which takes a third of a second

    return open_s3(
        location.bucket,
        location.prefix,
        url=url,
        # boto3 finds these itself; but only here can it be told that such a server wants the bucket in the path.
        endpoint=location.endpoint or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"),
        region=location.region or environment.get("AWS_REGION"),
        ca=location.ca,
        storage_class=location.storage_class,
        profile=location.profile,
    )


def parse_url(url: str) -> Location:
    """Where the store is. Raises Refused, saying what is wrong and never repeating a secret."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return _parse_path(url)
    kind = scheme[1].lower()
    # A password may hold any of the signs that take a URL apart: so this comes first, and such a URL is never repeated.
    if "@" in url and (kind != "file" or "@" in url.removeprefix("file://").partition("/")[0]):
        raise Refused(
            f"a store URL must not hold credentials, nor an '@', as this {kind} URL does",
            hint="give them by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE; write any other '@' as %40",
        )
    shown = url.partition("?")[0]  # an endpoint may hide an '@' as %40
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Refused(f"{shown!r} is not a store URL", hint=_FORMS) from None
    if "#" in url:
        raise Refused(f"{shown!r} holds a '#'", hint="write it as %23")
    match kind:
        case "file":
            return _parse_file(shown, parts)
        case "s3":
            return _parse_s3(shown, parts)
        case later if later in _LATER:
            raise Refused(f"{_LATER[later]} is not supported yet, as {shown!r} asks", hint=_FORMS)
        case unknown:
            raise Refused(f"{unknown!r} is no kind of store, in {shown!r}", hint=_FORMS)


def _parse_path(text: str) -> DirectoryLocation:
    if not text.strip() or "\0" in text:
        raise Refused(f"{text!r} is not a store URL", hint=_FORMS)
    if text.startswith(("s3:", "file:", *(f"{name}:" for name in _LATER))):
        raise Refused(f"{text!r} is not a store URL", hint=_FORMS + "; a path that looks like it begins with ./")
    return DirectoryLocation(Path(text))


def _parse_file(shown: str, parts: SplitResult) -> DirectoryLocation:
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or not path.startswith("/") or "\0" in path:
        raise Refused(
            f"{shown!r} is not a file URL", hint="write it as file:///PATH, with three slashes and no parameters"
        )
    return DirectoryLocation(Path(path))


def _parse_s3(shown: str, parts: SplitResult) -> S3Location:
    if not _BUCKET.fullmatch(parts.netloc):
        raise Refused(f"{parts.netloc!r} cannot be a bucket, in {shown!r}", hint=_FORMS)
    prefix = unquote(parts.path).strip("/")
    if prefix and not is_key(prefix):
        raise Refused(
            f"{prefix!r} cannot be a prefix, in {shown!r}",
            hint="use letters, digits, '-', '_', '.' and '/', no part empty or starting with '.'",
        )
    parameters = _parse_parameters(parts.query)
    return S3Location(
        parts.netloc,
        prefix,
        endpoint=_check_endpoint(parameters.get("endpoint")),
        region=_check_word("region", parameters.get("region")),
        ca=parameters.get("ca"),
        storage_class=_check_storage_class(_check_word("storage_class", parameters.get("storage_class"))),
        profile=_check_word("profile", parameters.get("profile")),
    )


def _parse_parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _PARAMETERS:
            raise Refused(f"{name!r} is no parameter of an s3 URL", hint=f"known are {', '.join(_PARAMETERS)}")
        if not value or name in parameters:
            raise Refused(f"the s3 URL gives {name} {'twice' if value else 'no value'}", hint=f"write {name}=… once")
        parameters[name] = value
    return parameters


def _check_endpoint(endpoint: str | None) -> str | None:
    if endpoint is None:
        return None
    try:
        parts = urlsplit(endpoint)
        usable = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        usable = False
    if not usable or "@" in endpoint or parts.query or parts.fragment:
        # Not repeated: it may hold a password.
        raise Refused(
            "the endpoint of the s3 URL is not usable", hint="write endpoint=https://HOST or https://HOST:PORT"
        )
    return endpoint


def _check_word(name: str, value: str | None) -> str | None:
    if value is not None and not _WORD.fullmatch(value):
        raise Refused(f"{value!r} cannot be a {name} of an s3 URL", hint="use letters, digits, '-' and '_'")
    return value


def _check_storage_class(value: str | None) -> str | None:
    if value in _SLOW_CLASSES:
        raise Refused(
            f"blobs of storage class {value} cannot be read at once, as a restore must",
            hint="use GLACIER_IR or STANDARD_IA",
        )
    return value
