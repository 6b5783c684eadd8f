"""``hale results``: the finished runs below a folder, the best first."""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from hale.cli.output import Row, add_table_arguments, write_rows
from hale.errors import HaleError
from hale.runs.folders import RunFolder, find_runs, varying

SUMMARY = "a sorted table of finished runs"
CHOICES = ("model", "loss", "activation", "dataset", "seed")
METRICS = ("valid/mrr", "test/mrr", "test/hits@1", "test/hits@10", "train_seconds", "parameters")
LOW_IS_GOOD = ("train_seconds", "parameters")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder of runs, and the order."""
    parser.add_argument("folder", metavar="FOLDER", help="searched with all folders in it")
    parser.add_argument(
        "--sort", metavar="COLUMN", default="test/mrr", help="best first (default: test/mrr)"
    )
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write a row for each finished run; name the damaged ones on stderr."""
    top = Path(args.folder)
    runs = find_runs(top)
    finished = [each for each in runs if each.record is not None]
    for each in runs:
        if each.error is not None and each.record is None:
            print(f"left out: {each.error}", file=sys.stderr)
    if not finished:
        raise HaleError(f"{top} holds no finished runs (result.json): train one, or look higher")
    settings = [*CHOICES, *(name for name in varying(finished) if name not in CHOICES)]
    rows = [_row(each, settings, top) for each in finished]
    if args.sort not in rows[0]:
        raise HaleError(f"--sort must be one of {', '.join(rows[0])}, got {args.sort}")
    rows.sort(key=lambda row: _order(row[args.sort], args.sort))
    write_rows(rows, args.format, args.out, str(top))


def _row(found: RunFolder, settings: list[str], top: Path) -> Row:
    return (
        {name: found.settings.get(name) for name in settings}
        | {metric: found.metric(metric) for metric in METRICS}
        | {"folder": str(found.path.relative_to(top))}
    )


def _order(cell: Any, column: str) -> tuple[float, str]:
    """Numbers the best first, texts by the alphabet, what is missing last."""
    if cell is None:
        return math.inf, ""
    try:
        cell = float(cell)  # settings are texts
    except ValueError:
        return 0.0, cell
    return (cell if column in LOW_IS_GOOD else -cell), ""
