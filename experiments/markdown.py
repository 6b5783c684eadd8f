"""Tables in Markdown and CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

from hale.runs.files import write_atomically

Row = Sequence[str]


def markdown_table(header: Row, rows: Sequence[Row], left: int = 1) -> str:
    """A Markdown table whose first ``left`` columns are aligned left, the others right."""
    rule = [":--" if i < left else "--:" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows)) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a text file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        file.write(text)


def write_csv(path: Path, header: Row, rows: Sequence[Row]) -> None:
    """Write a CSV file with a header, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
