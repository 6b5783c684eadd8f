"""``hale evaluate``: filtered ranking metrics of a trained model."""

import argparse
from pathlib import Path

from hale.commands.output import Row, write_rows
from hale.graphs.tsv import read_triples
from hale.trained import load

COLUMNS = ("count", "mrr", "hits@1", "hits@3", "hits@10", "mr", "amri", "tie_gap")


def run(args: argparse.Namespace) -> None:
    """Rank a split or a file, and report overall and by direction, or by relation."""
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
