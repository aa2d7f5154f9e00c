"""Notebook to pipeline. Stands alone: imports neither engine nor rokctl."""

from typing import Final

VERSION: Final = "0.1.0"
