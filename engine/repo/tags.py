"""Tags and pins of a version: the blob beside its manifest, which never changes (rok-repository(5), TAGS).

Fields that this program does not know are kept in `extra`, and written again where they stood.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from engine.errors import Damaged, Refused
from engine.repo.document import DOCUMENT_LIMIT, Fields, open_document, seal_document
from engine.repo.seal import Entropy, Keyring
from engine.store.base import Buffer, NoSuchBlob
from engine.values import dataclass

if TYPE_CHECKING:  # tags are named before a repository is opened, and with it all that is heavy
    from engine.repo.repository import Repository

TAG_LIMIT: Final = 64  # characters
_UNLISTED: Final = 8
_MAGIC: Final = b"ROKTAGS\x01"


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of a version, and whether it is pinned: without `pinned_until` for ever."""

    names: frozenset[str] = frozenset()
    pinned: bool = False
    pinned_until: datetime | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TagChange:
    """What to do to the tags of a version. `pin` None leaves the pin as it is; `until` is the end of one that is set."""

    add: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()
    pin: bool | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if both := self.add & self.remove:
            raise Refused(f"the tag {min(both)!r} is to be added and removed at once", hint="leave one of the two out")
        if self.until is not None and not self.pin:
            raise Refused("an end means something for a pin alone", hint="say --pin --until DATE, or leave --until out")

    def applied_to(self, tags: Tags) -> Tags:
        """The tags after the change."""
        changed = replace(tags, names=(tags.names | self.add) - self.remove)
        if self.pin is None:
            return changed
        return replace(changed, pinned=self.pin, pinned_until=self.until)


def check_tag(text: str) -> str:
    """A tag in normal form (NFC). Any script and emoji are fine. Raises Refused."""
    tag = unicodedata.normalize("NFC", text)
    problem = ""
    if not tag:
        problem = "it is empty"
    elif len(tag) > TAG_LIMIT:
        problem = f"it is longer than {TAG_LIMIT} characters"
    elif any(c == "," or c.isspace() or unicodedata.category(c) in ("Cc", "Cs", "Co", "Zl", "Zp") for c in tag):
        problem = "it holds white space, a comma or a control character"
    if problem:
        raise Refused(f"{text!r} cannot be a tag: {problem}", hint="use a word such as release or v1.2")
    return tag


def tags_of(repository: "Repository", version: str) -> Tags:
    """The tags and the pin of a version. Raises Damaged, saying how to set them anew."""
    try:
        blob = repository.store.get_range(f"tags/{version}", 0, DOCUMENT_LIMIT + 1)
        return open_tags(version, blob, repository.keyring)
    except NoSuchBlob:
        return Tags()
    except Damaged as error:
        raise Damaged(error.message, hint="`rokctl version tag` with --pin or --unpin sets them anew") from error


def all_tags(repository: "Repository", versions: Iterable[str]) -> dict[str, Tags | Damaged]:
    """The tags of many versions by id, or why they cannot be read: one listing, and a read for each that has any.

    For a few they are just read: a listing tells of all versions there are.
    """
    wanted = list(versions)
    stored = set(wanted)
    if len(wanted) > _UNLISTED:
        stored &= {blob.key.removeprefix("tags/") for blob in repository.store.list("tags/")}

    def read(version: str) -> Tags | Damaged:
        try:
            return tags_of(repository, version)
        except Damaged as error:
            return error

    tagged = [version for version in wanted if version in stored]
    found = dict(zip(tagged, repository.concurrently(read, tagged), strict=True))
    return {version: found.get(version, Tags()) for version in wanted}


def change_tags(repository: "Repository", version: str, change: TagChange) -> tuple[Tags, bool]:
    """Change the tags of a version; gives the tags as they are then, and whether that is a difference.

    Of two changes at the same time the later to be written wins, and the other is lost. Damaged tags are set anew where
    the change says whether there is a pin, and are an error elsewhere: a pin must not be lost by accident.
    """
    before: Tags | None
    try:
        before = tags_of(repository, version)
    except Damaged:
        if change.pin is None:
            raise
        before = None
    after = change.applied_to(before or Tags())
    if after == before:
        return after, False
    repository.store.put(f"tags/{version}", seal_tags(version, after, repository.keyring, repository.entropy))
    return after, True


def seal_tags(version: str, tags: Tags, keyring: Keyring, entropy: Entropy) -> bytes:
    """The blob `tags/<version>`."""
    document = {
        **tags.extra,
        "tags": sorted(tags.names),
        "pinned": tags.pinned,
        "pinned_until": tags.pinned_until.astimezone(UTC).isoformat() if tags.pinned_until else None,
    }
    return seal_document(_MAGIC, keyring.cipher("tags", version), document, entropy)


def open_tags(version: str, blob: Buffer, keyring: Keyring) -> Tags:
    """The tags in the blob `tags/<version>`. Raises Damaged."""
    what = f"the tags of version {version}"
    fields = Fields(open_document(_MAGIC, keyring.cipher("tags", version), blob, what), what)
    names: Iterable[object] = fields.take("tags", list)
    if not all(isinstance(name, str) for name in names):
        raise Damaged(f"{what} lacks a valid 'tags'")
    until = fields.take("pinned_until", (str, type(None)))
    return Tags(
        names=frozenset(map(str, names)),
        pinned=fields.take("pinned", bool),
        pinned_until=None if until is None else fields.end("pinned_until"),
        extra=fields.rest(),
    )
