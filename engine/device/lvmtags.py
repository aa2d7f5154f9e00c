"""What rokctl writes into LVM's metadata: tags on groups, pools and volumes, and names of logical volumes.

A tag is `rokctl.KEY` or `rokctl.KEY=VALUE`. LVM permits letters, digits and `_+.-/=!:#&`; every other character of a value
is written as `#` and two hexadecimal digits for each byte of its UTF-8 form. Identity stands in tags alone: the name of a
logical volume is only for people, and is chosen so that LVM accepts it (`choose_name`).
"""

import re
from collections.abc import Collection, Iterable
from enum import Enum
from typing import Final

from engine.errors import Refused

_PREFIX: Final = "rokctl."
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.:/-]")
_DM_NAME_LIMIT: Final = 127
_LAYER_SUFFIX: Final = len("_tdata_rimage_99")  # the longest name that LVM derives from one of ours, with room
_SHORTEST: Final = len("rok+") + len("+12345678") + 8  # a derived name with eight readable characters

# lvm(8), "Reserved names". A derived name has no `_`, and starts with `rok+`: it cannot meet a word that is added later.
_RESERVED: Final = re.compile(
    r"^(snapshot|pvmove)|_(cdata|cmeta|corig|cpool|cvol|imeta|iorig|mimage|mlog|mtmp|pmspare|rimage|rmeta|tdata|tmeta|tpool"
    r"|vdata|vorigin|vpool|wcorig)"
)


class Tag(Enum):
    """The keys. On the LV of a pool: POOL, FROM, PREPARING; on a group: MADE; on volumes and snapshots: the rest."""

    POOL = "pool"  # the name that the user gave
    FROM = "from"  # how the pool came to us: an `Origin`
    PREPARING = "preparing"  # the snapshots of this group are not taken yet; removing the tag is their commit
    MADE = "made"  # we made the volume group for this pool, and may remove it
    VOLUME = "volume"  # the name of a volume
    CLONE = "clone"  # the UUID of the snapshot that a volume was cloned from
    RESTORING = "restoring"  # the version that a restore is writing
    SNAPSHOT = "snapshot"  # the name of a snapshot
    OF = "of"  # the name of the volume that it is a snapshot of
    OF_UUID = "of-uuid"  # and its UUID
    GROUP = "group"  # what is equal for snapshots taken in one call
    CREATED = "created"  # when that was: seconds since 1970. LVM keeps a time too, and tells it to `lvs` alone
    FROZEN = "frozen"  # a mounted filesystem was frozen


class Origin(Enum):
    """How a pool came to rokctl: that decides what its removal removes."""

    DEVICES = "devices"  # rokctl made the physical volumes, the volume group and the pool
    GROUP = "group"  # rokctl made the pool, in someone's volume group
    ADOPTED = "adopted"  # rokctl found the pool


def tag(key: Tag, value: str = "") -> str:
    """The tag for a key and its value."""
    if not value:
        return f"{_PREFIX}{key.value}"
    return f"{_PREFIX}{key.value}={_UNSAFE.sub(_escape, value)}"


def parse_tags(tags: Iterable[str]) -> dict[Tag, str]:
    """Our tags among those that an object carries. Tags of others, and of later versions of rokctl, are passed over."""
    known = {key.value: key for key in Tag}
    found = {}
    for text in tags:
        key, _, value = text.removeprefix(_PREFIX).partition("=")
        if text.startswith(_PREFIX) and key in known:
            found[known[key]] = _unescape(value)
    return found


def choose_name(wanted: str, taken: Collection[str], room: int) -> str:
    """A name for a new logical volume: `wanted` itself if LVM permits it and nothing has it, or one derived from it.

    `room` is how long device-mapper lets it be, with each `-` counted twice (`name_room`).
    """
    if not _RESERVED.search(wanted) and len(wanted) + wanted.count("-") <= room and wanted not in taken:
        return wanted
    import hashlib  # OpenSSL takes longer to load than all the rest of a command that needs no such name

    number = 0
    while True:
        digest = hashlib.blake2b(f"{number} {wanted}".encode(), digest_size=4).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9.+]", ".", wanted)[: room - _SHORTEST + 8]
        name = f"rok+{readable}+{digest}"
        if name not in taken:
            return name
        number += 1


def name_room(volume_group: str) -> int:
    """How long the name of a logical volume in the group may be. Raises Refused when the group's own leaves no room."""
    room = _DM_NAME_LIMIT - len(volume_group) - volume_group.count("-") - 1 - _LAYER_SUFFIX
    if room < _SHORTEST:
        raise Refused(
            f"the name of volume group {volume_group} is too long: device-mapper has {_DM_NAME_LIMIT} characters for it "
            "and the name of a volume together",
            hint=f"rename it: vgrename {volume_group} NEWNAME",
        )
    return room


def _escape(match: "re.Match[str]") -> str:
    return "".join(f"#{byte:02X}" for byte in match.group().encode())


def _unescape(value: str) -> str:
    def decoded(match: "re.Match[str]") -> str:
        return bytes.fromhex(match.group().replace("#", "")).decode(errors="replace")

    return re.sub(r"(?:#[0-9A-F]{2})+", decoded, value)
