"""Statistics of a dataset: sizes, kinds of relations, and leakage from train to valid and test.

Sources: the kinds of relations are those of TransE (Bordes et al., NeurIPS 2013); duplicate and
reverse relations and their threshold are those of Akrami et al. (SIGMOD 2020).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hale.graphs.kg import KnowledgeGraph
from hale.graphs.names import shown

Ids = NDArray[np.int64]

KINDS = ("1-1", "1-N", "N-1", "N-N")
MANY = 1.5
"""Mean number of answers per query from which a side of a relation counts as N."""
OVERLAP = 0.8
"""Shared triples, as a share of the larger relation's, above which two are duplicate or reverse."""


@dataclass(frozen=True)
class RelationKind:
    """A relation in train: number of triples, mean answers per query, symmetric share."""

    relation: str
    count: int
    tails_per_head: float
    heads_per_tail: float
    symmetric: float

    @property
    def kind(self) -> str:
        """``1-1``, ``1-N``, ``N-1`` or ``N-N``, heads first; empty if it is not in train."""
        if not self.count:
            return ""
        sides = (self.heads_per_tail, self.tails_per_head)
        return "-".join("N" if side >= MANY else "1" for side in sides)


@dataclass(frozen=True)
class Pairing:
    """Two relations of train with about the same pairs, or with each other's pairs reversed."""

    first: int
    second: int
    reverse: bool


def relation_kinds(graph: KnowledgeGraph) -> list[RelationKind]:
    """The kind of each relation, in the order of ids."""
    head_T, relation_T, tail_T = graph.train.numpy().T
    size, relations = graph.num_entities, graph.num_relations
    count_R = np.bincount(relation_T, minlength=relations)
    heads_R, tails_R = (
        np.bincount(np.unique(relation_T * size + entity_T) // size, minlength=relations)
        for entity_T in (head_T, tail_T)
    )
    same_T = _contains(_keys(graph, graph.train.numpy()), _keys(graph, graph.train.numpy(), True))
    symmetric_R = np.bincount(relation_T[same_T], minlength=relations)
    return [
        RelationKind(
            name,
            int(count),
            float(count / max(heads, 1)),
            float(count / max(tails, 1)),
            float(symmetric / max(count, 1)),
        )
        for name, count, heads, tails, symmetric in zip(
            graph.relations, count_R, heads_R, tails_R, symmetric_R, strict=True
        )
    ]


def pairings(graph: KnowledgeGraph) -> list[Pairing]:
    """Duplicate, reverse and, paired with themselves, symmetric relations in train."""
    return list(_pairings(graph))


def _pairings(graph: KnowledgeGraph) -> Iterator[Pairing]:
    head_T, relation_T, tail_T = graph.train.numpy().T
    pair_T = head_T * graph.num_entities + tail_T
    order_T = np.argsort(pair_T, kind="stable")
    count_R = np.bincount(relation_T, minlength=graph.num_relations)
    loop_T = head_T == tail_T  # its own reverse: not counted as one
    for reverse in (False, True):
        wanted_T = tail_T * graph.num_entities + head_T if reverse else pair_T
        first_T, last_T = (
            np.searchsorted(pair_T, wanted_T, side, sorter=order_T) for side in ("left", "right")
        )
        met_T = (last_T - first_T) * ~(loop_T & reverse)
        start_P = np.repeat(first_T - (met_T.cumsum() - met_T), met_T)
        other_P = relation_T[order_T[start_P + np.arange(len(start_P))]]
        both_P = np.repeat(relation_T, met_T) * graph.num_relations + other_P
        cells, shared = np.unique(both_P, return_counts=True)
        for cell, common in zip(cells.tolist(), shared.tolist(), strict=True):
            one, other = divmod(cell, graph.num_relations)
            alike = common > OVERLAP * max(count_R[one], count_R[other])
            if alike and (one < other or (reverse and one == other)):
                yield Pairing(one, other, reverse)


def given_away(graph: KnowledgeGraph, triple_T3: Ids, paired: list[Pairing]) -> int:
    """How many triples are in train under a duplicate relation, or reversed under a reverse one."""
    leaked_T = np.zeros(len(triple_T3), bool)
    train = _keys(graph, graph.train.numpy())
    relation_T = triple_T3[:, 1]
    for pairing in paired:
        for one, other in {(pairing.first, pairing.second), (pairing.second, pairing.first)}:
            rows = np.flatnonzero(relation_T == one)
            renamed_X3 = triple_T3[rows].copy()
            renamed_X3[:, 1] = other
            leaked_T[rows] |= _contains(train, _keys(graph, renamed_X3, pairing.reverse))
    return int(leaked_T.sum())


def repeated(graph: KnowledgeGraph, triple_T3: Ids, others_T3: Ids) -> int:
    """How many triples are among the others."""
    return int(_contains(_keys(graph, others_T3), _keys(graph, triple_T3)).sum())


def _keys(graph: KnowledgeGraph, triple_T3: Ids, reverse: bool = False) -> Ids:
    """A distinct integer for each triple, or for its reverse (t, r, h)."""
    head_T, relation_T, tail_T = (triple_T3[:, ::-1] if reverse else triple_T3).T
    keys: Ids = (head_T * graph.num_relations + relation_T) * graph.num_entities + tail_T
    return keys


def _contains(keys: Ids, wanted: Ids) -> NDArray[np.bool_]:
    return np.isin(wanted, keys)


def split_rows(graph: KnowledgeGraph, paired: list[Pairing]) -> list[dict[str, Any]]:
    """A row of counts for each split; ``paired`` are the graph's :func:`pairings`."""
    kind_R = np.array([relation.kind for relation in relation_kinds(graph)])
    train_T3 = graph.train.numpy()
    rows = []
    for split, tensor_T3 in graph.splits.items():
        triple_T3 = tensor_T3.numpy()
        head_T, relation_T, tail_T = triple_T3.T
        entities = np.unique(np.concatenate((head_T, tail_T)))
        row: dict[str, Any] = {
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
    """Number of triples with an entity or a relation that does not occur in train."""
    entities, relations = train_T3[:, ::2], train_T3[:, 1]
    seen_T = np.isin(triple_T3[:, ::2], entities).all(1) & np.isin(triple_T3[:, 1], relations)
    return int((~seen_T).sum())


def relation_rows(graph: KnowledgeGraph) -> list[dict[str, Any]]:
    """A row for each relation, the most frequent first."""
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


def warnings(
    graph: KnowledgeGraph, splits: list[dict[str, Any]], paired: list[Pairing]
) -> list[str]:
    """Properties that distort an evaluation, a line each, from the rows of :func:`split_rows`."""
    lines = []
    for row in splits[1:]:
        for column, meaning in (
            ("in train", "are in train, too"),
            ("given away", "are in train under a duplicate, reverse or symmetric relation"),
            ("unseen", "have an entity or relation that does not occur in train"),
        ):
            if row[column]:
                share = row[column] / row["triples"]
                lines.append(
                    f"warning: {row[column]} of {row['triples']} triples of {row['split']} "
                    f"({share:.1%}) {meaning}"
                )
    for pairing in paired:
        first, second = (shown(graph.relations[r]) for r in (pairing.first, pairing.second))
        if pairing.first == pairing.second:
            lines.append(f"note: {first} is symmetric")
        else:
            how = "the reverse" if pairing.reverse else "a duplicate"
            lines.append(f"warning: {second} is {how} of {first}")
    return lines
