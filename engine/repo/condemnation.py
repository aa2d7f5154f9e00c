"""What collections write: which packs are condemned, and which sessions must have ended before those may go.

rok-repository(5), COLLECTION. A record `gc/<name>` is made once and never changed; `s0/<name>` likewise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from engine.errors import Damaged
from engine.repo.document import DOCUMENT_LIMIT, Fields, open_document, seal_document
from engine.repo.pack import PackName, parse_pack_key
from engine.repo.seal import Entropy, Keyring
from engine.store.base import Buffer, NoSuchBlob, Store

GC_PREFIX: Final = "gc/"
S0_PREFIX: Final = "s0/"
_MAGIC: Final = b"ROKCOND\x01"
_AWAITED_MAGIC: Final = b"ROKWAIT\x01"


@dataclass(frozen=True, slots=True)
class Condemnation:
    """A record that condemns packs: nobody relies on them any more, and they are never pardoned.

    `damaged`: what cannot be read in them is lost already, and no reason to keep them. `made` is by the store's clock.
    """

    name: str
    packs: frozenset[PackName]
    damaged: bool
    made: datetime


class Grounds(Protocol):
    """What is needed of a repository."""

    @property
    def store(self) -> Store:
        """The store."""
        ...

    @property
    def keyring(self) -> Keyring:
        """The keys."""
        ...


def read_condemnations(grounds: Grounds) -> list[Condemnation]:
    """All records that stand, by name. Raises Damaged: what a damaged one condemns cannot be told."""
    records = []
    for blob in list(grounds.store.list(GC_PREFIX)):
        name = blob.key.removeprefix(GC_PREFIX)
        if blob.size > DOCUMENT_LIMIT:
            raise Damaged(f"record {blob.key} has {blob.size} bytes, more than any can have")
        try:
            sealed = grounds.store.get(blob.key)
        except NoSuchBlob:
            continue  # a collector has just finished: its packs are gone, and not in a list that is made later
        records.append(open_condemnation(name, sealed, blob.modified, grounds.keyring))
    return records


def seal_condemnation(
    name: str, packs: Iterable[PackName], keyring: Keyring, entropy: Entropy, *, damaged: bool = False
) -> bytes:
    """The blob `gc/<name>`."""
    document = {"packs": sorted(map(str, packs)), **({"damaged": True} if damaged else {})}
    return seal_document(_MAGIC, keyring.cipher("gc", name), document, entropy)


def open_condemnation(name: str, blob: Buffer, made: datetime, keyring: Keyring) -> Condemnation:
    """What the blob `gc/<name>`, made at that time, says. Raises Damaged."""
    what = f"record {GC_PREFIX}{name}"
    document = open_document(_MAGIC, keyring.cipher("gc", name), blob, what)
    packs = {parse_pack_key(f"pack/{pack}") for pack in Fields(document, what).take("packs", list)}
    found = frozenset(pack for pack in packs if pack is not None)
    if len(found) != len(packs):
        raise Damaged(f"{what} names a pack that is none")
    return Condemnation(name, found, document.get("damaged") is True, made)


def seal_awaited(name: str, sessions: Iterable[str], keyring: Keyring, entropy: Entropy) -> bytes:
    """The blob `s0/<name>`."""
    return seal_document(_AWAITED_MAGIC, keyring.cipher("s0", name), {"sessions": sorted(sessions)}, entropy)


def open_awaited(name: str, blob: Buffer, keyring: Keyring) -> frozenset[str]:
    """The sessions that the blob `s0/<name>` names. Raises Damaged."""
    what = f"record {S0_PREFIX}{name}"
    sessions = Fields(open_document(_AWAITED_MAGIC, keyring.cipher("s0", name), blob, what), what).take(
        "sessions", list
    )
    if not all(isinstance(session, str) for session in sessions):
        raise Damaged(f"{what} lacks valid 'sessions'")
    return frozenset(sessions)
