"""``hale stats``: what a dataset holds, and warnings of what spoils its evaluation."""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hale.commands.output import Row, write_rows
from hale.errors import HaleError
from hale.graphs.benchmarks import BENCHMARKS, benchmark
from hale.graphs.family import family
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.statistics import Pairing, given_away, pairings, relation_kinds, repeated
from hale.names import shown

KINDS = ("1-1", "1-N", "N-1", "N-N")


def run(args: argparse.Namespace) -> None:
    """Write a row per split, or per relation, and the warnings to stderr."""
    graph = _dataset(args.dataset)
    paired = pairings(graph)
    splits = _split_rows(graph, paired)
    rows = _relation_rows(graph) if args.per_relation else splits
    write_rows(rows, args.format, args.out, graph.name)
    for warning in _warnings(graph, splits, paired):
        print(warning, file=sys.stderr)


def _dataset(given: str) -> KnowledgeGraph:
    """A path, or else a dataset's name."""
    if Path(given).expanduser().exists():
        return KnowledgeGraph.read(given, unseen="keep")
    if given == "family":
        return family()
    if given in BENCHMARKS:
        return benchmark(given)
    raise HaleError(
        f"{given} is neither a path nor a dataset: choose one of family, {', '.join(BENCHMARKS)}"
    )


def _split_rows(graph: KnowledgeGraph, paired: list[Pairing]) -> list[Row]:
    kind_R = np.array([relation.kind for relation in relation_kinds(graph)])
    train_T3 = graph.train.numpy()
    rows: list[Row] = []
    for split, tensor_T3 in graph.splits.items():
        triple_T3 = tensor_T3.numpy()
        head_T, relation_T, tail_T = triple_T3.T
        entities = np.unique(np.concatenate((head_T, tail_T)))
        row: Row = {
            "split": split,
            "triples": len(triple_T3),
            "entities": len(entities),
            "relations": len(np.unique(relation_T)),
            "loops": int((head_T == tail_T).sum()),
            "unseen": _unseen(train_T3, triple_T3),
            "in train": 0 if split == "train" else repeated(graph, triple_T3, train_T3),
            "given away": 0 if split == "train" else given_away(graph, triple_T3, paired),
        }
        rows.append(row | {kind: int((kind_R[relation_T] == kind).sum()) for kind in KINDS})
    return rows


def _unseen(train_T3: NDArray[np.int64], triple_T3: NDArray[np.int64]) -> int:
    """Triples with an entity or a relation that train lacks."""
    entities, relations = train_T3[:, ::2], train_T3[:, 1]
    seen_T = np.isin(triple_T3[:, ::2], entities).all(1) & np.isin(triple_T3[:, 1], relations)
    return int((~seen_T).sum())


def _relation_rows(graph: KnowledgeGraph) -> list[Row]:
    return [
        {
            "relation": each.relation,
            "kind": each.kind,
            "train": each.count,
            "tails per head": each.tails_per_head,
            "heads per tail": each.heads_per_tail,
            "symmetric": each.symmetric,
        }
        for each in sorted(relation_kinds(graph), key=lambda each: -each.count)
    ]


def _warnings(graph: KnowledgeGraph, splits: list[Row], paired: list[Pairing]) -> list[str]:
    warnings = []
    for row in splits[1:]:
        for column, meaning in (
            ("in train", "are in train, too"),
            ("given away", "are in train under a duplicate, reverse or symmetric relation"),
            ("unseen", "have an entity or a relation that train lacks"),
        ):
            if row[column]:
                share = row[column] / row["triples"]
                warnings.append(
                    f"warning: {row[column]} of {row['triples']} triples of {row['split']} "
                    f"({share:.1%}) {meaning}"
                )
    for pairing in paired:
        first, second = (shown(graph.relations[r]) for r in (pairing.first, pairing.second))
        if pairing.first == pairing.second:
            warnings.append(f"note: {first} is symmetric")
        else:
            how = "the reverse" if pairing.reverse else "a duplicate"
            warnings.append(f"warning: {second} is {how} of {first}")
    return warnings
