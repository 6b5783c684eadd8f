"""The popularity baseline, which any model must beat: the most frequent answers of a relation."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from hale.evaluation.metrics import RankingMetrics, evaluate
from hale.graphs.kg import KnowledgeGraph, reciprocal
from hale.graphs.queries import QueryBatch, QueryIndex
from hale.scoring.activations import Identity
from hale.scoring.comparators import NegativeDot
from hale.scoring.table import ScoreMatrix, Table

BATCH_SIZE = 1024
"""Queries ranked at once."""


@lru_cache(maxsize=1)
def popularity_metrics(graph: KnowledgeGraph) -> dict[str, float]:
    """Test metrics of ranking entities by how often they answer the query's relation in train.

    Cached, so that it is computed once for all runs of a sweep on one graph.
    """
    train_T3, test_T3 = (reciprocal(t, graph.num_relations) for t in (graph.train, graph.test))
    all_T3 = reciprocal(torch.cat(list(graph.splits.values())), graph.num_relations)
    num_relations = 2 * graph.num_relations
    entity_T, relation_T, answer_T = all_T3.unbind(1)
    known = QueryIndex(entity_T, relation_T, answer_T, graph.num_entities, num_relations)

    def score(batch: QueryBatch) -> ScoreMatrix:
        answer_T = train_T3[train_T3[:, 1] == batch.relation_B[0], 2]
        count_E = torch.bincount(answer_T, minlength=graph.num_entities)
        return popularity_scores(count_E, len(batch))

    return evaluate(score, _by_relation(test_T3, known), RankingMetrics(num_relations))


def popularity_scores(count_E: Tensor, num_queries: int) -> ScoreMatrix:
    """Scores of all entities for queries of one relation: how often each answers it."""
    one_B1 = torch.ones(num_queries, 1)
    count_E1 = Table(count_E[:, None].float())
    return ScoreMatrix(one_B1, one_B1[:, 0], count_E1, NegativeDot(), Identity())


def _by_relation(query_T3: Tensor, known: QueryIndex) -> Iterator[QueryBatch]:
    """Batches of queries of one relation each."""
    order_T = query_T3[:, 1].argsort(stable=True)
    _, count_R = torch.unique_consecutive(query_T3[order_T, 1], return_counts=True)
    for of_relation_T3 in torch.split(query_T3[order_T], count_R.tolist()):
        for batch_B3 in torch.split(of_relation_T3, BATCH_SIZE):
            entity_B, relation_B, target_B = batch_B3.unbind(1)
            yield QueryBatch(entity_B, relation_B, target_B, known)
