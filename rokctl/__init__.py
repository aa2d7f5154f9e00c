"""The command line of rokctl: parse, one use case, render."""

from typing import Final

# Written here and not asked of the installed package: reading its metadata would be a third of the start-up.
VERSION: Final = "0.1.0"
