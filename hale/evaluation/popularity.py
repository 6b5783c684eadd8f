"""The popularity baseline, which any model must beat: the most frequent answers of a relation.

B  queries     P  known pairs     U  distinct pairs (relation, answer) of train
N  queries of all processes that share the entities, otherwise B
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from hale.distributed.shards import Shard
from hale.evaluation.metrics import RankingMetrics, evaluate_ranks
from hale.evaluation.ranking import Ranks
from hale.graphs.batches import QueryBatch


class Popularity:
    """Ranks entities by how often they answer a query's relation in train.

    Ranks are exact, and those of :func:`hale.evaluation.ranking.filtered_ranks` for scores that are
    these counts. No query looks at all entities: those with more answers than the target are found
    by bisection in the sorted counts of the relation, and the known answers are subtracted. Memory
    is O(U), whatever the number of entities. Where several processes share the entities, each
    counts its own, and ranks are sums of its counts.

    Args:
        query_T3: training queries (entity, relation) and their answers, reciprocal ones included.
        num_entities: E.
        shard: the entities of this process, if each has a part of them.
    """

    def __init__(self, query_T3: Tensor, num_entities: int, shard: Shard | None = None) -> None:
        self.num_entities = num_entities
        self.shard = shard or Shard(num_entities, 0, 1)
        _, relation_T, answer_T = query_T3[self.shard.rows(query_T3[:, 2]) >= 0].unbind(1)
        self._pair_U, self._count_U = torch.unique(
            relation_T * num_entities + answer_T, return_counts=True
        )
        relation_U = self._pair_U // num_entities
        self._step = int(self._count_U.max()) + 1 if len(self._count_U) else 1
        # sorted by relation, then by count
        self._level_U = (relation_U * self._step + self._count_U).sort().values

    def count(self, relation_P: Tensor, entity_P: Tensor) -> Tensor:
        """How often each entity answers each relation, ``count_P``."""
        pair_P = relation_P * self.num_entities + entity_P
        at_P = torch.searchsorted(self._pair_U, pair_P).clamp(max=len(self._pair_U) - 1)
        return torch.where(self._pair_U[at_P] == pair_P, self._count_U[at_P], 0)

    def ranks(self, batch: QueryBatch) -> Ranks:
        """Filtered ranks of the batch's targets."""
        shard = self.shard
        query_B2 = torch.stack((batch.relation_B, batch.target_B), 1)
        relation_N, target_N = shard.from_all(query_B2).unbind(1)
        count_N = shard.total(self.count(relation_N, target_N))
        better_N = self._answers_from(relation_N, count_N + 1)
        at_least_N = torch.where(count_N > 0, self._answers_from(relation_N, count_N), len(shard))
        row_P, entity_P = batch.known(len(batch)).pairs()
        entity_P = entity_P + shard.first
        other_P = entity_P != target_N[row_P]
        row_P, entity_P = row_P[other_P], entity_P[other_P]
        known_P, count_P = self.count(relation_N[row_P], entity_P), count_N[row_P]
        known_N, better_known_N, at_least_known_N = (
            torch.bincount(some_P, minlength=len(count_N))
            for some_P in (row_P, row_P[known_P > count_P], row_P[known_P >= count_P])
        )
        better_N, at_least_N = better_N - better_known_N, at_least_N - at_least_known_N
        counted_N3 = torch.stack((better_N, at_least_N, known_N), 1)
        better_B, at_least_B, known_B = shard.own_total(counted_N3, len(batch)).unbind(1)
        return Ranks(1 + better_B, at_least_B, self.num_entities - known_B)

    def _answers_from(self, relation_B: Tensor, least_B: Tensor) -> Tensor:
        """The number of entities that answer each relation at least ``least_B`` times, 1 or more.

        0 stands for 1: entities that never answer the relation are not listed.
        """
        first_B = relation_B * self._step
        end_B, start_B = (
            torch.searchsorted(self._level_U, level_B)
            for level_B in (first_B + self._step, first_B + least_B)
        )
        return end_B - start_B


def popularity_metrics(
    query_T3: Tensor,
    batches: Iterable[QueryBatch],
    num_entities: int,
    num_relations: int,
    shard: Shard | None = None,
) -> dict[str, float]:
    """The metrics of ranking batches by popularity.

    Args:
        query_T3: training queries and their answers, reciprocal ones included.
        batches: of a ranking loader.
        num_entities: E.
        num_relations: 2R.
        shard: the entities of this process, if each has a part of them.
    """
    popularity = Popularity(query_T3, num_entities, shard)
    return evaluate_ranks(popularity.ranks, batches, RankingMetrics(num_relations))
