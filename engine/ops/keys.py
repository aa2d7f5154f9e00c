"""The keys of a repository: who can open it. All of them wrap one master key, which never changes."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from enum import Enum
from typing import Final

from engine.device.base import Made, Outcome
from engine.errors import Busy, Damaged, NotFound, Refused
from engine.repo.derivation import CannotDerive
from engine.repo.keyblob import KEYS_PREFIX, KeyKind, Secret, check_label, parse_key
from engine.repo.paper import PaperKey
from engine.repo.repository import Repository
from engine.repo.unlock import Opened, create_key, list_keys, read_key, try_keys
from engine.store.base import BlobExists, NoSuchBlob
from engine.values import dataclass

_ID_LENGTH: Final = 32
_SHORTEST_ID: Final = 4


class KeyState(Enum):
    """How good a key is."""

    GOOD = "good"
    WEAK = "weak"  # a guess at its secret costs less than for a key that is made today
    DAMAGED = "damaged"
    NEWER = "of a newer program"


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A key in a list. What could not be read is None or empty."""

    id: str
    kind: KeyKind | None
    label: str
    created: datetime | None
    derivation: str
    state: KeyState
    in_use: bool


class Keys:
    """The keys of an open repository. Raises Refused for one that is not encrypted, and so has none."""

    def __init__(self, repository: Repository) -> None:
        if not repository.encrypted:
            raise Refused(
                f"the repository {repository.url} is not encrypted, so it has no keys",
                hint="whoever can read the store can read it; `rokctl repo init` makes an encrypted one elsewhere",
            )
        self._repository = repository
        self._store = repository.store

    def entries(self) -> list[KeyEntry]:
        """All keys, oldest first, those that cannot be read last."""
        found = [entry for name in self._names() if (entry := self._look(name)) is not None]
        return sorted(found, key=lambda entry: (entry.created is None, entry.created, entry.id))

    def add(self, secret: Secret, *, label: str = "") -> Made[KeyEntry]:
        """Let the secret open the repository too. A secret that does so already is left alone, with its label."""
        check_label(label)
        opened = self._try(secret, self._names())
        if opened is not None:
            return Made(self._entry(opened.key), Outcome.ALREADY_THERE)
        return self._create(secret, label)

    def find(self, reference: str) -> KeyEntry:
        """A key by its id or the first digits of it. Raises NotFound; Refused when several fit."""
        names = [name for name in self._names() if name.startswith(reference)]
        if len(reference) < _SHORTEST_ID or len(names) > 1:
            raise Refused(
                f"{reference!r} does not name one key", hint="give more of the id that `rokctl repo key list` shows"
            )
        if not names:
            raise NotFound(
                f"the repository {self._repository.url} has no key {reference}", hint="see `rokctl repo key list`"
            )
        return self._entry(names[0])

    def check_removable(self, key: KeyEntry) -> None:
        """Raise Refused for the key in use: by it the repository is known to open when another one is gone."""
        if key.id != self._in_use():
            return
        if len(self._names()) == 1:
            raise Refused(
                f"key {key.id} is the last one of the repository {self._repository.url}",
                hint="add another one first, and come in by that",
            )
        raise Refused(
            f"key {key.id} is the one in use",
            hint="come in by another one, or replace it with `rokctl repo key change`",
        )

    def remove(self, reference: str) -> tuple[str, Outcome]:
        """Remove another key than the one in use; its id. Raises NotFound, Refused; Busy when both were about to go.

        A whole id that is not there is already gone.
        """
        if len(reference) == _ID_LENGTH and reference not in self._names():
            return reference, Outcome.ALREADY_GONE
        key = self.find(reference)
        self.check_removable(key)
        return key.id, self._remove(key.id, relied_on=self._in_use())

    def change(self, secret: Secret) -> KeyEntry:
        """Put a key for the secret, of today's cost, in place of the one in use, which goes when the new one stands.

        The label stays. The same secret may be given, to renew a weak key. An interruption between the two leaves both;
        then a run that comes in by the old one finds the new one, and only removes.
        """
        old = self._entry(self._in_use())
        if secret.key_name == old.id:  # made of random bits, and derived as is best for them
            return old
        others = [name for name in self._names() if name != old.id]
        opened = self._try(secret, others)
        new = self._entry(opened.key) if opened is not None else None
        if new is None or new.state is not KeyState.GOOD:
            new = self._create(secret, old.label).item
        self._remove(old.id, relied_on=new.id)
        return new

    def paper(self) -> PaperKey:
        """The master key, to be kept on paper."""
        return PaperKey(self._repository.id, self._repository.keyring.master)

    def _create(self, secret: Secret, label: str) -> Made[KeyEntry]:
        repository = self._repository
        name, is_new = create_key(
            self._store,
            repository.keyring,
            secret,
            label=label,
            repository_id=repository.id,
            created=repository.clock.now(),
            entropy=repository.entropy,
        )
        return Made(self._entry(name), Outcome.CREATED if is_new else Outcome.ALREADY_THERE)

    def _remove(self, name: str, *, relied_on: str) -> Outcome:
        """Remove a key, and put it back if the one relied on has gone meanwhile.

        Of several that remove one another's keys at once, the last to delete sees its own gone, so one always stays.
        """
        key = f"{KEYS_PREFIX}{name}"
        try:
            blob = self._store.get(key)
        except NoSuchBlob:
            return Outcome.ALREADY_GONE
        self._store.delete(key)
        try:
            self._store.stat(f"{KEYS_PREFIX}{relied_on}")
        except NoSuchBlob:
            with suppress(BlobExists):  # the same key was added anew meanwhile
                self._store.create(key, blob)
            raise Busy(
                f"key {relied_on} was removed by someone else meanwhile, so key {name} was put back",
                hint="see `rokctl repo key list`, then run it again",
            ) from None
        return Outcome.REMOVED

    def _in_use(self) -> str:
        if self._repository.key is None:
            raise Refused(
                f"the repository {self._repository.url} was opened by its paper copy, and no key is in use",
                hint="add a passphrase with `rokctl repo key add --from-paper`, and come in by that",
            )
        return self._repository.key

    def _try(self, secret: Secret, names: Sequence[str]) -> Opened | None:
        """What of these keys the secret opens, if one. Raises CannotDerive where that cannot be told."""
        tried = try_keys(self._store, self._repository.id, secret, dict.fromkeys(names))
        if tried.opened is None and isinstance(tried.problem, CannotDerive):
            raise tried.problem
        return tried.opened

    def _names(self) -> list[str]:
        return list_keys(self._store)

    def _entry(self, name: str) -> KeyEntry:
        entry = self._look(name)
        if entry is None:
            raise Busy(f"key {name} was removed by someone else meanwhile", hint="see `rokctl repo key list`")
        return entry

    def _look(self, name: str) -> KeyEntry | None:
        """A key as it is; None when it is gone."""
        in_use = name == self._repository.key
        try:
            key = parse_key(name, read_key(self._store, name))
            label = key.label(self._repository.keyring)
        except NoSuchBlob:
            return None
        except Damaged:
            return KeyEntry(name, None, "", None, "", KeyState.DAMAGED, in_use)
        except Refused:
            return KeyEntry(name, None, "", None, "", KeyState.NEWER, in_use)
        state = KeyState.WEAK if key.derivation.is_weak else KeyState.GOOD
        return KeyEntry(name, key.kind, label, key.created, str(key.derivation), state, in_use)
