"""``hale classify``: accuracy and F1 of telling true triples from false ones."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hale.cli.output import Row, add_table_arguments, write_rows
from hale.errors import HaleError

if TYPE_CHECKING:
    from torch import Tensor

    from hale.graphs.kg import KnowledgeGraph

SUMMARY = "accuracy and F1 of telling true triples from false ones"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and false triples."""
    parser.add_argument("model", metavar="FOLDER", help="a run's folder, or the model in it")
    for split in ("valid", "test"):
        parser.add_argument(
            f"--{split}-negatives", metavar="FILE",
            help=f"false triples beside the {split} split (default: the hard ones of CoDEx)",
        )  # fmt: skip
    parser.add_argument("--per-relation", action="store_true", help="a row per relation")
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Fit thresholds on valid, classify both splits, and report a row per split or relation."""
    if bool(args.valid_negatives) != bool(args.test_negatives):
        raise HaleError("give both --valid-negatives and --test-negatives, or neither")
    from hale.evaluation.classification import Labelled, fit_thresholds
    from hale.runs.trained import load

    model = load(args.model)
    graph = model.graph
    labelled = {
        split: Labelled.of(graph.splits[split], negative_T3, model.plausibility)
        for split, negative_T3 in _negatives(args, graph).items()
    }
    threshold_R = fit_thresholds(*labelled["valid"], graph.num_relations)
    rows: list[Row]
    if args.per_relation:
        test = labelled["test"]
        rows = [
            {
                "relation": graph.relations[r],
                "count": len(part.true_T),
                "threshold": float(threshold_R[r]),
            }
            | part.metrics(threshold_R)
            for r, part in test.by_relation().items()
        ]
        rows.sort(key=lambda row: -row["count"])
    else:
        rows = [
            {"split": split, "count": len(part.true_T)} | part.metrics(threshold_R)
            for split, part in labelled.items()
        ]
    write_rows(rows, args.format, args.out, f"{graph.name}: triple classification")


def _negatives(args: argparse.Namespace, graph: "KnowledgeGraph") -> "dict[str, Tensor]":
    """False triples of valid and test, from the given files or the benchmark's."""
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
