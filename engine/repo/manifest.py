"""The manifest: the record of one version (rok-repository(5), MANIFESTS).

Fields that this program does not know are kept in `extra`, and written again where they stood.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, Final

from engine.errors import Damaged, Refused
from engine.repo.document import Fields, open_document, seal_document
from engine.repo.map import VOLUME_LIMIT
from engine.repo.naming import ObjectName
from engine.repo.seal import Entropy, Keyring
from engine.store.base import Buffer
from engine.values import dataclass

MANIFEST_FORMAT: Final = 1
_MAGIC: Final = b"ROKVERS\x01"
TOMBSTONE_LIMIT: Final = 16
BROKEN: Final = b"broken"
FORGOTTEN: Final = b"forgotten"


@dataclass(frozen=True, slots=True)
class Origin:
    """The snapshot that a member was pushed from. The uuids let a later push find its base on the node."""

    pool: str
    volume: str
    snapshot: str
    volume_uuid: str
    snapshot_uuid: str
    group: str
    taken: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """One volume of a version. Sizes in bytes; `root` is the reference of its top map, 16 bytes; `data` what is not zeros."""

    name: str
    root: bytes
    size: int
    logical_block_size: int
    filesystem_type: str
    filesystem_label: str
    filesystem_uuid: str
    frozen: bool
    data: int
    chunks: int
    origin: Origin
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Totals:
    """What the push that made a version did. Bytes, except `chunks` and `new_chunks` (counts) and `seconds`."""

    size: int
    data: int
    read: int
    stored: int
    chunks: int
    new_chunks: int
    seconds: float


@dataclass(frozen=True, slots=True)
class VersionIdentity:
    """A version, wherever copies of it stand: the id of the repository that it was pushed to, and its id there."""

    repository: str
    version: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version: one volume, or a consistent group of them. `copied_from` is None where it was pushed here."""

    version: str
    object: ObjectName
    created: datetime
    store_time: datetime
    node: str
    tool: str
    message: str
    labels: Mapping[str, str]
    base: str | None
    members: tuple[Member, ...]
    totals: Totals
    copied_from: VersionIdentity | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def identity(self, repository: str) -> VersionIdentity:
        """What it and its copies have in common; `repository` is the id of the one that this manifest stands in."""
        return self.copied_from or VersionIdentity(repository, self.version)

    def member(self, name: str | None) -> Member:
        """The member of that name; without a name the only one. Raises Refused."""
        names = ", ".join(member.name for member in self.members)
        if name is None:
            if len(self.members) == 1:
                return self.members[0]
            raise Refused(
                f"version {self.version} of {self.object} holds {len(self.members)} volumes: {names}",
                hint="choose one with --member NAME",
            )
        for member in self.members:
            if member.name == name:
                return member
        raise Refused(f"version {self.version} of {self.object} has no member {name!r}", hint=f"it holds {names}")


def seal_manifest(manifest: Manifest, keyring: Keyring, entropy: Entropy) -> bytes:
    """The blob `versions/<version>`."""
    return seal_document(_MAGIC, keyring.cipher("version", manifest.version), to_document(manifest), entropy)


def open_manifest(version: str, blob: Buffer, keyring: Keyring) -> Manifest:
    """The manifest in the blob `versions/<version>`. Raises Damaged."""
    what = f"the manifest of version {version}"
    document = open_document(_MAGIC, keyring.cipher("version", version), blob, what)
    manifest = from_document(document, what)
    if manifest.version != version:
        raise Damaged(f"{what} is of version {manifest.version}")
    return manifest


def to_document(manifest: Manifest) -> dict[str, Any]:
    """The JSON form."""
    totals, source = manifest.totals, manifest.copied_from
    return {
        **manifest.extra,
        **({"copied_from": {"repository": source.repository, "version": source.version}} if source else {}),
        "format": MANIFEST_FORMAT,
        "version": manifest.version,
        "bucket": manifest.object.bucket,
        "object": manifest.object.name,
        "created": manifest.created.isoformat(),
        "store_time": manifest.store_time.isoformat(),
        "node": manifest.node,
        "tool": manifest.tool,
        "message": manifest.message,
        "labels": dict(manifest.labels),
        "base": manifest.base,
        "members": [_member_document(member) for member in manifest.members],
        "totals": {
            "size": totals.size,
            "data": totals.data,
            "read": totals.read,
            "stored": totals.stored,
            "chunks": totals.chunks,
            "new_chunks": totals.new_chunks,
            "milliseconds": round(totals.seconds * 1000),
        },
    }


