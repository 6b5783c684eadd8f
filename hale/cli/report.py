"""``hale report``: a folder of runs as one HTML page."""

import argparse
from pathlib import Path

SUMMARY = "curves and tables of a folder of runs as one HTML page"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and the page."""
    parser.add_argument("folder", metavar="FOLDER", help="searched with all folders in it")
    parser.add_argument(
        "--out", metavar="FILE", default="report.html", help="the page (default: report.html)"
    )


def run(args: argparse.Namespace) -> None:
    """Write the page and say where it is."""
    from hale.runs.report.page import write_report

    out = Path(args.out)
    count = write_report(Path(args.folder), out)
    print(f"{out}: {count} runs")
