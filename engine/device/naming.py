"""What pools, volumes and snapshots may be called. The command line checks that before it needs anything else of a pool."""

import re
from typing import Final

from engine.errors import Refused

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
NAME_LIMIT: Final = 64


def check_name(kind: str, name: str) -> str:
    """Return `name` if a pool, volume or snapshot may be called that. Raises Refused, saying why not.

    LVM refuses more than this (its reserved words); the LVM pool adds those.
    """
    rule = f"use letters, digits, '_', '.' and '-', starting with a letter or digit, at most {NAME_LIMIT} characters"
    if not _NAME.fullmatch(name) or len(name) > NAME_LIMIT:
        raise Refused(f"{name!r} cannot be the name of a {kind}", hint=rule)
    return name
