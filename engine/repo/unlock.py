"""Opening: which of the keys of a repository does a secret open?"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field
from datetime import datetime

from engine.errors import Damaged, Refused, RokError, WrongKey
from engine.hand import both
from engine.repo.derivation import CannotDerive
from engine.repo.descriptor import Descriptor, check_seal, clear_master, read_descriptor
from engine.repo.keyblob import KEY_LIMIT, KEYS_PREFIX, NAME, Secret, parse_key, unwrap_master, wrap_master
from engine.repo.paper import PaperKey
from engine.repo.seal import Entropy, Keyring
from engine.store.base import BlobExists, NoSuchBlob, Store
from engine.values import dataclass


@dataclass(frozen=True, slots=True)
class Opened:
    """The master key, and the name of the key that gave it."""

    master: bytes = field(repr=False)
    key: str


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of trying: what was opened, and why the first key could not be tried that could not."""

    opened: Opened | None
    problem: RokError | None


@dataclass(frozen=True, slots=True)
class Unlocked:
    """What it takes to work with a repository. `key` names the key that opened it; None where it took none, or a paper copy."""

    descriptor: Descriptor
    keyring: Keyring
    key: str | None


Found = Mapping[str, bytes | None]
"""Keys by name, with their blobs where they were read."""


def unlock(store: Store, ask: Callable[[], Secret | PaperKey], likely: str | None = None) -> Unlocked:
    """Learn what repository is in a store, and its keys. `ask` gives the secret, and is called only when it takes one.

    `likely` names the key that the secret opens, where that can be told before: then that one is read, and no other looked for.
    Nothing is loaded for it that works with chunks or maps: whoever is in a hurry loads that meanwhile.
    Raises NotFound when nothing is there, Refused when it is of another program or too new, WrongKey, Damaged.
    """
    # A key, or the list of them, is had meanwhile: a round trip less. Whether that fails matters only where it is needed.
    descriptor, found = both(lambda: read_descriptor(store), lambda: _try_to_find_keys(store, likely))
    if descriptor.encrypted:
        master, key = _master(store, descriptor, ask(), found)
    else:
        master, key = clear_master(descriptor), None
    keyring = Keyring(master, encrypted=descriptor.encrypted)
    check_seal(descriptor, keyring, store.url)
    return Unlocked(descriptor, keyring, key)


def _try_to_find_keys(store: Store, likely: str | None) -> Found:
    """The likely key, else all names; nothing where that fails: who needs a key lists them again, and is told."""
    try:
        if likely is not None:
            with suppress(NoSuchBlob):
                return {likely: read_key(store, likely)}
        return dict.fromkeys(list_keys(store))
    except RokError:
        return {}


def _master(store: Store, descriptor: Descriptor, secret: Secret | PaperKey, found: Found) -> tuple[bytes, str | None]:
    """The master key of an encrypted repository, and the name of the key that gave it; a paper copy has none.

    Raises WrongKey when every key was tried; Damaged, Refused for one of a newer program, or CannotDerive, when a key could
    not be.
    """
    if isinstance(secret, PaperKey):
        if secret.repository_id != descriptor.id:
            raise WrongKey(
                f"the paper copy is of repository {secret.repository_id}; the one at {store.url} is {descriptor.id}",
                hint="check the URL",
            )
        return secret.master, None
    tried = try_keys(store, descriptor.id, secret, found)
    if tried.opened is not None:
        return tried.opened.master, tried.opened.key
    now = list_keys(store)  # a person may have typed for minutes, while someone else changed the key
    again = try_keys(store, descriptor.id, secret, dict.fromkeys(name for name in now if name not in found))
    if again.opened is not None:
        return again.opened.master, again.opened.key
    if not now:
        raise Damaged(
            f"the repository {store.url} has no key left",
            hint="use its paper copy with `rokctl repo key add --from-paper`, or restore a blob under 'keys/' from a copy",
        )
    raise (
        tried.problem
        or again.problem
        or WrongKey(
            f"the {secret.kind.value} opens no key of the repository {store.url}",
            hint="check --password-file, --key-file or the environment",
        )
    )


def list_keys(store: Store) -> list[str]:
    """The names of the keys of the repository in a store, in order."""
    return [blob.key.removeprefix(KEYS_PREFIX) for blob in store.list(KEYS_PREFIX)]


def try_keys(store: Store, repository_id: str, secret: Secret, found: Found) -> Tried:
    """Try those of these keys that are of the secret's kind, in turn, until one opens. Each costs one key derivation.

    The key that is named by the secret is tried first.
    """
    problem: RokError | None = None
    named = secret.key_name
    for name in sorted(found, key=lambda name: name != named):
        try:
            blob = found[name]
            key = parse_key(name, read_key(store, name) if blob is None else blob)
            if key.kind is secret.kind:
                return Tried(Opened(unwrap_master(key, secret, repository_id), name), problem)
        except (WrongKey, NoSuchBlob):  # another's; or removed since it was listed
            continue
        except (Damaged, Refused, CannotDerive) as error:
            problem = problem or error
    return Tried(None, problem)


def create_key(
    store: Store,
    keyring: Keyring,
    secret: Secret,
    *,
    label: str,
    repository_id: str,
    created: datetime,
    entropy: Entropy,
) -> tuple[str, bool]:
    """Let a secret open a repository; the name of its key, and whether that was made now.

    A name that the secret tells may be taken: by the same key, which someone else has made at this moment; or by what does not
    open this repository, as a key that is damaged or of another repository. Then the key gets a name of its own.
    """

    def create(name: str) -> str:
        blob = wrap_master(
            keyring,
            secret,
            name=name,
            label=label,
            repository_id=repository_id,
            created=created,
            entropy=entropy,
        )
        store.create(f"{KEYS_PREFIX}{name}", blob)
        return name

    named = secret.key_name
    if named is not None:
        with suppress(BlobExists):
            return create(named), True
        opened = try_keys(store, repository_id, secret, {named: None}).opened
        if opened is not None and opened.master == keyring.master:
            return named, False
    return create(entropy(NAME).hex()), True


def read_key(store: Store, name: str) -> bytes:
    """The blob of a key; of one that is too large a byte more than it may have. Raises NoSuchBlob."""
    return store.get_range(f"{KEYS_PREFIX}{name}", 0, KEY_LIMIT + 1)
