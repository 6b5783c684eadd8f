"""What a dataset holds: kinds of relations, and what of valid and test train gives away.

Sources: the kinds of relations are those of TransE (Bordes et al., NeurIPS 2013); duplicate and
reverse relations, and the threshold, those of Akrami et al. (SIGMOD 2020).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hale.graphs.kg import KnowledgeGraph

Ids = NDArray[np.int64]

MANY = 1.5
"""Answers per query, on average, from which a side of a relation counts as N."""
OVERLAP = 0.8
"""Share of the triples of either of two relations that makes them duplicate or reverse."""


@dataclass(frozen=True)
class RelationKind:
    """A relation in train: its triples, the sides' fan-outs, and the share of symmetric triples."""

    relation: str
    count: int
    tails_per_head: float
    heads_per_tail: float
    symmetric: float

    @property
    def kind(self) -> str:
        """``1-1``, ``1-N``, ``N-1`` or ``N-N``, heads first; empty where train lacks it."""
        if not self.count:
            return ""
        sides = (self.heads_per_tail, self.tails_per_head)
        return "-".join("N" if side >= MANY else "1" for side in sides)


@dataclass(frozen=True)
class Pairing:
    """Two relations of train that hold the same pairs, or one the pairs of the other reversed."""

    first: int
    second: int
    reverse: bool


def relation_kinds(graph: KnowledgeGraph) -> list[RelationKind]:
    """One for each relation, in the order of ids."""
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
    """Duplicate relations, reverse ones, and (paired with themselves) symmetric ones in train."""
    return list(_pairings(graph))


def _pairings(graph: KnowledgeGraph) -> Iterator[Pairing]:
    head_T, relation_T, tail_T = graph.train.numpy().T
    pair_T = head_T * graph.num_entities + tail_T
    order_T = np.argsort(pair_T, kind="stable")
    count_R = np.bincount(relation_T, minlength=graph.num_relations)
    loop_T = head_T == tail_T  # its own reverse: says nothing
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
    """How many triples train holds under a duplicate relation, or reversed under a reverse one."""
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
    """One number for each triple, or for its reverse (t, r, h)."""
    head_T, relation_T, tail_T = (triple_T3[:, ::-1] if reverse else triple_T3).T
    keys: Ids = (head_T * graph.num_relations + relation_T) * graph.num_entities + tail_T
    return keys


def _contains(keys: Ids, wanted: Ids) -> NDArray[np.bool_]:
    return np.isin(wanted, keys)
