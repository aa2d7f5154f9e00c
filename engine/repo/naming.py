"""How people name objects and versions: `BUCKET/OBJECT@VERSION`."""

import re
import unicodedata
from typing import Final

from engine.errors import Refused
from engine.values import dataclass

NAME_LIMIT: Final = 255  # bytes of UTF-8
_PREFIX: Final = re.compile(r"[0-9a-f]{4,32}")
LATEST: Final = "latest"


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """A named series of versions in a bucket."""

    bucket: str
    name: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.name}"


@dataclass(frozen=True, slots=True)
class VersionReference:
    """An object and which of its versions: an id, a unique prefix of one, or None for the newest."""

    object: ObjectName
    version: str | None

    def __str__(self) -> str:
        return f"{self.object}@{self.version or LATEST}"


def parse_object(text: str) -> ObjectName:
    """`BUCKET/OBJECT`. Raises Refused."""
    bucket, slash, name = text.partition("/")
    if not slash:
        raise Refused(f"{text!r} names no object", hint="write it as BUCKET/OBJECT")
    return ObjectName(check_part("bucket", bucket), check_part("object", name))


def parse_bucket_or_object(text: str) -> tuple[str, str | None]:
    """`BUCKET` or `BUCKET/OBJECT`. Raises Refused."""
    if "/" not in text:
        return check_part("bucket", text), None
    parsed = parse_object(text)
    return parsed.bucket, parsed.name


def parse_reference(text: str) -> VersionReference:
    """`BUCKET/OBJECT`, `BUCKET/OBJECT@latest` or `BUCKET/OBJECT@VERSION`. Raises Refused."""
    name, at, version = text.partition("@")
    parsed = parse_object(name)
    if not at or version == LATEST:
        return VersionReference(parsed, None)
    if not _PREFIX.fullmatch(version):
        raise Refused(
            f"{version!r} is not a version", hint="give its id, at least its first 4 hexadecimal digits, or 'latest'"
        )
    return VersionReference(parsed, version)


def check_part(kind: str, text: str) -> str:
    """The name of a bucket or an object in normal form (NFC). Any script and emoji are fine. Raises Refused."""
    name = unicodedata.normalize("NFC", text)
    problem = ""
    if not name or name in (".", ".."):
        problem = "it is empty" if not name else "it means a folder"
    elif name != name.strip():
        problem = "it starts or ends with white space"
    elif "/" in name or "@" in name:
        problem = "it holds '/' or '@', which separate names"
    elif any(unicodedata.category(character) in ("Cc", "Cs", "Co", "Zl", "Zp") for character in name):
        problem = "it holds a control character"
    elif len(name.encode()) > NAME_LIMIT:
        problem = f"it is longer than {NAME_LIMIT} bytes"
    if problem:
        raise Refused(f"{text!r} cannot be the name of a {kind}: {problem}", hint="write it as BUCKET/OBJECT")
    return name
