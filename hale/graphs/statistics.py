"""Statistics of a dataset: sizes, kinds of relations, and leakage from train to valid and test.

Sources: the kinds of relations are those of TransE (Bordes et al., NeurIPS 2013); duplicate and
reverse relations and their threshold are those of Akrami et al. (SIGMOD 2020).
"""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hale.graphs.kg import KnowledgeGraph
from hale.graphs.named_triples import Ids, keys

KINDS = ("1-1", "1-N", "N-1", "N-N")
MANY = 1.5
"""Mean number of answers per query from which a side of a relation counts as N."""
REFLEXIVE = 1_000
"""A relation r is irreflexive if fewer than one in so many triples is an (e, r, e): WN18RR's
derivationally_related_form has 7 in 29,715."""
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


def relation_counts(graph: KnowledgeGraph) -> tuple[Ids, Ids, Ids, Ids]:
    """Of each relation in train: triples, distinct heads, distinct tails, and symmetric triples.

    These are those whose reverse (t, r, h) is in train, too; a loop (e, r, e) is its own reverse.
    """
    head_T, relation_T, tail_T = graph.train.numpy().T
    size, relations = graph.num_entities, graph.num_relations
    count = partial(np.bincount, minlength=relations)
    heads_R, tails_R = (
        count(_distinct(relation_T * size + entity_T) // size) for entity_T in (head_T, tail_T)
    )
    train, turned = keys([(relation_T, head_T, tail_T), (relation_T, tail_T, head_T)])
    train.sort()
    turned.sort()  # by relation first
    symmetric_T = np.sort(relation_T)[_in_sorted(train, turned)]
    return count(relation_T), heads_R, tails_R, count(symmetric_T)


def relation_kinds(graph: KnowledgeGraph) -> list[RelationKind]:
    """The kind of each relation, in the order of ids."""
    rows = zip(graph.relations, *relation_counts(graph), strict=True)
    return [
        RelationKind(
            name,
            int(count),
            float(count / max(heads, 1)),
            float(count / max(tails, 1)),
            float(symmetric / max(count, 1)),
        )
        for name, count, heads, tails, symmetric in rows
    ]


def irreflexive(graph: KnowledgeGraph) -> Tensor:
    """Whether a relation, or its reciprocal, rarely holds of an entity and itself, ``bool_2R``.

    That is, in fewer than one in :data:`REFLEXIVE` of its triples of train, if it has any.
    """
    head_T, relation_T, tail_T = graph.train.unbind(1)
    count_R, own_R = (
        torch.bincount(of_T, minlength=graph.num_relations)
        for of_T in (relation_T, relation_T[head_T == tail_T])
    )
    return (REFLEXIVE * own_R < count_R).repeat(2)


def pairings(graph: KnowledgeGraph) -> list[Pairing]:
    """Duplicate, reverse and, paired with themselves, symmetric relations in train."""
    return list(_pairings(graph))


def _pairings(graph: KnowledgeGraph) -> Iterator[Pairing]:
    head_T, relation_T, tail_T = graph.train.numpy().T
    both_2T = torch.from_numpy(np.stack(keys([(head_T, tail_T), (tail_T, head_T)])))
    pairs, id_2T = torch.unique(both_2T, return_inverse=True)
    pair_T, reversed_T = id_2T.numpy()
    proper_T = head_T != tail_T  # a loop is its own reverse: not counted as one
    count_R = np.bincount(relation_T, minlength=graph.num_relations)
    shape = graph.num_relations, len(pairs)
    of_RP = _incidence(relation_T, pair_T, shape)
    for reverse in (False, True):
        other_RP = (
            _incidence(relation_T[proper_T], reversed_T[proper_T], shape) if reverse else of_RP
        )
        first_C, second_C, shared_C = _shared(of_RP, other_RP)
        alike_C = shared_C > OVERLAP * np.maximum(count_R[first_C], count_R[second_C])
        alike_C &= (first_C < second_C) | (reverse & (first_C == second_C))
        for one, other in zip(first_C[alike_C].tolist(), second_C[alike_C].tolist(), strict=True):
            yield Pairing(one, other, reverse)


def _incidence(relation_T: Ids, pair_T: Ids, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix of relations by pairs of entities with a 1 for each triple."""
    index_2T = torch.from_numpy(np.stack((relation_T, pair_T)))
    one_T = torch.ones(len(relation_T), dtype=torch.float64)
    return torch.sparse_coo_tensor(index_2T, one_T, shape, check_invariants=False)


def _shared(first_RP: Tensor, second_RP: Tensor) -> tuple[Ids, Ids, NDArray[np.float64]]:
    """Relations that have pairs in common, and how many: the entries of a matrix product.

    Memory is bounded by the number of triples and the square of that of relations, however many
    relations hold between two hubs.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        shared = torch.sparse.mm(first_RP, second_RP.t()).coalesce()
    first_C, second_C = shared.indices().numpy()
    return first_C, second_C, shared.values().numpy()


def given_away(graph: KnowledgeGraph, triple_T3: Ids, paired: list[Pairing]) -> int:
    """How many triples are in train under a duplicate relation, or reversed under a reverse one."""
    leaked_T, train_T3 = np.zeros(len(triple_T3), bool), graph.train.numpy()
    rows_R, train_rows_R = (_rows(t[:, 1], graph.num_relations) for t in (triple_T3, train_T3))
    for pairing in paired:
        for one, other in {(pairing.first, pairing.second), (pairing.second, pairing.first)}:
            pair_2X, train_2Y = triple_T3[rows_R[one], ::2].T, train_T3[train_rows_R[other], ::2].T
            leaked_T[rows_R[one]] |= _among(pair_2X[::-1] if pairing.reverse else pair_2X, train_2Y)
    return int(leaked_T.sum())


def _rows(relation_T: Ids, relations: int) -> list[Ids]:
    """The rows of each relation; linear in T up to 2^16 relations."""
    order_T = np.argsort(relation_T.astype(np.min_scalar_type(relations)), kind="stable")
    return np.split(order_T, np.bincount(relation_T, minlength=relations).cumsum()[:-1])


def repeated(triple_T3: Ids, others_T3: Ids) -> int:
    """How many triples are among the others."""
    return int(_among(triple_T3.T, others_T3.T).sum())


def _among(columns: Iterable[Ids], others: Iterable[Ids]) -> NDArray[np.bool_]:
    """Whether each row, given by its columns, is among others."""
    key_T, other_U = keys([columns, others])
    other_U.sort()
    return _in_sorted(other_U, key_T)


def _distinct(keys: Ids) -> Ids:
    """Of integers of at least 0, ascending; numpy's hash table takes many times as long."""
    ascending = np.sort(keys)
    return ascending[np.diff(ascending, prepend=-1) > 0]


def _in_sorted(keys: Ids, wanted: Ids) -> NDArray[np.bool_]:
    """Whether each of ``wanted`` is among ascending keys; fastest where these ascend, too."""
    found: NDArray[np.bool_] = keys[np.searchsorted(keys, wanted).clip(max=len(keys) - 1)] == wanted
    return found


def split_rows(graph: KnowledgeGraph, paired: list[Pairing]) -> list[dict[str, Any]]:
    """A row of counts for each split; ``paired`` are the graph's :func:`pairings`."""
    kind_R = np.array([relation.kind for relation in relation_kinds(graph)])
    train_T3 = graph.train.numpy()
    in_train = counts(graph, train_T3)
    rows = []
    for split, tensor_T3 in graph.splits.items():
        triple_T3 = tensor_T3.numpy()
        head_T, _, tail_T = triple_T3.T
        count_E, count_R = counts(graph, triple_T3)
        row: dict[str, Any] = {
            "split": split,
            "triples": len(triple_T3),
            "entities": int((count_E > 0).sum()),
            "relations": int((count_R > 0).sum()),
            "loops": int((head_T == tail_T).sum()),
            "unseen": int(unseen(in_train, triple_T3).sum()),
            "in train": 0 if split == "train" else repeated(triple_T3, train_T3),
            "given away": 0 if split == "train" else given_away(graph, triple_T3, paired),
        }
        rows.append(row | {kind: int(count_R[kind_R == kind].sum()) for kind in KINDS})
    return rows


def unseen(train: tuple[Ids, Ids], triple_T3: Ids) -> NDArray[np.bool_]:
    """Whether each triple has an entity or relation that is in no triple of train, ``bool_T``.

    Args:
        train: the :func:`counts` of train.
        triple_T3: of any split.
    """
    seen_E, seen_R = train
    head_T, relation_T, tail_T = triple_T3.T
    seen_T: NDArray[np.bool_] = (
        (seen_E[head_T] > 0) & (seen_E[tail_T] > 0) & (seen_R[relation_T] > 0)
    )
    return ~seen_T


def counts(graph: KnowledgeGraph, triple_T3: Ids) -> tuple[Ids, Ids]:
    """How often each entity is a head or tail, and in how many triples each relation is."""
    return (
        np.bincount(triple_T3[:, ::2].ravel(), minlength=graph.num_entities),
        np.bincount(triple_T3[:, 1], minlength=graph.num_relations),
    )


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
