"""What a report of `lvs` says of one pool: its volumes and snapshots, ours and foreign, and what a crash left half made.

Pure: a list of rows in, values out.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from engine.device.base import Snapshot, Volume
from engine.device.lvmreport import LogicalVolume
from engine.device.lvmtags import Origin, Tag, parse_tags
from engine.device.rules import check_own, not_found
from engine.values import dataclass

_SECONDS: Final = re.compile("[0-9]{1,11}")


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """A volume, and the logical volume that it is."""

    item: Volume
    row: LogicalVolume
    clone_of: str  # the UUID of a snapshot, or empty


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot, and the logical volume that it is."""

    item: Snapshot
    row: LogicalVolume


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool at one moment."""

    name: str
    origin: Origin
    row: LogicalVolume
    volumes: tuple[VolumeRow, ...]
    snapshots: tuple[SnapshotRow, ...]
    leftovers: tuple[LogicalVolume, ...]  # snapshots that a crash left in preparation
    suspended: tuple[LogicalVolume, ...]  # their origins, where the crash left them suspended
    preparing: str  # the group that is, or was, in preparation; or empty
    taken: frozenset[str]  # all names of logical volumes in the group

    def volume(self, name: str) -> VolumeRow:
        """The volume of that name. Raises NotFound."""
        found = self.find_volume(name)
        if found is None:
            raise not_found("volume", name, (volume.item.name for volume in self.volumes))
        return found

    def find_volume(self, name: str) -> VolumeRow | None:
        """The volume of that name, ours before a foreign one, or None."""
        return next((volume for volume in self.volumes if volume.item.name == name), None)  # sorted that way

    def own_volume(self, name: str) -> VolumeRow:
        """The volume of that name, to be changed. Raises NotFound, and Refused when it is foreign."""
        volume = self.volume(name)
        check_own(volume.item)
        return volume

    def snapshots_of(self, volume: str) -> list[SnapshotRow]:
        """The snapshots of a volume, oldest first."""
        return [snapshot for snapshot in self.snapshots if snapshot.item.volume == volume]

    def snapshot(self, volume: str, name: str) -> SnapshotRow:
        """One snapshot. Raises NotFound."""
        found = self.find_snapshot(volume, name)
        if found is None:
            self.volume(volume)
            raise not_found(
                "snapshot", f"{volume}@{name}", (f"{volume}@{s.item.name}" for s in self.snapshots_of(volume))
            )
        return found

    def find_snapshot(self, volume: str, name: str) -> SnapshotRow | None:
        """One snapshot, ours before a foreign one, or None."""
        found = [snapshot for snapshot in self.snapshots_of(volume) if snapshot.item.name == name]
        return min(found, key=lambda snapshot: snapshot.item.foreign, default=None)

    def readable(self, volume: str, snapshot: str | None) -> LogicalVolume:
        """The logical volume of a snapshot, or of the volume itself. Raises NotFound."""
        return self.volume(volume).row if snapshot is None else self.snapshot(volume, snapshot).row


def view(pool_uuid: str, rows: Sequence[LogicalVolume]) -> PoolView | None:
    """The pool among the rows of its volume group, or None when it is not there."""
    pool = next((row for row in rows if row.uuid == pool_uuid), None)
    if pool is None:
        return None
    tags = parse_tags(pool.tags)
    preparing = tags.get(Tag.PREPARING, "")
    name = tags.get(Tag.POOL, pool.name)
    members = [row for row in rows if row.pool_uuid == pool_uuid]
    leftovers = [row for row in members if preparing and parse_tags(row.tags).get(Tag.GROUP) == preparing]
    whole = [row for row in members if row not in leftovers]
    origins = {row.origin_uuid for row in leftovers}
    named = {row.uuid: parse_tags(row.tags).get(Tag.VOLUME, row.name) for row in whole}
    snapshots = [_snapshot(name, row, named) for row in whole if _is_snapshot(row, named)]
    volumes = [_volume(name, row) for row in whole if not _is_snapshot(row, named)]
    return PoolView(
        name=name,
        origin=Origin(tags.get(Tag.FROM, Origin.ADOPTED.value)),
        row=pool,
        volumes=tuple(sorted(volumes, key=lambda volume: (volume.item.name, volume.item.foreign))),
        snapshots=_oldest_first(snapshots),
        leftovers=tuple(leftovers),
        suspended=tuple(row for row in whole if row.suspended and row.uuid in origins),
        preparing=preparing,
        taken=frozenset(row.name for row in rows),
    )


def with_snapshots(seen: PoolView, rows: Sequence[LogicalVolume]) -> PoolView:
    """The pool with snapshots in it that were made since."""
    named = {volume.row.uuid: volume.item.name for volume in seen.volumes}
    return replace(
        seen,
        snapshots=_oldest_first([*seen.snapshots, *(_snapshot(seen.name, row, named) for row in rows)]),
        taken=seen.taken | {row.name for row in rows},
    )


def _oldest_first(snapshots: Iterable[SnapshotRow]) -> tuple[SnapshotRow, ...]:
    return tuple(sorted(snapshots, key=lambda snapshot: (snapshot.item.created, snapshot.row.thin_id or 0)))


def _is_snapshot(row: LogicalVolume, named: dict[str, str]) -> bool:
    """Ours say so. A foreign one is one if it cannot change any more; a writable one is a volume like others."""
    tags = parse_tags(row.tags)
    if Tag.SNAPSHOT in tags or Tag.VOLUME in tags:
        return Tag.SNAPSHOT in tags
    return not row.writable and row.origin_uuid in named


def _snapshot(pool: str, row: LogicalVolume, named: dict[str, str]) -> SnapshotRow:
    tags = parse_tags(row.tags)
    item = Snapshot(
        pool=pool,
        volume=tags.get(Tag.OF) or named[row.origin_uuid],
        name=tags.get(Tag.SNAPSHOT, row.name),
        uuid=row.uuid,
        volume_uuid=tags.get(Tag.OF_UUID, row.origin_uuid),
        group=tags.get(Tag.GROUP, row.uuid),
        size=row.size,
        path=row.path,
        created=_moment(tags.get(Tag.CREATED, "")) or row.created,
        frozen=Tag.FROZEN in tags,
        foreign=Tag.SNAPSHOT not in tags,
    )
    return SnapshotRow(item, row)


def _moment(seconds: str) -> datetime | None:
    """A time as it stands in a tag; None for what rokctl never writes."""
    return datetime.fromtimestamp(int(seconds), UTC) if _SECONDS.fullmatch(seconds) else None


def _volume(pool: str, row: LogicalVolume) -> VolumeRow:
    tags = parse_tags(row.tags)
    item = Volume(
        pool=pool,
        name=tags.get(Tag.VOLUME, row.name),
        uuid=row.uuid,
        size=row.size,
        used=None,
        path=row.path,
        created=row.created,
        in_use=row.open,
        restoring=tags.get(Tag.RESTORING),
        foreign=Tag.VOLUME not in tags,
    )
    return VolumeRow(item, row, tags.get(Tag.CLONE, ""))
