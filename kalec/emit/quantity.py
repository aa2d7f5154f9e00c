"""Kubernetes quantities, as "500m", "4Gi", "1e3", in the numbers that KFP wants beside them."""

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from decimal import Decimal

_QUANTITY: Final = r"(\d+(?:\.\d*)?|\.\d+)(?:([numkKMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,2}))?\Z"
_FACTORS: Final = {
    **{"n": "1e-9", "u": "1e-6", "m": "1e-3", "k": "1000", "K": "1000"},
    **{letter: str(1000**power) for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": str(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}


def parse_quantity(text: str) -> "Decimal | None":
    """The number that a quantity stands for; None when it is none. Quantities of resources have no sign."""
    from decimal import Decimal  # here, since few notebooks ask for resources

    match = re.match(_QUANTITY, text)
    if not match:
        return None
    digits, suffix, power = match.groups()
    return Decimal(digits) * (Decimal(_FACTORS[suffix]) if suffix else Decimal(10) ** int(power or 0))
