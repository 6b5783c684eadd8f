"""``hale stats``: statistics of a dataset, what spoils training on it, and how to train on it."""

import argparse
import re
import shlex
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
    """The dataset, and how its triples are written."""
    parser.add_argument(
        "dataset", metavar="DATASET",
        help="a folder or a file of triples, - for standard input, or the name of a dataset "
        "(family, wn18rr, ...)",
    )  # fmt: skip
    parser.add_argument(
        "--columns", nargs=3, metavar=("HEAD", "RELATION", "TAIL"),
        help="of a table, by name or position from 0",
    )  # fmt: skip
    parser.add_argument(
        "--literals", choices=("drop", "keep"), default="drop",
        help="what to do with RDF triples whose object is a literal",
    )  # fmt: skip
    parser.add_argument("--per-relation", action="store_true", help="a row per relation")
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write a row per split or per relation to stdout; the warnings and a command to stderr.

    Raises:
        HaleError: neither a path nor a dataset, or triples that cannot be read.
    """
    is_path = args.dataset == "-" or _exists(args.dataset)
    if not is_path and args.dataset not in DATASETS:
        raise HaleError(
            f"{args.dataset} is neither a path nor a dataset: choose one of {', '.join(DATASETS)}"
        )
    require_writable(args.out)
    from hale.graphs.quality import warnings
    from hale.graphs.statistics import pairings, relation_rows, split_rows

    graph = _read(args) if is_path else _dataset(args.dataset)
    paired = pairings(graph)
    splits = split_rows(graph, paired)
    rows = relation_rows(graph) if args.per_relation else splits
    write_rows(rows, args.format, args.out, graph.name, LEAST_IMPORTANT)
    for warning in warnings(graph, splits, paired):
        print(warning, file=sys.stderr)
    chosen = [f"dataset={args.dataset}"]
    if is_path:
        chosen = _overrides(args, unseen=any(row["unseen"] for row in splits))
    print(f"train on it: python -m hale.run {shlex.join(chosen)}", file=sys.stderr)


def _exists(name: str) -> bool:
    try:
        return Path(name).exists() or Path(name).expanduser().exists()
    except RuntimeError:  # a ~user that there is not
        return False


def _read(args: argparse.Namespace) -> "KnowledgeGraph":
    """The graph at a path, or from standard input."""
    from hale.graphs.kg import KnowledgeGraph

    columns = args.columns and [int(c) if c.isdecimal() else c for c in args.columns]
    return KnowledgeGraph.read(args.dataset, unseen="keep", columns=columns, literals=args.literals)


def _dataset(name: str) -> "KnowledgeGraph":
    """The dataset of a name."""
    from hale.graphs.family import family
    from hale.graphs.published import benchmark

    return family() if name == "family" else benchmark(name)


def _overrides(args: argparse.Namespace, unseen: bool) -> list[str]:
    """The settings that read the same triples for training."""
    overrides = ["dataset=tsv", f"dataset.path={_value(args.dataset)}"]
    if args.columns:
        overrides.append(f"dataset.columns=[{','.join(map(_value, args.columns))}]")
    if args.literals != "drop":
        overrides.append(f"dataset.literals={args.literals}")
    return overrides + ["dataset.unseen=keep"] * unseen


def _value(text: str) -> str:
    """A text in the grammar of Hydra's overrides, quoted where it needs to be."""
    from hale.settings.compose import quoted

    return text if re.fullmatch(r"[A-Za-z0-9_./-]+", text) else quoted(text)
