"""Marks of versions that lost something: the blob `hurt/<version>` (rok-repository(5), DAMAGE).

Only a repair writes and lifts them. A push takes no version that is marked as its base, since it would inherit the holes.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from engine.errors import Damaged
from engine.extent import Extent
from engine.repo.document import DOCUMENT_LIMIT, Fields, open_document, seal_document
from engine.repo.repository import Repository
from engine.repo.seal import Entropy, Keyring
from engine.store.base import Buffer, NoSuchBlob

HURT_PREFIX: Final = "hurt/"
_MAGIC: Final = b"ROKHURT\x01"

Losses = Mapping[str, Sequence[Extent]]  # by member


def hurt_versions(repository: Repository) -> frozenset[str]:
    """The versions that are marked, by one listing."""
    return frozenset(blob.key.removeprefix(HURT_PREFIX) for blob in repository.store.list(HURT_PREFIX))


def losses_of(repository: Repository, version: str) -> Losses:
    """What the mark of a version says, nothing where there is none. Raises Damaged."""
    try:
        blob = repository.store.get_range(f"{HURT_PREFIX}{version}", 0, DOCUMENT_LIMIT + 1)
    except NoSuchBlob:
        return {}
    return open_mark(version, blob, repository.keyring)


def mark(repository: Repository, version: str, losses: Losses) -> None:
    """Mark a version, in place of what its mark said before."""
    repository.store.put(f"{HURT_PREFIX}{version}", seal_mark(version, losses, repository.keyring, repository.entropy))


def lift(repository: Repository, version: str) -> None:
    """The version lacks nothing any more, or is forgotten."""
    repository.store.delete(f"{HURT_PREFIX}{version}")


def seal_mark(version: str, losses: Losses, keyring: Keyring, entropy: Entropy) -> bytes:
    """The blob `hurt/<version>`."""
    members = [
        {"name": name, "lost": [[extent.start, extent.length] for extent in extents]}
        for name, extents in sorted(losses.items())
    ]
    return seal_document(_MAGIC, keyring.cipher("hurt", version), {"members": members}, entropy)


def open_mark(version: str, blob: Buffer, keyring: Keyring) -> Losses:
    """What the blob `hurt/<version>` says. Raises Damaged."""
    what = f"the mark of version {version}"
    document = Fields(open_document(_MAGIC, keyring.cipher("hurt", version), blob, what), what)
    losses = {}
    for entry in document.take("members", list):
        fields = Fields(entry, what)
        losses[fields.take("name", str)] = tuple(_extent(pair, what) for pair in fields.take("lost", list))
    return losses


def _extent(pair: object, what: str) -> Extent:
    if isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair):
        start, length = pair
        if start >= 0 < length:
            return Extent(start, length)
    raise Damaged(f"{what} lacks a valid extent")
