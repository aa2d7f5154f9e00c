"""Key blobs: the master key, wrapped for one passphrase or one key file (rok-repository(5), KEYS). No input or output."""

import codecs
import re
from collections.abc import Mapping
from dataclasses import asdict, field, fields
from datetime import datetime
from enum import Enum
from typing import Any, Final

from blake3 import blake3

from engine.clock import parse_moment
from engine.errors import Damaged, Refused, WrongKey
from engine.repo.derivation import DERIVATIONS, TODAY, Blake3, Derivation
from engine.repo.document import canonical, parse_object
from engine.repo.seal import BOX_OVERHEAD, NONCE, TAG, Cipher, Entropy, Keyring, aes_gcm, open_box, seal_box
from engine.units import KIB, MIB
from engine.values import dataclass

KEYS_PREFIX: Final = "keys/"
KEY_FILE_LIMIT: Final = 8 * MIB
NAME: Final = 16  # bytes
LABEL_LIMIT: Final = 200  # bytes of UTF-8

_KEY_FILE_CONTEXT: Final = "rokctl repository key file 1"
_NAME_CONTEXT: Final = "rokctl repository key name 1"
_GENERATED_PREFIX: Final = b"rokctl-key-file-1:"
_LOOKED_AT: Final = 100  # bytes in which a file that has this is taken for a generated one
_RANDOM: Final = 32
_DIGITS: Final = re.compile(rb"[0-9a-f]{64}")
KEY_LIMIT: Final = 64 * KIB
_SALT: Final = 16
_SALTS: Final = range(16, 65)
_MASTER: Final = 32


class KeyKind(Enum):
    """What opens a key."""

    PASSPHRASE = "passphrase"  # noqa: S105 - the word for one
    FILE = "key file"


@dataclass(frozen=True, slots=True)
class Secret:
    """What someone holds that opens a key. Its bytes are left out of its repr, so that no message and no trace shows them.

    `is_random`: it is known to hold 256 random bits.
    """

    kind: KeyKind
    material: bytes = field(repr=False)
    is_random: bool = False

    @property
    def key_name(self) -> str | None:
        """The name of the key that it opens, where that can be told: keys for random secrets are named by them."""
        return (
            blake3(self.material, derive_key_context=_NAME_CONTEXT).hexdigest(length=NAME) if self.is_random else None
        )

    @property
    def derivation(self) -> Derivation:
        """How a key is derived from it today."""
        return Blake3() if self.is_random else TODAY


@dataclass(frozen=True, slots=True)
class KeyBlob:
    """A blob `keys/<name>`, read and found whole. The label is still sealed."""

    name: str
    kind: KeyKind
    derivation: Derivation
    salt: bytes
    nonce: bytes
    wrapped: bytes
    created: datetime
    sealed_label: bytes

    def label(self, keyring: Keyring) -> str:
        """What the key was called by who made it. Raises Damaged."""
        if not self.sealed_label:
            return ""
        return bytes(open_box(_label_cipher(keyring, self.name), self.sealed_label)).decode("utf-8", "replace")


def passphrase_secret(text: str) -> Secret:
    """A passphrase: its UTF-8. Raises Refused when it is empty or has none."""
    if not text:
        raise Refused("the passphrase is empty", hint="give one; `rokctl repo init --no-encryption` does without")
    try:
        return Secret(KeyKind.PASSPHRASE, text.encode())
    except UnicodeEncodeError:  # not chained: its message quotes a part of the passphrase
        raise Refused("the passphrase is not UTF-8", hint="use a key file for bytes that are no text") from None


def key_file_secret(content: bytes) -> Secret:
    """A key file: a hash of all of its content, so that every byte counts; but for white space around a generated one.

    Raises Refused when it is empty or too large, or was generated and is not any more what it was then.
    """
    if not content:
        raise Refused("the key file is empty", hint="make one with `rokctl repo key generate FILE`")
    if len(content) > KEY_FILE_LIMIT:
        raise Refused(f"the key file is larger than {KEY_FILE_LIMIT} bytes", hint="32 random bytes are enough")
    is_random = _GENERATED_PREFIX in content[:_LOOKED_AT]
    if is_random:
        content = _as_generated(content)
    return Secret(KeyKind.FILE, blake3(content, derive_key_context=_KEY_FILE_CONTEXT).digest(), is_random)


def generate_key_file(entropy: Entropy) -> bytes:
    """The content of a new key file: 256 random bits, in a form that tells that they are, and that shows when one is changed."""
    return _generated(entropy(_RANDOM))


def _generated(random: bytes) -> bytes:
    body = _GENERATED_PREFIX + random.hex().encode()
    return body + b":" + blake3(body).hexdigest(length=8).encode() + b"\n"


