"""Looking at an LVM pool, as seldom as can be: every look is a run of `lvs`, which takes longer than most of what follows it.

A change looks at the pool under the lock that all changes hold, since what it decides on must not be changed by another
rokctl meanwhile. The look that found the pool by its name came before the lock, and serves as well if no change has begun
since: the lock counts them. What others do with LVM's own commands can come after any look, and LVM itself is the judge then.

A snapshot does not change. What was seen of it once holds as long as the kernel has a device of its UUID, which a
device-mapper call tells in no time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

from engine.device.dm import Address, Target, control
from engine.device.lvmreport import LogicalVolume, logical_volumes, uuid_of_device
from engine.device.lvmview import PoolView, view
from engine.device.node import Node, Work
from engine.device.thin import Sectors
from engine.errors import NotFound
from engine.values import dataclass

_FRESH_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen of a pool: when, by the node's monotonic clock, and after how many changes (`Node.changes`)."""

    view: PoolView
    seconds: float
    changes: int


class Lookout:
    """One pool under observation. `first` is what the one who found it has seen; it is used once, and only while fresh."""

    def __init__(self, node: Node, name: str, group: str, uuid: str, first: Sighting | None = None) -> None:
        self._node = node
        self._name = name
        self._group = group
        self._uuid = uuid
        self._first = first
        self._last = None if first is None else first.view

    def look(self) -> PoolView:
        """The pool as it is. Raises NotFound when it is gone."""
        first = self._take_first()
        return self._look_again() if first is None else first.view

    @contextmanager
    def changing(self) -> Iterator[PoolView]:
        """The pool, with nobody else changing it and no leftovers of a crash in it."""
        with self._node.working(Work.CHANGE, self._uuid, self._name) as changes:
            first = self._take_first()
            quiet = first is not None and first.changes == changes and changes % 2 == 0
            seen = first.view if first is not None and quiet else self._look_again()
            if seen.preparing:
                from engine.device import lvmgroup

                lvmgroup.clear_leftovers(seen)
                seen = self._look_again()
            yield seen

    def readable(self, volume: str, snapshot: str | None) -> LogicalVolume:
        """The logical volume of a snapshot, or of the volume itself. Raises NotFound."""
        seen = self._last.find_snapshot(volume, snapshot) if self._last is not None and snapshot is not None else None
        if seen is None:
            return self.look().readable(volume, snapshot)
        if is_present(seen.row):
            return seen.row
        return self._look_again().readable(volume, snapshot)  # it is inactive, or gone: the first look tells no more

    def pool(self) -> LogicalVolume:
        """The logical volume of the pool: what of it does not change."""
        return (self._last or self.look()).row

    def check_present(self, *rows: LogicalVolume) -> None:
        """Raises NotFound if one of them is gone: then its thin id may be another's already."""
        unsure = [row for row in rows if not is_present(row)]
        present = {(row.uuid, row.thin_id) for row in logical_volumes(self._group)} if unsure else set()
        for row in unsure:
            if (row.uuid, row.thin_id) not in present:
                raise NotFound(f"{row.full_name} was removed while it was compared")

    def saw(self, seen: PoolView) -> PoolView:
        """Remember the pool as it is after a change of ours, or a look."""
        self._first, self._last = None, seen
        return seen

    def _take_first(self) -> Sighting | None:
        first, self._first = self._first, None
        return first if first and self._node.clock.monotonic() - first.seconds < _FRESH_SECONDS else None

    def _look_again(self) -> PoolView:
        seen = view(self._uuid, logical_volumes(self._group))
        if seen is None:
            raise NotFound(f"pool {self._name} is gone from volume group {self._group}")
        return self.saw(seen)


def row_by_kernel(origin: LogicalVolume, name: str, tags: Sequence[str]) -> LogicalVolume | None:
    """What `lvs` would say of a snapshot of `origin` that LVM has just made, active, under this name and with these tags.

    None when the kernel does not tell, because the configuration of LVM leaves it inactive.
    """
    path = f"/dev/{origin.group}/{name}"
    with control() as devices, suppress(NotFound, FileNotFoundError):
        device = devices.find_behind(path)
        if device is None:
            return None
        table = devices.table(Address(device.uuid, path))
        uuid, thin_id = uuid_of_device(device.uuid, origin.group_uuid), _thin_id(table)
        if uuid is not None and thin_id is not None:
            return replace(
                origin,
                name=name,
                uuid=uuid,
                path=path,
                size=Sectors(table[0].length_sectors).to_bytes(),
                tags=tuple(tags),
                writable=False,
                active=True,
                suspended=False,
                open=False,
                origin_uuid=origin.uuid,
                thin_id=thin_id,
            )
    return None


def is_present(row: LogicalVolume) -> bool:
    """Whether the kernel runs this very thin volume. As long as it does, nobody can remove it from the pool."""
    with control() as devices:
        try:
            return _thin_id(devices.table(row.device)) == row.thin_id
        except NotFound:
            return False


def _thin_id(table: Sequence[Target]) -> int | None:
    """The id in the pool, from the table of a thin volume: `POOL ID`, and perhaps an external origin; else None."""
    words = table[0].text.split() if len(table) == 1 and table[0].type == "thin" else []
    return int(words[1]) if len(words) > 1 and words[1].isdecimal() else None
