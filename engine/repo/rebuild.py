"""Rebuild the descriptor of a repository that has lost it, from the paper copy of its key (rok-repository(5), DAMAGE)."""

from engine.clock import Clock
from engine.errors import Damaged, NotFound, RokError, WrongKey
from engine.repo.descriptor import DESCRIPTOR_KEY, check_seal, make_descriptor, read_descriptor
from engine.repo.keyblob import KEYS_PREFIX
from engine.repo.manifest import TOMBSTONE_LIMIT, open_manifest
from engine.repo.paper import PaperKey
from engine.repo.seal import Keyring
from engine.store.base import Store


def rebuild_descriptor(store: Store, paper: PaperKey, *, clock: Clock, dry_run: bool) -> bool:
    """Write the descriptor anew, unless it is whole; was it to be written?

    The key must open a version of the repository first. The time of creation is that of its oldest key, by the store's clock.
    Raises NotFound where there is no repository or no version to try the key at; WrongKey; Refused for a newer format.
    """
    keyring = Keyring(paper.master, encrypted=True)
    if _is_whole(store, keyring):
        return False
    _require_right_key(store, keyring)
    created = min((blob.modified for blob in store.list(KEYS_PREFIX)), default=clock.now())
    blob = make_descriptor(paper.repository_id, created, keyring)
    if not dry_run:
        store.put(DESCRIPTOR_KEY, blob)
    return True


def _is_whole(store: Store, keyring: Keyring) -> bool:
    try:
        check_seal(read_descriptor(store), keyring, store.url)
    except Damaged:
        return False
    return True


def _require_right_key(store: Store, keyring: Keyring) -> None:
    """One version that it opens is proof; one that it does not may be damaged itself."""
    tried = 0
    for blob in store.list("versions/"):
        if blob.size <= TOMBSTONE_LIMIT:
            continue
        tried += 1
        try:
            open_manifest(blob.key.removeprefix("versions/"), store.get(blob.key), keyring)
        except RokError:
            continue
        return
    if not tried:
        raise NotFound(f"{store.url} holds no version, so there is nothing to save")
    raise WrongKey(f"the paper copy opens none of {tried} versions in {store.url}", hint="check the URL and the page")
