"""``hale report``: a folder of runs as one HTML page."""

import argparse
from pathlib import Path

from hale.report.page import write_report


def run(args: argparse.Namespace) -> None:
    """Write the page and say where it is."""
    out = Path(args.out)
    count = write_report(Path(args.folder), out)
    print(f"{out}: {count} runs")
