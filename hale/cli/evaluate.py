"""``hale evaluate``: filtered ranking metrics of a trained model."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hale.cli.output import add_table_arguments, require_writable, write_rows
from hale.runs.columns import RANKING
from hale.runs.model_path import find_model
from hale.runs.tables import Row

if TYPE_CHECKING:
    from hale.evaluation.metrics import RankingMetrics

SUMMARY = "ranking metrics of a trained model on a split or a file"
COLUMNS = (*RANKING, "tie_gap")
LEAST_IMPORTANT = (
    "tie_gap", "amri", "mr", "hits@3", "head/mrr", "tail/mrr", "hits@1", "hits@10", "count",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and the triples to rank."""
    parser.add_argument("model", metavar="FOLDER", help="a run's folder, or the model in it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--split", choices=("train", "valid", "test"), default="test")
    what.add_argument("--triples", metavar="FILE", help="triples of known names instead of a split")
    parser.add_argument("--per-relation", action="store_true", help="a row per relation")
    parser.add_argument(
        "--exclude-own", action="store_true", help="never rank a query's own entity above others"
    )
    parser.add_argument(
        "--drop-unseen", action="store_true", help="leave out triples with names not in train"
    )
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Rank a split or a file, and write metrics by direction or by relation.

    Raises:
        HaleError: no model, or triples that cannot be read.
    """
    folder = find_model(args.model)
    require_writable(args.out)
    import torch

    from hale.graphs.reading import read_triples
    from hale.graphs.statistics import counts, unseen
    from hale.runs.trained import load

    model = load(folder)
    graph = model.graph
    triple_T3 = (
        read_triples(Path(args.triples), graph.entities, graph.relations)
        if args.triples
        else graph.splits[args.split]
    )
    if args.drop_unseen:
        in_train = counts(graph, graph.train.numpy())
        triple_T3 = triple_T3[torch.from_numpy(~unseen(in_train, triple_T3.numpy()))]
    metrics = model.evaluate(triple_T3, args.exclude_own)
    rows = (
        _by_relation(metrics, graph.relations)
        if args.per_relation
        else _by_direction(metrics, len(triple_T3))
    )
    title = f"{graph.name}: {args.triples or args.split}"
    title += (
        ", own entity excluded" * args.exclude_own + ", unseen names dropped" * args.drop_unseen
    )
    write_rows(rows, args.format, args.out, title, LEAST_IMPORTANT)


def _by_relation(metrics: "RankingMetrics", relations: Sequence[str]) -> list[Row]:
    """The most frequent relation first."""
    rows: list[Row] = [
        {"relation": relations[int(row["relation"])], "count": int(row["count"])}
        | {name: row[name] for name in (*COLUMNS, "tail/mrr", "head/mrr")}
        for row in metrics.per_relation()
    ]
    return sorted(rows, key=lambda row: -row["count"])


def _by_direction(metrics: "RankingMetrics", num_triples: int) -> list[Row]:
    mean = {name: float(value) for name, value in metrics.compute().items()}
    return [
        {"predicted": predicted, "count": num_triples * (2 if predicted == "both" else 1)}
        | {name: mean[prefix + name] for name in COLUMNS}
        for prefix, predicted in (("", "both"), ("tail/", "tail"), ("head/", "head"))
    ]
