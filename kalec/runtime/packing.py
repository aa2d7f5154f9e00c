"""The parts of the runtime as one text, without what only a reader of the parts needs, and packed.

    python -m kalec.runtime.packing

writes `packed.py` anew, after a change to a part; a test holds the two together.
"""

import base64
import re
import zlib
from pathlib import Path
from typing import Final

PARTS: Final = ("failure", "formats", "plain", "pickles", "marshal", "step", "component")
"""The modules of the text, each after those that it needs."""

_DOCSTRING: Final = re.compile(r'^( *)r?"""(?:(?!""")[\s\S])*"""\n', re.MULTILINE)
_OWN_IMPORT: Final = re.compile(r"^from (?:kalec|__future__)[\w.]* import (?:\([^)]*\)|.*)\n", re.MULTILINE)
_COMMENT: Final = re.compile(r"^ *#.*\n|  # .*$", re.MULTILINE)
_EMPTY: Final = re.compile(r"\n{2,}")
_COLUMNS: Final = 120
_MODULE: Final = '''"""The text of the runtime, zlib in base64. Written by kalec.runtime.packing."""

from typing import Final

PACKED: Final = """\\
{packed}
"""
'''


def joined() -> str:
    """The parts, one after the other."""
    heading = '"""The runtime of a step: its values from files and back, and its cells. Written by kalec."""\n'
    parts = [_part(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")) for name in PARTS]
    return heading + "from __future__ import annotations\n" + "".join(parts)


def main() -> None:
    """Write packed.py."""
    packed = base64.b64encode(zlib.compress(joined().encode(), 9)).decode()
    lines = [packed[start : start + _COLUMNS] for start in range(0, len(packed), _COLUMNS)]
    text = _MODULE.format(packed="\n".join(lines))
    Path(__file__).with_name("packed.py").write_text(text, encoding="utf-8")


def _part(text: str) -> str:
    """A module without comments, docstrings, empty lines, and what it imports from the other parts."""
    text = _DOCSTRING.sub(lambda found: f"{found[1]}pass\n" if found[1] else "", text)
    return _EMPTY.sub("\n", _COMMENT.sub("", _OWN_IMPORT.sub("", text))).lstrip("\n")


if __name__ == "__main__":
    main()
