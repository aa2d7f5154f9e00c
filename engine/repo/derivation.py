"""How a key is derived from a secret, so that each guess at the secret costs time and memory (rok-repository(5), KEYS).

Each way is a function with its parameters, all of them whole numbers, which are written under their names. What is written
today is `TODAY`, or `Blake3` for a secret that nobody can guess at; what was written before is read for ever.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from blake3 import blake3

from engine.errors import Failed
from engine.units import GIB, KIB, MIB, format_size
from engine.values import dataclass

KEY_LENGTH: Final = 32

# What a reader grants to parameters that anyone may have written: bytes at once, bytes in all passes, and how often a lane is
# begun, for OpenSSL starts a thread each time.
_MEMORY_LIMIT: Final = GIB
_WORK_LIMIT: Final = 8 * GIB
_STARTS_LIMIT: Final = 1024
_SODIUM_SALT: Final = 16
_RANDOM_CONTEXT: Final = "rokctl key from a random secret 1"
_SLACK: Final = MIB  # what OpenSSL may take beyond the memory of scrypt's formula


class CannotDerive(Failed):
    """This machine lacks what it takes to derive a key. Another key may still do."""


@dataclass(frozen=True, slots=True)
class Argon2id:
    """Argon2id of RFC 9106, version 0x13, whose letters these are: `t` passes over `m` KiB of memory in `p` lanes."""

    name: ClassVar[str] = "argon2id"

    m: int
    t: int
    p: int

    @property
    def memory(self) -> int:
        """Bytes that one derivation takes."""
        return self.m * KIB

    @property
    def is_weak(self) -> bool:
        """Whether a guess costs less memory, or less work, than by what is written today."""
        return self.m < TODAY.m or self.m * self.t < TODAY.m * TODAY.t

    @property
    def is_sound(self) -> bool:
        """Whether the function takes these parameters, within the memory and the work that a reader grants."""
        if self.t < 1 or self.p < 1 or self.t * self.p > _STARTS_LIMIT:
            return False
        # RFC 9106, section 3.1, has eight rows of 1 KiB at least for each lane.
        return 8 * self.p <= self.m and self.memory <= _MEMORY_LIMIT and self.memory * self.t <= _WORK_LIMIT

    def derive(self, secret: bytes, salt: bytes) -> bytes:
        """The key: 32 bytes. Raises CannotDerive."""
        if self.p == 1 and len(salt) == _SODIUM_SALT:
            return _by_sodium(self, secret, salt)
        return _by_openssl(self, secret, salt)

    def __str__(self) -> str:
        return f"{self.name} m={self.m} t={self.t} p={self.p}"


@dataclass(frozen=True, slots=True)
class Scrypt:
    """scrypt of RFC 7914, which was written until Argon2id was."""

    name: ClassVar[str] = "scrypt"

    n: int
    r: int
    p: int

    @property
    def memory(self) -> int:
        """See `Argon2id`."""
        return 128 * self.n * self.r * self.p

    @property
    def is_weak(self) -> bool:
        """See `Argon2id`. One guess fills 128 n r bytes and goes through them once more, p times."""
        at_once = 128 * self.n * self.r
        return at_once < TODAY.memory or 2 * at_once * self.p < TODAY.memory * TODAY.t

    @property
    def is_sound(self) -> bool:
        """See `Argon2id`."""
        is_power = self.n >= 2 and self.n.bit_count() == 1
        if not is_power or self.r < 1 or self.p < 1 or self.memory > _MEMORY_LIMIT:
            return False
        # RFC 7914, section 6, has N below 2^(16 r); and OpenSSL takes memory for two and p rows more than N.
        return self.n.bit_length() <= 16 * self.r and 128 * self.r * (self.n + self.p + 2) <= self.memory + _SLACK

    def derive(self, secret: bytes, salt: bytes) -> bytes:
        """See `Argon2id`."""
        import hashlib

        room = self.memory + _SLACK
        try:
            return hashlib.scrypt(secret, salt=salt, n=self.n, r=self.r, p=self.p, maxmem=room, dklen=KEY_LENGTH)
        except (ValueError, MemoryError):  # the parameters are sound, so it is malloc that failed
            raise _too_little_memory(self) from None

    def __str__(self) -> str:
        return f"{self.name} n={self.n} r={self.r} p={self.p}"


@dataclass(frozen=True, slots=True)
class Blake3:
    """A hash, for secrets of 256 random bits alone: nobody can guess at these, whatever a guess costs."""

    name: ClassVar[str] = "blake3"

    memory: ClassVar[int] = 0
    is_weak: ClassVar[bool] = False
    is_sound: ClassVar[bool] = True

    def derive(self, secret: bytes, salt: bytes) -> bytes:
        """See `Argon2id`."""
        return blake3(secret + salt, derive_key_context=_RANDOM_CONTEXT).digest(length=KEY_LENGTH)

    def __str__(self) -> str:
        return self.name


def load_stretching() -> None:
    """Load what derives a key from a passphrase. Whoever loads something else at the same time does better to do this before:
    two threads that load wait for each other at each step.
    """
    from nacl import bindings  # noqa: F401 # it is loaded by this


def _by_sodium(parameters: Argon2id, secret: bytes, salt: bytes) -> bytes:
    """In half of OpenSSL's time, by the vector instructions of the processor; for one lane, and for 16 bytes of salt."""
    from nacl import bindings
    from nacl.exceptions import RuntimeError as SodiumError

    try:
        return bindings.crypto_pwhash_alg(
            KEY_LENGTH, secret, salt, parameters.t, parameters.memory, bindings.crypto_pwhash_ALG_ARGON2ID13
        )
    except SodiumError:  # of what is left to fail, its manual names the memory alone
        raise _too_little_memory(parameters) from None


def _by_openssl(parameters: Argon2id, secret: bytes, salt: bytes) -> bytes:
    """For all parameters and salts: keys had 32 bytes of salt at first."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id as Function

    m, t, p = parameters.m, parameters.t, parameters.p
    try:
        return Function(salt=salt, length=KEY_LENGTH, iterations=t, lanes=p, memory_cost=m).derive(secret)
    except UnsupportedAlgorithm:
        raise CannotDerive(
            "the OpenSSL that the Python package cryptography was built with has no Argon2",
            hint="install cryptography from the package index, whose own has it: `pip install --force-reinstall "
            "cryptography`; or use the paper copy",
        ) from None
    except MemoryError:
        raise _too_little_memory(parameters) from None


def _too_little_memory(parameters: Argon2id | Scrypt) -> CannotDerive:
    return CannotDerive(
        f"a key is derived in {format_size(parameters.memory)} of memory, and this machine does not give so much",
        hint="raise the limit of memory, or end what takes it",
    )


# For what people choose. As much memory as scrypt with 65536, 8 and 1, gone through as often, which is what a guess costs; in a
# third of the time.
TODAY: Final = Argon2id(m=64 * 1024, t=2, p=1)
Derivation = Argon2id | Scrypt | Blake3
DERIVATIONS: Final[Mapping[str, type[Derivation]]] = {kind.name: kind for kind in (Argon2id, Scrypt, Blake3)}
