"""Kubernetes quantities, as "500m", "4Gi", "1e3", in the numbers that KFP wants beside them."""

import re
from decimal import Decimal
from typing import Final

_QUANTITY: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:([numkKMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,2}))?\Z")
_FACTORS: Final = {
    **{"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "k": Decimal(10**3), "K": Decimal(10**3)},
    **{letter: Decimal(1000**power) for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": Decimal(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}


def parse_quantity(text: str) -> Decimal | None:
    """The number that a quantity stands for; None when it is none. Quantities of resources have no sign."""
    match = _QUANTITY.match(text)
    if not match:
        return None
    digits, suffix, power = match.groups()
    return Decimal(digits) * (_FACTORS[suffix] if suffix else Decimal(10) ** int(power or 0))
