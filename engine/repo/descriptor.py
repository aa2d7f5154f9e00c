"""The descriptor of a repository: what it is (rok-repository(5), THE DESCRIPTOR)."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from blake3 import blake3

from engine.chunk.grid import BLOCK, REGION_BLOCKS
from engine.errors import Damaged, NotFound, Refused
from engine.repo.document import Fields, canonical, parse_object
from engine.repo.seal import Keyring
from engine.store.base import NoSuchBlob, Store
from engine.units import KIB
from engine.values import dataclass

DESCRIPTOR_KEY: Final = "repository"
FORMAT: Final = 1
REBUILD_HINT: Final = (
    "nothing else was looked at; put the blob 'repository' back from a copy of the store, or, if the repository is "
    "encrypted, rebuild it with `rokctl repo repair --from-paper FILE`, by the page that `rokctl repo key export` printed"
)

_PROGRAM: Final = "rokctl"
_ENCRYPTIONS: Final = ("aes-256-gcm", "none")
_CHUNKING: Final = {"rule": "g3", "block": BLOCK, "region": BLOCK * REGION_BLOCKS}
DESCRIPTOR_LIMIT: Final = 64 * KIB
_MASTER: Final = 32
_VERSION_KEY: Final = re.compile("versions/[0-9a-f]{32}")


class NotOurs(Refused):
    """What is stored is no descriptor of this program."""


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
    """Read the blob `repository`. Raises NotOurs when it is of another program, Refused when of a newer format, Damaged."""
    try:
        document = parse_object(blob, "the descriptor") if len(blob) <= DESCRIPTOR_LIMIT else {}
    except Damaged:
        document = {}
    if document.get("program") != _PROGRAM:
        raise NotOurs(f"what is stored at {url} is not a rokctl repository", hint="check the URL; nothing was changed")
    number = document.get("format")
    if type(number) is not int or number > FORMAT:
        raise Refused(
            f"the repository {url} has format {number}; this program knows formats up to {FORMAT}",
            hint="upgrade rokctl on this machine",
        )
    encryption, chunking = document.get("encryption"), document.get("chunking")
    if number < 1 or encryption not in _ENCRYPTIONS or chunking != _CHUNKING:
        raise Damaged(
            f"the descriptor of {url} asks for format {number}, encryption {encryption!r} and chunking {chunking!r}",
            hint=REBUILD_HINT,
        )
    fields = Fields(document, f"the descriptor of {url}")
    try:
        repository_id, created = fields.reference("id").hex(), fields.time("created")
    except Damaged as error:
        raise Damaged(error.message, hint=REBUILD_HINT) from None
    return Descriptor(repository_id, number, created, encryption == _ENCRYPTIONS[0], document)


def read_descriptor(store: Store) -> Descriptor:
    """What kind of repository is there. Raises NotFound, Refused; Damaged where a repository has lost its descriptor."""
    try:
        return parse_descriptor(store.get_range(DESCRIPTOR_KEY, 0, DESCRIPTOR_LIMIT + 1), store.url)
    except NoSuchBlob:
        if not _holds_versions(store):
            raise NotFound(f"there is no repository at {store.url}", hint="make one with `rokctl repo init`") from None
        raise Damaged(f"the descriptor of the repository at {store.url} is gone", hint=REBUILD_HINT) from None
    except NotOurs:
        if not _holds_versions(store):
            raise
        raise Damaged(f"the descriptor of the repository at {store.url} is damaged", hint=REBUILD_HINT) from None


def _holds_versions(store: Store) -> bool:
    """Is there what only our repositories have?"""
    return any(_VERSION_KEY.fullmatch(blob.key) for blob in store.list("versions/"))


def check_seal(descriptor: Descriptor, keyring: Keyring, url: str) -> None:
    """Raise Damaged unless a holder of the key wrote this descriptor."""
    # Hashes of the two are compared, by a key that a forger lacks, so how long that takes says nothing about the seal. hmac has
    # a comparison for that, and loads OpenSSL a second time: 3 ms of each command.
    key = keyring.subkey("descriptor")
    given, right = (
        blake3(str(seal).encode(), key=key).digest()
        for seal in (descriptor.document.get("seal"), _seal(descriptor.document, keyring))
    )
    if given != right:
        raise Damaged(
            f"the descriptor of {url} is not what was written when the repository was created",
            hint=REBUILD_HINT,
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
