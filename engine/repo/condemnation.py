"""What collections write: which packs are condemned, and which sessions must have ended before those may go.

rok-repository(5), COLLECTION. A record `gc/<name>` is made once and never changed; `s0/<name>` likewise.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Protocol

from engine.errors import Damaged
from engine.repo.document import DOCUMENT_LIMIT, Fields, open_document, seal_document
from engine.repo.pack import PackName, parse_pack_key
from engine.repo.seal import Entropy, Keyring
from engine.store.base import Buffer, NoSuchBlob, Store
from engine.values import dataclass

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
    records, damaged = survey_condemnations(grounds)
    for name, error in damaged.items():
        raise Damaged(
            f"record {GC_PREFIX}{name} is damaged, so which packs it condemns cannot be told: {error.message}",
            hint="`rokctl repo repair` removes it when that is safe",
        )
    return records


def survey_condemnations(grounds: Grounds) -> tuple[list[Condemnation], dict[str, Damaged]]:
    """The records that can be read, by name, and why the others cannot."""
    records, damaged = [], {}
    for blob in list(grounds.store.list(GC_PREFIX)):
        name = blob.key.removeprefix(GC_PREFIX)
        try:
            if blob.size > DOCUMENT_LIMIT:
                raise Damaged(f"record {blob.key} has {blob.size} bytes, more than any can have")
            sealed = grounds.store.get(blob.key)
            records.append(open_condemnation(name, sealed, blob.modified, grounds.keyring))
        except NoSuchBlob:
            continue  # a collector has just finished: its packs are gone, and not in a list that is made later
        except Damaged as error:
            damaged[name] = error
    return records, damaged


def given_up(records: Iterable[Condemnation]) -> set[PackName]:
    """The packs that are condemned because they are damaged: what could be read in them stands in others."""
    return {pack for record in records if record.damaged for pack in record.packs}


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
