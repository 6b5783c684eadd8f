"""``hale stats``: statistics of a dataset, and warnings about test leakage."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hale.cli.output import add_table_arguments, require_writable, write_rows
from hale.errors import HaleError
from hale.runs.columns import DATASETS

if TYPE_CHECKING:
    from hale.graphs.kg import KnowledgeGraph

SUMMARY = "statistics of a dataset: counts, kinds of relations, leakage, duplicates"
LEAST_IMPORTANT = (
    "loops", "unseen", "relations", "entities", "in train", "given away",
    "symmetric", "heads per tail", "tails per head", "train",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The dataset."""
    parser.add_argument(
        "dataset", metavar="DATASET",
        help="a folder or a file of triples, or the name of a dataset (family, wn18rr, ...)",
    )  # fmt: skip
    parser.add_argument("--per-relation", action="store_true", help="a row per relation")
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write a row per split or per relation, and the warnings to stderr.

    Raises:
        HaleError: neither a path nor a dataset, or triples that cannot be read.
    """
    if not Path(args.dataset).expanduser().exists() and args.dataset not in DATASETS:
        raise HaleError(
            f"{args.dataset} is neither a path nor a dataset: choose one of {', '.join(DATASETS)}"
        )
    require_writable(args.out)
    from hale.graphs.statistics import pairings, relation_rows, split_rows, warnings

    graph = _dataset(args.dataset)
    paired = pairings(graph)
    splits = split_rows(graph, paired)
    rows = relation_rows(graph) if args.per_relation else splits
    write_rows(rows, args.format, args.out, graph.name, LEAST_IMPORTANT)
    for warning in warnings(graph, splits, paired):
        print(warning, file=sys.stderr)


def _dataset(given: str) -> "KnowledgeGraph":
    """The graph at a path, or else the dataset of this name."""
    from hale.graphs.family import family
    from hale.graphs.kg import KnowledgeGraph
    from hale.graphs.published import benchmark

    if Path(given).expanduser().exists():
        return KnowledgeGraph.read(given, unseen="keep")
    return family() if given == "family" else benchmark(given)
