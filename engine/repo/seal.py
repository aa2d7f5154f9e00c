"""Keys and sealing: everything is derived from one master key, and every byte in a repository is sealed with a part of it.

The rules, and why no nonce is used twice under one key, stand in rok-repository(5), KEYS and BOXES.
"""

from collections.abc import Callable
from typing import Final, Protocol

from blake3 import blake3

from engine.errors import Damaged
from engine.store.base import Buffer

Entropy = Callable[[int], bytes]

NONCE: Final = 12
TAG: Final = 16
BOX_OVERHEAD: Final = NONCE + TAG


class Cipher(Protocol):
    """Seals and opens with one key."""

    def seal_into(self, nonce: Buffer, plaintext: Buffer, target: memoryview, associated: bytes | None = None) -> None:
        """Fill `target`, TAG bytes longer than the plaintext, with the sealed plaintext."""
        ...

    def open(self, nonce: Buffer, sealed: Buffer, associated: bytes | None = None) -> bytes | bytearray:
        """The plaintext. Raises Damaged when a byte is not what was sealed."""
        ...

    def open_into(self, nonce: Buffer, sealed: Buffer, target: memoryview) -> None:
        """Fill `target` with the plaintext. Raises Damaged when that has another length, or a byte is not what was sealed."""
        ...


class Unencrypted:
    """The same layout without secrecy: the tag is a keyed hash, so damage is still found."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal_into(self, nonce: Buffer, plaintext: Buffer, target: memoryview, associated: bytes | None = None) -> None:
        """Copy, and append the tag."""
        target[:-TAG] = plaintext
        target[-TAG:] = self._tag(nonce, plaintext, associated)

    def open(self, nonce: Buffer, sealed: Buffer, associated: bytes | None = None) -> bytes:
        """Verify, and return what was sealed."""
        return bytes(self._verified(nonce, sealed, associated))

    def open_into(self, nonce: Buffer, sealed: Buffer, target: memoryview) -> None:
        """Verify, and copy."""
        check_length(sealed, target)
        target[:] = self._verified(nonce, sealed, None)

    def _verified(self, nonce: Buffer, sealed: Buffer, associated: bytes | None) -> memoryview:
        plaintext, tag = memoryview(sealed)[: opened_length(sealed)], memoryview(sealed)[-TAG:]
        if self._tag(nonce, plaintext, associated) != tag:
            raise Damaged("the bytes are not what was written")
        return plaintext

    def _tag(self, nonce: Buffer, plaintext: Buffer, associated: bytes | None) -> bytes:
        hasher = blake3(nonce, key=self._key)
        if associated is not None:
            hasher.update(associated)
        hasher.update(plaintext)
        return hasher.digest(length=TAG)


def aes_gcm(key: bytes) -> Cipher:
    """AES-256-GCM by one key; it is loaded for the first of them, by who opens a repository while a key is derived."""
    from engine.repo.aesgcm import AesGcm

    return AesGcm(key)


def opened_length(sealed: Buffer) -> int:
    """How long what was sealed is. Raises Damaged."""
    if len(sealed) < TAG:
        raise Damaged("a sealed piece is shorter than its tag")
    return len(sealed) - TAG


def check_length(sealed: Buffer, target: memoryview) -> None:
    """Raise Damaged unless what was sealed fills the target."""
    if opened_length(sealed) != len(target):
        raise Damaged(f"a sealed piece of {len(sealed)} bytes does not hold {len(target)}")


class Keyring:
    """The master key of a repository, and all that is derived from it."""

    def __init__(self, master: bytes, *, encrypted: bool) -> None:
        assert len(master) == 32
        self._master = master
        self.encrypted = encrypted

    @property
    def master(self) -> bytes:
        """The master key itself: to be wrapped for someone, or put on paper."""
        return self._master

    def subkey(self, purpose: str, name: str | None = None) -> bytes:
        """The 32-byte key for a purpose, or for one blob of that purpose."""
        context = purpose if name is None else f"{purpose}\0{name}"
        return blake3(context.encode(), key=self._master).digest()

    def cipher(self, purpose: str, name: str) -> Cipher:
        """The cipher of one blob."""
        key = self.subkey(purpose, name)
        return aes_gcm(key) if self.encrypted else Unencrypted(key)

    @property
    def cut_seed(self) -> int:
        """The 64-bit seed of the block hashes that choose the cuts."""
        return int.from_bytes(self.subkey("cut seed")[:8], "little")


def seal_box(cipher: Cipher, plaintext: Buffer, entropy: Entropy, associated: bytes | None = None) -> bytes:
    """A box: a fresh nonce, and the plaintext sealed with it."""
    box = bytearray(len(plaintext) + BOX_OVERHEAD)
    nonce = entropy(NONCE)
    box[:NONCE] = nonce
    cipher.seal_into(nonce, plaintext, memoryview(box)[NONCE:], associated)
    return bytes(box)


def open_box(cipher: Cipher, box: Buffer, associated: bytes | None = None) -> bytes | bytearray:
    """The plaintext of a box. Raises Damaged."""
    if len(box) < BOX_OVERHEAD:
        raise Damaged("a box is shorter than its nonce and tag")
    view = memoryview(box)
    return cipher.open(view[:NONCE], view[NONCE:], associated)
