"""What spoils training or evaluation on a graph: warnings and notes, one line each."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from hale.graphs.kg import KnowledgeGraph
from hale.graphs.named_triples import Ids
from hale.graphs.names import shown
from hale.graphs.statistics import Pairing, counts

LITERAL = re.compile(
    r"""".*"(@[\w-]+|\^\^.+)?"""  # as in N-Triples
    r"""|[+-]?\d+\.\d+([eE][+-]?\d+)?"""
    r"""|\d{4}-\d\d-\d\d([T ].*)?""",
    re.DOTALL,
)
"""A name that is a literal: quoted, a decimal number, or a date; whole numbers are often ids."""
DOMINANT = 0.9
"""Share of train's triples from which one relation is named."""
UNIQUE = 0.9
"""Share of a relation's triples, with an entity in no other triple, from which it is named."""
RARE = 5
"""A relation with fewer triples is rare."""
MANY_RARE = 0.25
"""Share of rare relations from which their number is given."""
SPARSE = 0.5
"""Share of entities in a single triple from which their number is given."""
FEW = 20
"""Triples of a relation, or rare relations, below which no share is judged."""
FEW_QUERIES = 1000
"""Queries of a split below which the error of its MRR is given."""
NAMED = 10
"""Relations, and pairs of relations, that are named; the others are counted."""


def warnings(
    graph: KnowledgeGraph, splits: list[dict[str, Any]], paired: list[Pairing]
) -> list[str]:
    """The lines, from the rows and pairings of :mod:`hale.graphs.statistics`."""
    degree_E, count_R = counts(graph, graph.train.numpy())
    return [
        *_leaks(splits), *_only_held_out(degree_E), *_few_queries(graph), *_literals(graph),
        *_alike(graph), *_dominant(graph, count_R), *_unique(graph, degree_E, count_R),
        *_rare(count_R), *_sparse(degree_E), *_pairs(graph, paired),
    ]  # fmt: skip


def _leaks(splits: list[dict[str, Any]]) -> Iterator[str]:
    for row in splits[1:]:
        for column, meaning in (
            ("in train", "are in train, too"),
            ("given away", "are in train under a duplicate, reverse or symmetric relation"),
            ("unseen", "have an entity or relation that does not occur in train"),
        ):
            if row[column]:
                triples = f"triples of {row['split']}"
                yield f"warning: {_share(row[column], row['triples'], triples)} {meaning}"


def _only_held_out(degree_E: Ids) -> Iterator[str]:
    if unseen := int((degree_E == 0).sum()):
        share = _share(unseen, len(degree_E), "entities")
        yield f"warning: {share} occur in valid or test only: their vectors stay untrained"


def _few_queries(graph: KnowledgeGraph) -> Iterator[str]:
    """A reciprocal rank is in (0, 1], so that its standard deviation is at most 1/2."""
    for split in ("valid", "test"):
        queries = 2 * len(graph.splits[split])
        if queries < FEW_QUERIES:
            yield (
                f"warning: {split} has {queries} queries only: the standard error of its MRR is up "
                f"to {0.5 / queries**0.5:.2g}"
            )


def _literals(graph: KnowledgeGraph) -> Iterator[str]:
    found = [name for name in graph.entities if LITERAL.fullmatch(name)]
    if found:
        yield (
            f"warning: {_share(len(found), graph.num_entities, 'entities')} look like literals "
            f"({shown(found[0])}): the model does not know which texts or numbers are close; leave "
            "their relations out"
        )


def _alike(graph: KnowledgeGraph) -> Iterator[str]:
    """Names that look the same: an accented letter may be one character or two."""
    for kind, ids in (("entities", graph.entity_id), ("relations", graph.relation_id)):
        groups = [alike for name in ids.composed if len(alike := ids.alike(name)) > 1]
        if groups:
            share = _share(sum(map(len, groups)), len(ids), kind)
            yield (
                f"warning: {share} differ from another in Unicode normalisation alone "
                f"({shown(groups[0][0])}, ids {', '.join(str(ids[n]) for n in groups[0])}): they "
                "are different ones; write the names in one form, as NFC, to join them"
            )


def _dominant(graph: KnowledgeGraph, count_R: Ids) -> Iterator[str]:
    most = int(count_R.argmax())
    if len(count_R) > 1 and count_R[most] >= DOMINANT * len(graph.train):
        yield (
            f"warning: {_share(int(count_R[most]), len(graph.train), 'triples of train')} are of "
            f"{shown(graph.relations[most])}: metrics are mostly its own; hale evaluate "
            "--per-relation tells relations apart"
        )


def _unique(graph: KnowledgeGraph, degree_E: Ids, count_R: Ids) -> Iterator[str]:
    """Relations whose heads or tails are mostly in no other triple, as labels and numbers are."""
    triple_T3 = graph.train.numpy()
    for side, column in (("heads", 0), ("tails", 2)):
        alone_T = degree_E[triple_T3[:, column]] == 1
        alone_R = np.bincount(triple_T3[alone_T, 1], minlength=len(count_R))
        found = np.flatnonzero((count_R >= FEW) & (alone_R >= UNIQUE * count_R))
        found = found[np.argsort(-count_R[found], kind="stable")]
        for relation in found[:NAMED]:
            ends = f"{side} of {shown(graph.relations[relation])}"
            yield (
                f"warning: {_share(int(alone_R[relation]), int(count_R[relation]), ends)} occur in "
                "no other triple: nothing can be learned about them"
            )
        if len(found) > NAMED:
            yield f"warning: {len(found) - NAMED} more relations have such {side}"


def _rare(count_R: Ids) -> Iterator[str]:
    rare = int((count_R < RARE).sum())
    if rare >= max(FEW, MANY_RARE * len(count_R)):
        yield (
            f"warning: {_share(rare, len(count_R), 'relations')} have fewer than {RARE} triples in "
            "train: little can be learned about them"
        )


def _sparse(degree_E: Ids) -> Iterator[str]:
    once = int((degree_E == 1).sum())
    if once >= max(FEW, SPARSE * len(degree_E)):
        share = _share(once, len(degree_E), "entities")
        yield f"warning: {share} occur in a single triple of train"


def _pairs(graph: KnowledgeGraph, paired: list[Pairing]) -> Iterator[str]:
    symmetric = [pairing for pairing in paired if pairing.first == pairing.second]
    others = [pairing for pairing in paired if pairing.first != pairing.second]
    for pairing in others[:NAMED]:
        first, second = (shown(graph.relations[r]) for r in (pairing.first, pairing.second))
        how = "the reverse" if pairing.reverse else "a duplicate"
        yield f"warning: {second} is {how} of {first}"
    if len(others) > NAMED:
        yield f"warning: {len(others) - NAMED} more pairs of relations are duplicate or reverse"
    for pairing in symmetric[:NAMED]:
        yield f"note: {shown(graph.relations[pairing.first])} is symmetric"
    if len(symmetric) > NAMED:
        yield f"note: {len(symmetric) - NAMED} more relations are symmetric"


def _share(count: int, of: int, what: str) -> str:
    return f"{count} of {of} {what} ({count / of:.1%})"
