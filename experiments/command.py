"""What the scripts of tables and figures share on the command line."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.records import Record, read_records
from hale.errors import HaleError


def from_records(doc: str | None, build: Callable[[list[Record], Path], object]) -> int:
    """Read the folders named on the command line and build an artefact in the first.

    Args:
        doc: the script's description.
        build: takes the records and the folder to write to.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument(
        "folders", nargs="+", type=Path,
        help="folders of records, as results/cpu/0.25; the first that has a run counts",
    )  # fmt: skip
    given = parser.parse_args()
    try:
        build(read_records(given.folders), given.folders[0])
    except HaleError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
