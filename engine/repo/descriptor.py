"""The descriptor of a repository: what it is (rok-repository(5), THE DESCRIPTOR)."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from blake3 import blake3

from engine.errors import Damaged, Refused
from engine.repo.document import Fields, canonical, parse_object
from engine.repo.map import BLOCK, REGION
from engine.repo.seal import Keyring
from engine.units import KIB

DESCRIPTOR_KEY: Final = "repository"
FORMAT: Final = 1

_PROGRAM: Final = "rokctl"
_ENCRYPTIONS: Final = ("aes-256-gcm", "none")
_CHUNKING: Final = {"rule": "g3", "block": BLOCK, "region": REGION}
DESCRIPTOR_LIMIT: Final = 64 * KIB
_MASTER: Final = 32


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a repository is. `document` is the whole JSON object as it stands in the store."""

    id: str
    format: int
    created: datetime
    encrypted: bool
    document: Mapping[str, Any]


def make_descriptor(repository_id: str, created: datetime, keyring: Keyring) -> bytes:
    """The blob `repository` of a new repository."""
    document: dict[str, Any] = {
        "program": _PROGRAM,
        "format": FORMAT,
        "id": repository_id,
        "created": created.isoformat(),
        "encryption": _ENCRYPTIONS[0] if keyring.encrypted else _ENCRYPTIONS[1],
        "chunking": _CHUNKING,
    }
    if not keyring.encrypted:
        document["master"] = keyring.master.hex()
    document["seal"] = _seal(document, keyring)
    return canonical(document)


def parse_descriptor(blob: bytes, url: str) -> Descriptor:
    """Read the blob `repository`. Raises Refused when it is of another program or a newer format, Damaged when it is broken."""
    try:
        document = parse_object(blob, "the descriptor") if len(blob) <= DESCRIPTOR_LIMIT else {}
    except Damaged:
        document = {}
    if document.get("program") != _PROGRAM:
        raise Refused(f"what is stored at {url} is not a rokctl repository", hint="check the URL; nothing was changed")
    number = document.get("format")
    if type(number) is not int or number > FORMAT:
        raise Refused(
            f"the repository {url} has format {number}; this program knows formats up to {FORMAT}",
            hint="upgrade rokctl on this machine",
        )
    encryption, chunking = document.get("encryption"), document.get("chunking")
    if number < 1 or encryption not in _ENCRYPTIONS or chunking != _CHUNKING:
        raise Damaged(
            f"the descriptor of {url} asks for format {number}, encryption {encryption!r} and chunking {chunking!r}"
        )
    fields = Fields(document, f"the descriptor of {url}")
    repository_id, created = fields.reference("id").hex(), fields.time("created")
    return Descriptor(repository_id, number, created, encryption == _ENCRYPTIONS[0], document)


def check_seal(descriptor: Descriptor, keyring: Keyring, url: str) -> None:
    """Raise Damaged unless a holder of the key wrote this descriptor."""
    seal = _seal(descriptor.document, keyring)
    if not hmac.compare_digest(str(descriptor.document.get("seal")).encode(), seal.encode()):
        raise Damaged(
            f"the descriptor of {url} is not what was written when the repository was created",
            hint="restore the blob 'repository' from a copy of the store",
        )


def _seal(document: Mapping[str, Any], keyring: Keyring) -> str:
    rest = {key: value for key, value in document.items() if key != "seal"}
    return blake3(canonical(rest), key=keyring.subkey("descriptor")).hexdigest()


def clear_master(descriptor: Descriptor) -> bytes:
    """The master key of a repository without encryption. Raises Damaged."""
    try:
        master = bytes.fromhex(descriptor.document["master"])
    except (KeyError, TypeError, ValueError):
        master = b""
    if len(master) != _MASTER:
        raise Damaged("the descriptor lacks its master key")
    return master
