"""Rows for a reader: a table on a terminal; TSV, JSON or Parquet for programs."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from hale.errors import HaleError
from hale.graphs.names import shown
from hale.runs.files import write_atomically, write_bytes_atomically

UNBOUNDED = 10_000
"""Columns of what is no terminal: nothing is wrapped."""

Row = dict[str, Any]
"""Cells by column; every row of a list has the same columns. A cell is None where there is none."""


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """How and where a command writes its rows."""
    parser.add_argument(
        "--format", choices=("table", "tsv", "json", "parquet"),
        help="default: a table on a terminal, else TSV",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="write to a file, not to the terminal")


def write_rows(
    rows: list[Row], form: str | None = None, out: str | None = None, title: str = ""
) -> None:
    """Write ``rows`` as ``form`` to the file ``out``, or to stdout.

    Args:
        rows: at least one.
        form: ``table``, ``tsv``, ``json`` or ``parquet``; if not given a table on a terminal, TSV
            elsewhere.
        out: path of a file.
        title: of a table.

    Raises:
        HaleError: Parquet without pyarrow or without a file, or a name that TSV cannot hold.
    """
    form = form or ("table" if out is None and sys.stdout.isatty() else "tsv")
    if out is not None and (not Path(out).parent.is_dir() or Path(out).is_dir()):
        raise HaleError(f"cannot write {out}: give the path of a file in a folder that exists")
    if form == "parquet":
        _write_parquet(rows, out)
    elif out is None:
        _WRITERS[form](rows, sys.stdout, title)
    else:
        with write_atomically(Path(out)) as file:
            _WRITERS[form](rows, file, title)


def tsv_field(value: str) -> str:
    """``value``, if a field of a TSV file can hold it.

    Raises:
        HaleError: it has a tab or a line end.
    """
    if any(c in value for c in "\t\n\r"):
        raise HaleError(
            f"'{shown(value)}' has a tab or a line end, which TSV cannot hold: "
            "choose a format that can (predict: json, export: numpy)"
        )
    return value


def _write_tsv(rows: list[Row], file: TextIO, _: str) -> None:
    lines = ["\t".join(rows[0])]
    lines += ["\t".join(tsv_field(_plain(cell)) for cell in row.values()) for row in rows]
    file.write("\n".join(lines) + "\n")


def _write_json(rows: list[Row], file: TextIO, _: str) -> None:
    finite = [{key: _finite(cell) for key, cell in row.items()} for row in rows]
    json.dump(finite, file, indent=1, ensure_ascii=False, allow_nan=False)
    file.write("\n")


def _write_table(rows: list[Row], file: TextIO, title: str) -> None:
    table = Table(title=Text(shown(title)), box=SIMPLE_HEAD)
    for column in rows[0]:
        numeric = all(isinstance(row[column], int | float | None) for row in rows)
        justify: JustifyMethod = "right" if numeric else "left"
        table.add_column(column, justify=justify, no_wrap=numeric, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_rounded(cell)) for cell in row.values()))
    width = None if file.isatty() else UNBOUNDED
    Console(file=file, width=width).print(table)


def _write_parquet(rows: list[Row], out: str | None) -> None:
    if out is None:
        raise HaleError("Parquet needs a file: give --out FILE")
    try:
        import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]
        import pyarrow.parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise HaleError("Parquet needs pyarrow: pip install pyarrow, or --format tsv") from error
    with write_bytes_atomically(Path(out)) as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)


_WRITERS = {"table": _write_table, "tsv": _write_tsv, "json": _write_json}


def _plain(cell: Any) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float):
        return f"{cell:.7g}"
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def _rounded(cell: Any) -> str:
    if isinstance(cell, float) and math.isfinite(cell):
        return f"{cell:.1f}" if abs(cell) >= 100 else f"{cell:.4f}"
    return shown(_plain(cell))


def _finite(cell: Any) -> Any:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
