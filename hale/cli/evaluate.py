"""``hale evaluate``: filtered ranking metrics of a trained model."""

import argparse
from pathlib import Path

from hale.cli.output import Row, add_table_arguments, write_rows

SUMMARY = "ranking metrics of a trained model on any split or file"

COLUMNS = ("count", "mrr", "hits@1", "hits@3", "hits@10", "mr", "amri", "tie_gap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and what to rank."""
    parser.add_argument("model", metavar="FOLDER", help="a run's folder, or the model in it")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--split", choices=("train", "valid", "test"), default="test")
    what.add_argument(
        "--triples", metavar="FILE", help="triples of known names, instead of a split"
    )
    parser.add_argument("--per-relation", action="store_true", help="a row per relation")
    add_table_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Rank a split or a file, and report overall and by direction, or by relation."""
    from hale.graphs.reading import read_triples
    from hale.runs.trained import load

    model = load(args.model)
    graph = model.graph
    triple_T3 = (
        read_triples(Path(args.triples), graph.entities, graph.relations)
        if args.triples
        else graph.splits[args.split]
    )
    metrics = model.evaluate(triple_T3)
    rows: list[Row]
    if args.per_relation:
        rows = [
            {"relation": graph.relations[int(row["relation"])]}
            | {name: row[name] for name in COLUMNS}
            | {f"{direction}/mrr": row[f"{direction}/mrr"] for direction in ("tail", "head")}
            for row in metrics.per_relation()
        ]
        rows.sort(key=lambda row: -row["count"])
    else:
        mean = {name: float(value) for name, value in metrics.compute().items()}
        rows = [
            {"predicted": shown, "count": len(triple_T3) * (2 if prefix == "" else 1)}
            | {name: mean[prefix + name] for name in COLUMNS[1:]}
            for prefix, shown in (("", "both"), ("tail/", "tail"), ("head/", "head"))
        ]
    for row in rows:
        row["count"] = int(row["count"])
    write_rows(rows, args.format, args.out, f"{graph.name}: {args.triples or args.split}")
