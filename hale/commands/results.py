"""``hale results``: the finished runs below a folder, the best first."""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from hale.commands.output import Row, write_rows
from hale.errors import HaleError
from hale.results import RESULT_FILE, read_result

CHOICES = ("model", "loss", "activation", "dataset")
METRICS = ("valid/mrr", "test/mrr", "test/hits@1", "test/hits@10", "train_seconds", "parameters")
LOW_IS_GOOD = ("train_seconds", "parameters")


def run(args: argparse.Namespace) -> None:
    """Collect the records and write a row for each."""
    top = Path(args.folder)
    if not top.is_dir():
        raise HaleError(f"{top} is not a folder: give one that holds runs")
    rows = []
    for path in sorted(top.rglob(RESULT_FILE)):
        if path.parent.name == "model" and (path.parent.parent / RESULT_FILE).is_file():
            continue  # the run's own record, kept with its model
        try:
            rows.append(_row(path.parent, top))
        except HaleError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not rows:
        raise HaleError(f"{top} holds no finished runs ({RESULT_FILE}): train one, or look higher")
    if args.sort not in rows[0]:
        raise HaleError(f"--sort must be one of {', '.join(rows[0])}, got {args.sort}")
    rows.sort(key=lambda row: _order(row[args.sort], args.sort))
    write_rows(rows, args.format, args.out, str(top))


def _row(folder: Path, top: Path) -> Row:
    record = read_result(folder)
    choices = (record or {}).get("choices")
    if record is None or not isinstance(choices, dict):
        raise HaleError(f"{folder / RESULT_FILE} is not a result record: it has no choices")
    return (
        {choice: _text(choices.get(choice)) for choice in CHOICES}
        | {"seed": _number(record.get("seed"))}
        | {metric: _number(record.get(metric)) for metric in METRICS}
        | {"folder": str(folder.relative_to(top))}
    )


def _order(cell: Any, column: str) -> tuple[bool, Any]:
    """Numbers the best first, texts by the alphabet, what is missing last."""
    if cell is None:
        return (True, 0)
    if isinstance(cell, str):
        return (False, cell)
    return (False, cell if column in LOW_IS_GOOD or column == "seed" else -cell)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | int | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if number else None
