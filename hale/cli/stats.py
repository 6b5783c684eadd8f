"""``hale stats``: what a dataset holds, and warnings of what spoils its evaluation."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hale.cli.output import add_table_arguments, write_rows
from hale.errors import HaleError

if TYPE_CHECKING:
    from hale.graphs.kg import KnowledgeGraph

SUMMARY = "what a dataset holds: counts, kinds of relations, leakage, duplicates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The dataset."""
    parser.add_argument(
        "dataset", metavar="DATASET",
        help="a folder of triples, a file of triples, or a dataset's name (family, wn18rr, ...)",
    )  # fmt: skip
    parser.add_argument("--per-relation", action="store_true", help="a row per relation")
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write a row per split, or per relation, and the warnings to stderr."""
    from hale.graphs.statistics import pairings, relation_rows, split_rows, warnings

    graph = _dataset(args.dataset)
    paired = pairings(graph)
    splits = split_rows(graph, paired)
    rows = relation_rows(graph) if args.per_relation else splits
    write_rows(rows, args.format, args.out, graph.name)
    for warning in warnings(graph, splits, paired):
        print(warning, file=sys.stderr)


def _dataset(given: str) -> "KnowledgeGraph":
    """A path, or else a dataset's name."""
    from hale.graphs.family import family
    from hale.graphs.kg import KnowledgeGraph
    from hale.graphs.published import BENCHMARKS, benchmark

    if Path(given).expanduser().exists():
        return KnowledgeGraph.read(given, unseen="keep")
    if given == "family":
        return family()
    if given in BENCHMARKS:
        return benchmark(given)
    raise HaleError(
        f"{given} is neither a path nor a dataset: choose one of family, {', '.join(BENCHMARKS)}"
    )
