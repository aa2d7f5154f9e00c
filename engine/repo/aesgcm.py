"""AES-256-GCM, from OpenSSL.

It is a module of its own because OpenSSL takes longer to load than all else that a secret is read and a key is derived with.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import Damaged
from engine.repo.seal import check_length, opened_length
from engine.store.base import Buffer


class AesGcm:
    """A `Cipher` by one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal_into(self, nonce: Buffer, plaintext: Buffer, target: memoryview, associated: bytes | None = None) -> None:
        """Encrypt straight into `target`: `encrypt` would allocate, and hold the interpreter's lock while it works."""
        written = self._aead.encrypt_into(nonce, plaintext, associated, target)
        assert written == len(target)

    def open(self, nonce: Buffer, sealed: Buffer, associated: bytes | None = None) -> bytearray:
        """Decrypt and verify."""
        plaintext = bytearray(opened_length(sealed))
        self._open_into(nonce, sealed, associated, plaintext)
        return plaintext

    def open_into(self, nonce: Buffer, sealed: Buffer, target: memoryview) -> None:
        """Decrypt straight into `target`, and verify."""
        check_length(sealed, target)
        self._open_into(nonce, sealed, None, target)

    def _open_into(
        self, nonce: Buffer, sealed: Buffer, associated: bytes | None, target: bytearray | memoryview
    ) -> None:
        try:
            self._aead.decrypt_into(nonce, sealed, associated, target)
        except InvalidTag:
            raise Damaged("decryption failed: the bytes are not what was written, or the key is another") from None
