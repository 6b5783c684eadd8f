"""The indices of a graph's answers, made once and copied to each device, and samples of queries."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from hale.graphs.ids import least
from hale.graphs.kg import KnowledgeGraph, Query, both_directions
from hale.graphs.queries import QueryIndex

CPU = torch.device("cpu")
SAMPLE_SEED = 0
"""Of samples of validation and test queries, in every run."""


def sample_queries(query_T3: Tensor, count: int | None) -> Tensor:
    """``count`` rows drawn without replacement, in their order; all if None or if fewer.

    The draw depends on the number of rows alone, and a smaller sample is part of a larger one.
    """
    if count is None or count >= len(query_T3):
        return query_T3
    order_T = torch.randperm(len(query_T3), generator=torch.Generator().manual_seed(SAMPLE_SEED))
    return query_T3[order_T[:count].sort().values.to(query_T3.device)]


def scaled_weights(weight_T: Tensor | None) -> Tensor | None:
    """Weights of triples with a mean of 1.

    Without weights there are none. They are finite, at least 0 and not all 0.
    """
    if weight_T is None:
        return None
    exact_T = weight_T.double()
    return (exact_T / exact_T.mean()).float()


def known_answers(
    triples: Iterable[Tensor],
    num_entities: int,
    num_relations: int,
    answers: range | None = None,
) -> QueryIndex:
    """The index of the queries of both directions of triples, on their device.

    Args:
        triples: of one or more splits, each of shape (T, 3).
        num_entities: E.
        num_relations: 2R.
        answers: the only entities that are indexed as answers, consecutive ones; all if None.

    Raises:
        DatasetError: as of :class:`QueryIndex`.
    """
    parts: Iterator[Query] = chain.from_iterable(
        both_directions(t, num_relations // 2) for t in triples
    )
    if answers is not None:
        parts = (_answered(part, answers) for part in parts)
    entity_type, relation_type = least(num_entities), least(num_relations)
    narrow = ((e.to(entity_type), r.to(relation_type), a.to(entity_type)) for e, r, a in parts)
    entity_T, relation_T, answer_T = map(torch.cat, zip(*narrow, strict=True))
    return QueryIndex(entity_T, relation_T, answer_T, num_entities, num_relations)


def _answered(query: Query, answers: range) -> Query:
    """The queries with an answer among these."""
    entity_T, relation_T, answer_T = query
    kept_T = (answer_T >= answers.start) & (answer_T < answers.stop)
    return entity_T[kept_T], relation_T[kept_T], answer_T[kept_T]


class Indexed(NamedTuple):
    """The answers in train and in all splits."""

    train_answers: QueryIndex
    all_answers: QueryIndex


Place = tuple[torch.device, range | None]
_indexed: WeakKeyDictionary[KnowledgeGraph, dict[Place, Indexed]] = WeakKeyDictionary()
"""Shared by the data modules of a graph: a run measures its pace and searches before it trains."""


def on_device(graph: KnowledgeGraph, device: torch.device, answers: range | None = None) -> Indexed:
    """The indices of a graph on a device, made once.

    Args:
        graph: the graph.
        device: where they are wanted.
        answers: the only entities that are indexed as answers; all if None.
    """
    found = _indexed.setdefault(graph, {})
    if (CPU, answers) not in found:
        sizes = graph.num_entities, 2 * graph.num_relations, answers
        splits = [graph.train], graph.splits.values()
        found[CPU, answers] = Indexed(*(known_answers(triples, *sizes) for triples in splits))
    if (device, answers) not in found:
        found[device, answers] = Indexed(*(index.to(device) for index in found[CPU, answers]))
    return found[device, answers]
