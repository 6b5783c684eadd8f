"""``hale results``: the finished runs below a folder, best first."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hale.cli.output import add_table_arguments, write_rows
from hale.errors import HaleError
from hale.runs.columns import LEAST_IMPORTANT, LOW_IS_GOOD, METRICS, differences, metric_value
from hale.runs.folders import RunFolder, find_runs
from hale.runs.tables import Row

SUMMARY = "a sorted table of finished runs"
CHOICES = ("model", "loss", "activation", "dataset", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder of runs, and the column to sort by."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder, searched recursively")
    parser.add_argument(
        "--sort", metavar="COLUMN", default="test/mrr", help="best first (default: test/mrr)"
    )
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write a row for each finished run; name damaged and failed ones on stderr.

    Raises:
        HaleError: no finished run, or an unknown column to sort by.
    """
    top = Path(args.folder)
    runs = find_runs(top)
    finished = [each for each in runs if each.record is not None]
    for each in runs:
        if each.error is not None and each.record is None:
            print(f"skipped: {each.error}", file=sys.stderr)
    if not finished:
        raise HaleError(
            f"{top} holds no finished runs (result.json): train one, or give a folder above"
        )
    settings = list(dict.fromkeys([*CHOICES, *differences(finished)]))
    rows = _rows(finished, settings, top)
    if args.sort not in rows[0]:
        raise HaleError(f"--sort must be one of {', '.join(rows[0])}, got {args.sort}")
    rows.sort(key=lambda row: _order(row[args.sort], args.sort))
    drop = [name for name in _least_important(rows, settings) if name != args.sort]
    write_rows(rows, args.format, args.out, str(top), drop)


def _least_important(rows: Sequence[Row], settings: Sequence[str]) -> list[str]:
    """Columns in the order in which a narrow table drops them; model, dataset and folder stay."""
    alike = [name for name in settings if len({str(row[name]) for row in rows}) == 1]
    further = [name for name in reversed(settings) if name not in CHOICES]
    order = [*LEAST_IMPORTANT[:3], *alike, *LEAST_IMPORTANT[3:-1], *further]
    order += ["seed", "activation", "loss"]
    return [name for name in dict.fromkeys(order) if name not in ("model", "dataset")]


def _rows(finished: Sequence[RunFolder], settings: Sequence[str], top: Path) -> list[Row]:
    columns = {name: _typed([run.settings.get(name) for run in finished]) for name in settings}
    return [
        {name: cells[i] for name, cells in columns.items()}
        | {metric: metric_value(run, metric) for metric in METRICS}
        | {"folder": str(run.path.relative_to(top))}
        for i, run in enumerate(finished)
    ]


def _typed(texts: Sequence[str | None]) -> list[Any]:
    """The numbers that the texts of a setting are; the texts themselves if any is not one."""
    try:
        values = [None if text is None else json.loads(text) for text in texts]
    except (ValueError, RecursionError):
        return list(texts)
    numeric = all(value is None or type(value) in (int, float) for value in values)
    return values if numeric else list(texts)


def _order(cell: Any, column: str) -> tuple[float, str]:
    """Numbers best first, texts alphabetically, missing values last."""
    if cell is None:
        return math.inf, ""
    if isinstance(cell, str):
        return 0.0, cell
    return (cell if column in LOW_IS_GOOD else -cell), ""
