"""``hale report``: convergence curves and tables of runs on one HTML page."""

import argparse
from pathlib import Path

from hale.cli.output import require_writable

SUMMARY = "convergence curves and tables of runs on one HTML page"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder of runs and the file to write."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder, searched recursively")
    parser.add_argument("--out", metavar="FILE", default="report.html", help="default: report.html")


def run(args: argparse.Namespace) -> None:
    """Write the page and print its path.

    Raises:
        HaleError: no finished run, or a page that cannot be written.
    """
    require_writable(args.out)
    from hale.runs.report.page import write_report

    out = Path(args.out)
    count = write_report(Path(args.folder), out)
    print(f"{out}: {count} runs")
