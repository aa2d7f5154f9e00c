"""What every kind of source becomes: cells in order, with their tags, and the metadata of the whole."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kalec.model import NOTHING, Place


class SourceCell(NamedTuple):
    """A code cell as it stands in its file, magics and all."""

    number: int  # from 1, among all cells of the file, prose too
    cell_id: str
    source: str
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = NOTHING
    first_line: int = 1  # where line 1 of `source` stands in the file; 1 in a notebook
    headings: tuple[str, ...] = ()  # the prose headings since the code cell before


class Source(NamedTuple):
    """A file of cells."""

    file: str  # its name, without its folder
    cells: tuple[SourceCell, ...]
    metadata: Mapping[str, Any]  # what stands under `kubeflow_notebook`
    in_notebook: bool
    step_functions: frozenset[str] = frozenset()  # of a module: their arguments are copies, and data alone makes edges

    def place(self, cell: SourceCell, line: int = 0, column: int = 0) -> Place:
        """The place of a line of a cell, both from 1."""
        if self.in_notebook:
            return Place(self.file, cell.number, line, column, cell.cell_id)
        return Place(self.file, 0, cell.first_line + max(line, 1) - 1, column)
