"""The descriptor of a repository, and the keys that open it (rok-repository(5), THE DESCRIPTOR and KEYS)."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from blake3 import blake3

from engine.errors import Damaged, Refused, WrongKey
from engine.repo.document import canonical, parse_object
from engine.repo.map import BLOCK, REGION
from engine.repo.seal import NONCE, TAG, AesGcm, Entropy, Keyring
from engine.units import KIB

DESCRIPTOR_KEY: Final = "repository"
KEYS_PREFIX: Final = "keys/"
FORMAT: Final = 1

_PROGRAM: Final = "rokctl"
_ENCRYPTIONS: Final = ("aes-256-gcm", "none")
_CHUNKING: Final = {"rule": "g3", "block": BLOCK, "region": REGION}
_SIZE_LIMIT: Final = 64 * KIB

_SCRYPT: Final = {"n": 65536, "r": 8, "p": 1}
_SCRYPT_LIMITS: Final = {"n": 1 << 22, "r": 32, "p": 16}
_SALT: Final = 32
_MASTER: Final = 32


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a repository is. `document` is the whole JSON object as it stands in the store."""

    id: str
    format: int
    created: datetime
    encrypted: bool
    document: Mapping[str, Any]


def make_descriptor(repository_id: str, created: datetime, master: bytes, *, encrypted: bool) -> bytes:
    """The blob `repository` of a new repository."""
    document: dict[str, Any] = {
        "program": _PROGRAM,
        "format": FORMAT,
        "id": repository_id,
        "created": created.isoformat(),
        "encryption": _ENCRYPTIONS[0] if encrypted else _ENCRYPTIONS[1],
        "chunking": _CHUNKING,
    }
    if not encrypted:
        document["master"] = master.hex()
    document["seal"] = _seal(document, Keyring(master, encrypted=encrypted))
    return canonical(document)


def parse_descriptor(blob: bytes, url: str) -> Descriptor:
    """Read the blob `repository`. Raises Refused when it is of another program or a newer format, Damaged when it is broken."""
    try:
        document = parse_object(blob, "the descriptor") if len(blob) <= _SIZE_LIMIT else {}
    except Damaged:
        document = {}
    if document.get("program") != _PROGRAM:
        raise Refused(f"what is stored at {url} is not a rokctl repository", hint="check the URL; nothing was changed")
    number = document.get("format")
    if not isinstance(number, int) or number > FORMAT:
        raise Refused(
            f"the repository {url} has format {number}; this program knows formats up to {FORMAT}",
            hint="upgrade rokctl on this machine",
        )
    encryption, chunking = document.get("encryption"), document.get("chunking")
    if encryption not in _ENCRYPTIONS or chunking != _CHUNKING:
        raise Damaged(f"the descriptor of {url} asks for encryption {encryption!r} and chunking {chunking!r}")
    try:
        created = datetime.fromisoformat(document["created"])
        repository_id = bytes.fromhex(document["id"]).hex()
    except (KeyError, TypeError, ValueError):
        raise Damaged(f"the descriptor of {url} lacks its id or time of creation") from None
    return Descriptor(repository_id, number, created, encryption == _ENCRYPTIONS[0], document)


def check_seal(descriptor: Descriptor, keyring: Keyring, url: str) -> None:
    """Raise Damaged unless a holder of the key wrote this descriptor."""
    if not hmac.compare_digest(str(descriptor.document.get("seal")), _seal(descriptor.document, keyring)):
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


def wrap_master(master: bytes, passphrase: str, repository_id: str, created: datetime, entropy: Entropy) -> bytes:
    """A blob `keys/<name>`: the master key, to be opened with the passphrase."""
    salt, nonce = entropy(_SALT), entropy(NONCE)
    wrapped = bytearray(_MASTER + TAG)
    cipher = AesGcm(_derive(passphrase, salt, _SCRYPT))
    cipher.seal_into(nonce, master, memoryview(wrapped), bytes.fromhex(repository_id))
    document: dict[str, Any] = {
        "kdf": "scrypt",
        **_SCRYPT,
        "salt": salt.hex(),
        "nonce": nonce.hex(),
        "wrapped": wrapped.hex(),
        "created": created.isoformat(),
        "label": "",
    }
    document["sum"] = _sum(document)
    return canonical(document)


def unwrap_master(blob: bytes, passphrase: str, repository_id: str, key: str) -> bytes:
    """The master key out of a blob `keys/<name>`. Raises WrongKey when it was wrapped with another passphrase, Damaged else."""
    document = parse_object(blob, key)
    if document.get("sum") != _sum(document):
        raise Damaged(f"the key blob {key} is not what was written")
    try:
        parameters = {name: int(document[name]) for name in _SCRYPT}
        salt, nonce, wrapped = (bytes.fromhex(document[name]) for name in ("salt", "nonce", "wrapped"))
    except (KeyError, TypeError, ValueError):
        raise Damaged(f"the key blob {key} lacks a field") from None
    if document.get("kdf") != "scrypt" or any(not 0 < parameters[n] <= _SCRYPT_LIMITS[n] for n in parameters):
        raise Damaged(f"the key blob {key} asks for a key derivation beyond what this program accepts")
    try:
        return bytes(AesGcm(_derive(passphrase, salt, parameters)).open(nonce, wrapped, bytes.fromhex(repository_id)))
    except Damaged:
        raise WrongKey("the passphrase opens no key of this repository", hint="check where it comes from") from None


def _derive(passphrase: str, salt: bytes, parameters: Mapping[str, int]) -> bytes:
    memory = 128 * parameters["n"] * parameters["r"] * parameters["p"]
    return hashlib.scrypt(passphrase.encode(), salt=salt, **parameters, maxmem=memory + (1 << 20), dklen=32)


def _sum(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "sum"}
    return blake3(canonical(rest)).digest(length=16).hex()