def _member_document(member: Member) -> dict[str, Any]:
    origin = member.origin
    return {
        **member.extra,
        "name": member.name,
        "root": member.root.hex(),
        "size": member.size,
        "logical_block_size": member.logical_block_size,
        "filesystem": {
            "type": member.filesystem_type,
            "label": member.filesystem_label,
            "uuid": member.filesystem_uuid,
        }
        if member.filesystem_type
        else None,
        "frozen": member.frozen,
        "data": member.data,
        "chunks": member.chunks,
        "origin": {
            "pool": origin.pool,
            "volume": origin.volume,
            "snapshot": origin.snapshot,
            "volume_uuid": origin.volume_uuid,
            "snapshot_uuid": origin.snapshot_uuid,
            "group": origin.group,
            "taken": origin.taken.isoformat(),
        },
    }


def from_document(document: Mapping[str, Any], what: str) -> Manifest:
    """The manifest that a JSON form describes. Raises Damaged, naming the field."""
    fields = Fields(document, what)
    number = fields.take("format", int)
    if number > MANIFEST_FORMAT:
        raise Refused(f"{what} has format {number}, newer than this program knows", hint="upgrade rokctl")
    if number < 1:
        raise Damaged(f"{what} has the format {number}, which never was")
    totals = Fields(fields.take("totals", dict), what)
    return Manifest(
        version=fields.take("version", str),
        object=ObjectName(fields.take("bucket", str), fields.take("object", str)),
        created=fields.time("created"),
        store_time=fields.time("store_time"),
        node=fields.take("node", str),
        tool=fields.take("tool", str),
        message=fields.take("message", str),
        labels={str(key): str(value) for key, value in fields.take("labels", dict).items()},
        base=fields.take("base", (str, type(None))),
        members=tuple(_member(entry, what) for entry in fields.take("members", list)),
        totals=Totals(
            **{name: totals.count(name) for name in ("size", "data", "read", "stored", "chunks", "new_chunks")},
            seconds=totals.count("milliseconds") / 1000,
        ),
        copied_from=_identity(fields, what),
        extra=fields.rest(),
    )


def _identity(fields: Fields, what: str) -> VersionIdentity | None:
    """Where the version was copied from; no other manifest has the field."""
    if "copied_from" not in fields.rest():
        return None
    source = Fields(fields.take("copied_from", dict), what)
    return VersionIdentity(source.take("repository", str), source.take("version", str))


def _size(fields: Fields, what: str) -> int:
    size = fields.count("size")
    if size > VOLUME_LIMIT:
        raise Damaged(f"{what} has a volume of {size} bytes, beyond the limit of {VOLUME_LIMIT}")
    return size


def _member(entry: object, what: str) -> Member:
    fields = Fields(entry, what)
    origin = Fields(fields.take("origin", dict), what)
    filesystem_type, label, uuid = _filesystem(fields.take("filesystem", (dict, type(None))), what)
    return Member(
        name=fields.take("name", str),
        root=fields.reference("root"),
        size=_size(fields, what),
        logical_block_size=fields.count("logical_block_size"),
        filesystem_type=filesystem_type,
        filesystem_label=label,
        filesystem_uuid=uuid,
        frozen=fields.take("frozen", bool),
        data=fields.count("data"),
        chunks=fields.count("chunks"),
        origin=Origin(
            **{
                name: origin.take(name, str)
                for name in ("pool", "volume", "snapshot", "volume_uuid", "snapshot_uuid", "group")
            },
            taken=origin.time("taken"),
        ),
        extra=fields.rest(),
    )


def _filesystem(document: object, what: str) -> tuple[str, str, str]:
    """Its type, label and uuid; empty without one."""
    if document is None:
        return "", "", ""
    fields = Fields(document, f"a filesystem in {what}")
    kind, label, uuid = (fields.take(name, str) for name in ("type", "label", "uuid"))
    if not kind:
        raise Damaged(f"{what} has a filesystem without a type")
    return kind, label, uuid
