"""Tables that fit the console: no number is cut, no column disappears without being named.

What does not fit is, in this order, folded (headings and texts, at separators), turned on its side
(few rows), dropped and listed below the table, or written as one block per row. IRIs are shortened
by prefixes, which are listed below, too.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from hale.graphs.names import shown
from hale.runs.prefixes import prefixes_of, shorten

GAP = 2
"""Spaces between two columns."""
SHORTEST = 12
"""Characters to which a column of text is folded at most."""
FEW = 4
"""Rows of a table that may be turned on its side."""

Row = dict[str, Any]
"""Cells by column; every row of a table has the same columns. An empty cell is None."""
Grid = list[list[str]]
"""A heading for each column, then the cells of each row, as text."""


@dataclass(frozen=True)
class FittedTable:
    """A table for :meth:`rich.console.Console.print`, laid out for the width of the console.

    Args:
        rows: at least one.
        title: the line above.
        drop: columns that may be left out, the least important first.
        complete: where all columns can be found, for the line that names those left out, as in
            ``--format tsv``.
    """

    rows: Sequence[Row]
    title: str = ""
    drop: Sequence[str] = ()
    complete: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The title, the table, and the names of the columns left out."""
        if self.title:
            yield Text(shown(self.title), style="bold", overflow="fold")
        every = chain.from_iterable(row.values() for row in self.rows)
        prefixes = prefixes_of(cell for cell in every if isinstance(cell, str))
        grid = [list(self.rows[0])]
        for row in self.rows:
            cells = (shorten(c, prefixes) if isinstance(c, str) else c for c in row.values())
            grid.append([plain(cell) for cell in cells])
        yield from self._layout(grid, options.max_width)
        for namespace, prefix in prefixes.items():
            yield Text(f"{prefix}: {namespace}", overflow="fold")

    def _layout(self, grid: Grid, width: int) -> list[RenderableType]:
        if widths := column_widths(grid, width):
            return [_draw(grid, widths)]
        turned = [list(column) for column in zip(*grid, strict=True)]
        if len(self.rows) <= FEW and (widths := column_widths(turned, width)):
            return [_draw(turned, widths)]
        for count in range(1, len(self.drop) + 1):
            left_out = self.drop[:count]
            fewer = _without(grid, left_out)
            if fewer[0] and (widths := column_widths(fewer, width)):
                return [_draw(fewer, widths), self._note(grid, left_out, width)]
        return [_block(grid[0], cells, width) for cells in grid[1:]]

    def _note(self, grid: Grid, left_out: Sequence[str], width: int) -> Text:
        names = ", ".join(name for name in grid[0] if name in left_out)
        where = f"; {self.complete} has all" if self.complete else ""
        return Text(f"not shown at {width} columns: {names}{where}", overflow="fold")


def plain(cell: Any) -> str:
    """A cell as text: four decimals, or one from 100 on; small numbers with four digits."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if not isinstance(cell, float) or not math.isfinite(cell):
        return shown(str(cell))
    if abs(cell) >= 100:
        return f"{cell:.1f}"
    return f"{cell:.4f}" if abs(cell) >= 1e-3 or cell == 0 else f"{cell:.4g}"


def column_widths(grid: Grid, width: int) -> list[int] | None:
    """A width for each column, so that the table is at most ``width`` wide; None if none is.

    The widest columns are folded first, none below its longest number or part of its heading.
    """
    columns = list(zip(*grid, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    least = [_least(column) for column in columns]
    excess = sum(widths) + GAP * (len(widths) - 1) - width
    while excess > 0:
        foldable = [i for i in range(len(widths)) if widths[i] > least[i]]
        if not foldable:
            return None
        widths[max(foldable, key=lambda i: widths[i])] -= 1
        excess -= 1
    return widths


def fold(text: str, width: int) -> list[str]:
    """The lines of a text: broken after separators, and within a part that is still too long."""
    lines = [""]
    for part in _parts(text):
        if cell_len(lines[-1] + part.rstrip()) <= width:
            lines[-1] += part
        else:
            lines += chop_cells(part, width)
    return [line.rstrip() for line in lines if line.strip()]


def _least(column: Sequence[str]) -> int:
    head, *cells = column
    return max(
        *(cell_len(part.rstrip()) for part in _parts(head)),
        *(cell_len(cell) if _is_number(cell) else min(cell_len(cell), SHORTEST) for cell in cells),
        1,
    )


def _parts(text: str) -> list[str]:
    """A text cut after each separator; numbers stay whole."""
    return re.findall(r"-?\d[\d.,e+-]*|[^\s/_.,:=-]+[\s/_.,:=-]*|[\s/_.,:=-]+", text) or [text]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _without(grid: Grid, names: Sequence[str]) -> Grid:
    kept = [i for i, name in enumerate(grid[0]) if name not in names]
    return [[cells[i] for i in kept] for cells in grid]


def _draw(grid: Grid, widths: Sequence[int]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for (head, *cells), width in zip(zip(*grid, strict=True), widths, strict=True):
        numeric = all(_is_number(cell) for cell in cells if cell)
        justify: Any = "right" if numeric and any(cells) else "left"
        table.add_column(_folded(head, width), justify=justify, width=width, no_wrap=True)
    for row in grid[1:]:
        table.add_row(*(_folded(cell, width) for cell, width in zip(row, widths, strict=True)))
    return table


def _block(heads: Sequence[str], cells: Sequence[str], width: int) -> Text:
    lines = [f"{head}: {cell}".rstrip() for head, cell in zip(heads, cells, strict=True)]
    return Text("\n".join(lines) + "\n", overflow="fold")


def _folded(text: str, width: int) -> Text:
    return Text("\n".join(fold(text, width)))
