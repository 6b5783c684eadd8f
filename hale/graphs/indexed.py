"""The queries and indices of a graph on a device, made once."""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from hale.graphs.kg import KnowledgeGraph, reciprocal
from hale.graphs.queries import QueryIndex


def scaled_weights(weight_T: Tensor | None, device: torch.device) -> Tensor | None:
    """Weights of the queries of both directions, from those of the triples; with a mean of 1.

    Without weights there are none. They are finite, at least 0 and not all 0.
    """
    if weight_T is None:
        return None
    exact_T = weight_T.double()
    return (exact_T / exact_T.mean()).float().repeat(2).to(device)


class Indexed(NamedTuple):
    """Queries of each split, their weights in train, and the answers in train and in all splits."""

    query_T3: dict[str, Tensor]
    weight_T: Tensor | None
    train_answers: QueryIndex
    all_answers: QueryIndex


_indexed: WeakKeyDictionary[KnowledgeGraph, dict[torch.device, Indexed]] = WeakKeyDictionary()
"""Shared by the data modules of a graph: a run measures its pace and searches before it trains."""


def on_device(graph: KnowledgeGraph, device: torch.device) -> Indexed:
    """A graph's queries and the indices of their answers on a device, made once for each."""
    found = _indexed.setdefault(graph, {})
    if device not in found:
        found[device] = _index(graph, device)
    return found[device]


def _index(graph: KnowledgeGraph, device: torch.device) -> Indexed:
    def index(query_T3: Tensor) -> QueryIndex:
        sizes = graph.num_entities, 2 * graph.num_relations
        return QueryIndex(query_T3[:, 0], query_T3[:, 1], query_T3[:, 2], *sizes)

    query_T3 = {
        split: reciprocal(triple_T3.to(device), graph.num_relations)
        for split, triple_T3 in graph.splits.items()
    }
    weight_T = scaled_weights(graph.weight, device)
    every_T3 = torch.cat(list(query_T3.values()))
    return Indexed(query_T3, weight_T, index(query_T3["train"]), index(every_T3))
