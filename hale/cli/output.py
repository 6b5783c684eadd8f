"""Output of rows: a table for a terminal; TSV, JSON or Parquet for programs."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from hale.errors import HaleError
from hale.graphs.names import shown
from hale.runs.files import write_output, write_output_bytes
from hale.runs.tables import FittedTable, Row

UNBOUNDED = 10_000
"""Console width when the output is not a terminal: nothing is folded."""


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--format`` and ``--out``."""
    parser.add_argument(
        "--format", choices=("table", "tsv", "json", "parquet"),
        help="default: a table on a terminal, else TSV",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="write to a file, not to the terminal")


def write_rows(
    rows: list[Row],
    form: str | None = None,
    out: str | None = None,
    title: str = "",
    drop: Sequence[str] = (),
) -> None:
    """Write ``rows`` in a format to a file or to stdout.

    Args:
        rows: at least one.
        form: ``table``, ``tsv``, ``json`` or ``parquet``; by default a table on a terminal and TSV
            elsewhere.
        out: path of a file; stdout if not given.
        title: heading of the table.
        drop: columns that a narrow table may leave out, the least important first.

    Raises:
        HaleError: Parquet without pyarrow or without a file, a file that cannot be written, or a
            name that TSV cannot hold.
    """
    form = form or ("table" if out is None and sys.stdout.isatty() else "tsv")
    if form == "parquet":
        require_writable(out)
        _write_parquet(rows, out)
    elif out is None:
        _write(rows, form, sys.stdout, title, drop)
    else:
        require_writable(out)
        with write_output(Path(out)) as file:
            _write(rows, form, file, title, drop)


def require_writable(out: str | None) -> None:
    """Raise HaleError if ``out`` is a folder, or in a folder that does not exist."""
    if out is not None and (not Path(out).parent.is_dir() or Path(out).is_dir()):
        raise HaleError(f"cannot write {out}: give the path of a file in a folder that exists")


def tsv_field(value: str) -> str:
    """``value`` unchanged.

    Raises:
        HaleError: it contains a tab or a line end, which a field of a TSV file cannot.
    """
    if any(c in value for c in "\t\n\r"):
        raise HaleError(
            f"'{shown(value)}' has a tab or a line end, which TSV cannot hold: "
            "choose a format that can (predict: json, export: numpy)"
        )
    return value


def _write(rows: list[Row], form: str, file: TextIO, title: str, drop: Sequence[str]) -> None:
    if form == "table":
        width = None if file.isatty() else UNBOUNDED
        table = FittedTable(rows, title, drop, "--format tsv")
        Console(file=file, width=width, highlight=False).print(table)
    elif form == "json":
        finite = [{key: _finite(cell) for key, cell in row.items()} for row in rows]
        ascii_only = not (file.encoding or "utf-8").lower().startswith("utf")
        json.dump(finite, file, indent=1, ensure_ascii=ascii_only, allow_nan=False)
        file.write("\n")
    else:
        lines = ["\t".join(rows[0])]
        lines += ["\t".join(tsv_field(_precise(cell)) for cell in row.values()) for row in rows]
        file.write("\n".join(lines) + "\n")


def _write_parquet(rows: list[Row], out: str | None) -> None:
    if out is None:
        raise HaleError("Parquet needs a file: give --out FILE")
    try:
        import pyarrow  # type: ignore[import-not-found,import-untyped,unused-ignore]
        import pyarrow.parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise HaleError("Parquet needs pyarrow: pip install pyarrow, or --format tsv") from error
    with write_output_bytes(Path(out)) as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def _precise(cell: Any) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float):
        return f"{cell:.7g}"
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def _finite(cell: Any) -> Any:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
