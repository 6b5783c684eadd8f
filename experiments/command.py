"""The command line that the scripts of tables and figures share."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.records import Record, read_records
from hale.errors import HaleError


def from_records(doc: str | None, build: Callable[[list[Record], Path], object]) -> int:
    """Read the records below the given folders and build a table or figure in the first.

    Args:
        doc: the description for ``--help``.
        build: takes the records and the folder to write to.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument(
        "folders", nargs="+", type=Path,
        help="folders of records, as results/cpu/0.25; the first that has a system counts",
    )  # fmt: skip
    given = parser.parse_args()
    try:
        build(read_records(given.folders), given.folders[0])
    except HaleError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