def _as_generated(content: bytes) -> bytes:
    """A generated key file without what editors put around it. Raises Refused when something in it was changed."""
    text = content.removeprefix(codecs.BOM_UTF8).strip()
    digits = text.removeprefix(_GENERATED_PREFIX)[: 2 * _RANDOM]
    if _DIGITS.fullmatch(digits):
        written = _generated(bytes.fromhex(digits.decode()))
        if text == written.rstrip():
            return written
    raise Refused(
        "the key file was made by `rokctl repo key generate`, and is not any more what was made",
        hint="use another copy of it, or another key",
    )


def check_label(text: str) -> str:
    """`text`, if a key may be labelled with it. Raises Refused."""
    if len(text.encode(errors="replace")) > LABEL_LIMIT or not text.isprintable():
        raise Refused(
            f"{text!r} cannot be the label of a key",
            hint=f"use at most {LABEL_LIMIT} bytes, without control characters",
        )
    return text


def wrap_master(
    keyring: Keyring,
    secret: Secret,
    *,
    name: str,
    label: str,
    repository_id: str,
    created: datetime,
    entropy: Entropy,
    derivation: Derivation | None = None,
) -> bytes:
    """The blob `keys/<name>` that gives the master key to whoever has the secret; derived as today, or as is said."""
    derivation = derivation or secret.derivation
    salt, nonce = entropy(_SALT), entropy(NONCE)
    wrapped = bytearray(_MASTER + TAG)
    cipher = aes_gcm(_derive(secret, salt, derivation))
    cipher.seal_into(nonce, keyring.master, memoryview(wrapped), bytes.fromhex(repository_id))
    sealed_label = seal_box(_label_cipher(keyring, name), label.encode(), entropy) if label else b""
    document: dict[str, Any] = {
        "kdf": derivation.name,
        **asdict(derivation),
        "kind": secret.kind.value,
        "salt": salt.hex(),
        "nonce": nonce.hex(),
        "wrapped": wrapped.hex(),
        "created": created.isoformat(),
        "label": sealed_label.hex(),
    }
    document["sum"] = _sum(document)
    return canonical(document)


def parse_key(name: str, blob: bytes) -> KeyBlob:
    """Read a blob `keys/<name>`. Raises Damaged when it is not what was written, Refused when a newer program wrote it."""
    what = f"the key blob {KEYS_PREFIX}{name}"
    document = parse_object(blob, what) if len(blob) <= KEY_LIMIT else {}
    if document.get("sum") != _sum(document):
        raise Damaged(f"{what} is not what was written", hint="remove it, and add its passphrase or key file again")
    try:
        return _parse_fields(name, document, what)
    except (KeyError, TypeError, ValueError):
        raise Damaged(f"{what} lacks a field") from None


def _parse_fields(name: str, document: Mapping[str, Any], what: str) -> KeyBlob:
    kind = document.get("kind", KeyKind.PASSPHRASE.value)
    if document["kdf"] not in DERIVATIONS or kind not in [known.value for known in KeyKind]:
        raise Refused(f"{what} was written by a newer program", hint="upgrade rokctl on this machine")
    known = DERIVATIONS[document["kdf"]]
    derivation = known(**{entry.name: _whole(document[entry.name]) for entry in fields(known)})
    if not derivation.is_sound or (known is Blake3 and kind != KeyKind.FILE.value):
        raise Damaged(f"{what} asks for a key derivation beyond what this program accepts")
    salt, nonce, wrapped, label = (bytes.fromhex(document[name]) for name in ("salt", "nonce", "wrapped", "label"))
    created = parse_moment(document["created"])
    lengths_fit = len(salt) in _SALTS and len(nonce) == NONCE and len(wrapped) == _MASTER + TAG
    if not lengths_fit or len(label) > BOX_OVERHEAD + LABEL_LIMIT:
        raise Damaged(f"{what} has a field of another form")
    return KeyBlob(name, KeyKind(kind), derivation, salt, nonce, wrapped, created, label)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def unwrap_master(key: KeyBlob, secret: Secret, repository_id: str) -> bytes:
    """The master key. Raises WrongKey when it was wrapped for another secret, and CannotDerive."""
    if isinstance(key.derivation, Blake3) and not secret.is_random:
        raise WrongKey(f"key {key.name} is of a generated key file")
    cipher = aes_gcm(_derive(secret, key.salt, key.derivation))
    try:
        return bytes(cipher.open(key.nonce, key.wrapped, bytes.fromhex(repository_id)))
    except Damaged:
        raise WrongKey(f"the {secret.kind.value} does not open key {key.name}") from None


def _derive(secret: Secret, salt: bytes, derivation: Derivation) -> bytes:
    return derivation.derive(secret.material, salt)


def _label_cipher(keyring: Keyring, name: str) -> Cipher:
    return aes_gcm(keyring.subkey("key label", name))


def _sum(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "sum"}
    return blake3(canonical(rest)).digest(length=16).hex()
