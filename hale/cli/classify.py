"""``hale classify``: triple classification, true triples against false ones."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hale.cli.output import add_table_arguments, require_writable, write_rows
from hale.errors import HaleError
from hale.runs.model_path import find_model
from hale.runs.tables import Row

if TYPE_CHECKING:
    from torch import Tensor

    from hale.evaluation.classification import Labelled
    from hale.graphs.kg import KnowledgeGraph

SUMMARY = "triple classification: accuracy and F1 on true and false triples"
LEAST_IMPORTANT = ("threshold", "recall", "precision", "count")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and files of false triples."""
    parser.add_argument("model", metavar="FOLDER", help="a run's folder, or the model in it")
    for split in ("valid", "test"):
        parser.add_argument(
            f"--{split}-negatives", metavar="FILE",
            help=f"false triples for the {split} split (default: CoDEx's hard negatives)",
        )  # fmt: skip
    parser.add_argument("--per-relation", action="store_true", help="a row per relation")
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Fit thresholds on valid, classify both splits, and write a row per split or relation.

    Raises:
        HaleError: no model, or no false triples.
    """
    if bool(args.valid_negatives) != bool(args.test_negatives):
        raise HaleError("give both --valid-negatives and --test-negatives, or neither")
    folder = find_model(args.model)
    require_writable(args.out)
    from hale.evaluation.classification import Labelled, fit_thresholds
    from hale.runs.trained import load

    model = load(folder)
    graph = model.graph
    labelled = {
        split: Labelled.of(graph.splits[split], negative_T3, model.plausibility)
        for split, negative_T3 in _negatives(args, graph).items()
    }
    threshold_R = fit_thresholds(*labelled["valid"], graph.num_relations)
    rows: list[Row]
    if args.per_relation:
        rows = _by_relation(labelled["test"], threshold_R, graph.relations)
    else:
        rows = [
            {"split": split, "count": len(part.true_T)} | part.metrics(threshold_R)
            for split, part in labelled.items()
        ]
    title = f"{graph.name}: triple classification"
    write_rows(rows, args.format, args.out, title, LEAST_IMPORTANT)


def _by_relation(test: "Labelled", threshold_R: "Tensor", relations: Sequence[str]) -> list[Row]:
    """The most frequent relation first."""
    rows: list[Row] = [
        {
            "relation": relations[r],
            "count": len(part.true_T),
            "threshold": float(threshold_R[r]),
        }
        | part.metrics(threshold_R)
        for r, part in test.by_relation().items()
    ]
    return sorted(rows, key=lambda row: -row["count"])


def _negatives(args: argparse.Namespace, graph: "KnowledgeGraph") -> "dict[str, Tensor]":
    """False triples for valid and test, from the files given or from the benchmark."""
    from hale.graphs.published import hard_negatives
    from hale.graphs.reading import read_triples

    files = {"valid": args.valid_negatives, "test": args.test_negatives}
    if all(files.values()):
        return {
            split: read_triples(Path(file), graph.entities, graph.relations)
            for split, file in files.items()
        }
    valid_T3, test_T3 = hard_negatives(graph.name, graph)
    return {"valid": valid_T3, "test": test_T3}
