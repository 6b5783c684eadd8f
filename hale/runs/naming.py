"""Queries, triples and answers by name, and their translation to ids."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from hale.errors import HaleError
from hale.graphs.kg import KnowledgeGraph
from hale.graphs.names import resolve

Name = str | int
"""A name or an id, the latter as an int or as ``id:7``; names come first."""


class Answer(NamedTuple):
    """An entity that answers a query; ``known`` if a triple of the graph already states it."""

    entity: str
    id: int
    score: float
    known: bool


class Neighbour(NamedTuple):
    """An entity and the cosine similarity of its vector to that of another."""

    entity: str
    id: int
    cosine: float


def query_ids(
    graph: KnowledgeGraph, head: Name | None, relation: Name, tail: Name | None
) -> tuple[int, int]:
    """Ids (entity, relation) of a query; to predict heads, the relation is the reciprocal one.

    Raises:
        HaleError: an unknown name, or not exactly one of head and tail.
    """
    given = [entity for entity in (head, tail) if entity is not None]
    if len(given) != 1:
        raise HaleError("give exactly one of head and tail: the other one is predicted")
    relation_id = resolve("relation", graph.relation_id, relation)
    direction = graph.num_relations if head is None else 0
    return resolve("entity", graph.entity_id, given[0]), relation_id + direction


def triple_ids(graph: KnowledgeGraph, triples: Iterable[tuple[Name, Name, Name]]) -> Tensor:
    """Triples of names or ids as int64 ids of shape (T, 3).

    Raises:
        HaleError: an unknown name, or an item that is not a triple.
    """
    rows = []
    for triple in triples:
        if isinstance(triple, str) or len(triple) != 3:
            raise HaleError(f"a triple is (head, relation, tail), got {triple!r}")
        head, relation, tail = triple
        rows.append(
            (
                resolve("entity", graph.entity_id, head),
                resolve("relation", graph.relation_id, relation),
                resolve("entity", graph.entity_id, tail),
            )
        )
    return torch.tensor(rows, dtype=torch.int64).view(-1, 3)
