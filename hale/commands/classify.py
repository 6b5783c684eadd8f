"""``hale classify``: accuracy and F1 of telling true triples from false ones."""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from hale.commands.output import Row, write_rows
from hale.errors import HaleError
from hale.evaluation.classification import classification_metrics, classify, fit_thresholds
from hale.graphs.benchmarks import hard_negatives
from hale.graphs.tsv import read_triples
from hale.trained import TrainedModel, load


def run(args: argparse.Namespace) -> None:
    """Fit thresholds on valid, classify both splits, and report a row per split or relation."""
    model = load(args.model)
    graph = model.graph
    negatives = _negatives(args, model)
    score, relation, true = {}, {}, {}
    for split, negative_T3 in negatives.items():
        positive_T3 = graph.splits[split]
        triple_T3 = torch.cat((positive_T3, negative_T3))
        score[split] = model.plausibility(triple_T3)
        relation[split] = triple_T3[:, 1]
        true[split] = torch.arange(len(triple_T3)) < len(positive_T3)
    threshold_R = fit_thresholds(
        score["valid"], relation["valid"], true["valid"], graph.num_relations
    )
    predicted = {split: classify(score[split], relation[split], threshold_R) for split in negatives}
    rows: list[Row]
    if args.per_relation:
        rows = []
        for at in sorted(set(relation["test"].tolist())):
            mine_T = relation["test"] == at
            rows.append(
                {"relation": graph.relations[at], "count": int(mine_T.sum())}
                | {"threshold": float(threshold_R[at])}
                | classification_metrics(predicted["test"][mine_T], true["test"][mine_T])
            )
        rows.sort(key=lambda row: -row["count"])
    else:
        rows = [
            {"split": split, "count": len(true[split])}
            | classification_metrics(predicted[split], true[split])
            for split in negatives
        ]
    write_rows(rows, args.format, args.out, f"{graph.name}: triple classification")


def _negatives(args: argparse.Namespace, model: TrainedModel) -> dict[str, Tensor]:
    """False triples of valid and test, from the given files or the benchmark's."""
    files = {"valid": args.valid_negatives, "test": args.test_negatives}
    graph = model.graph
    if all(files.values()):
        return {
            split: read_triples(Path(file), graph.entities, graph.relations)
            for split, file in files.items()
        }
    if any(files.values()):
        raise HaleError("give both --valid-negatives and --test-negatives, or neither")
    valid_T3, test_T3 = hard_negatives(graph.name, graph)
    return {"valid": valid_T3, "test": test_T3}
