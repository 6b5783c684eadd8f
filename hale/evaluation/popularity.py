"""The popularity baseline, which any model must beat: the most frequent answers of a relation.

B  queries     P  known pairs     U  distinct pairs (relation, answer) of train
N  queries of all processes that share the entities, otherwise B
L  distinct pairs (relation, count) of these
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from hale.distributed.shards import Shard
from hale.evaluation.metrics import RankingMetrics, evaluate_ranks
from hale.evaluation.ranking import Ranks
from hale.graphs.batches import QueryBatch
from hale.graphs.ids import ascending, least
from hale.graphs.kg import both_directions


class Popularity:
    """Ranks entities by how often they answer a query's relation in train.

    Ranks are exact, and those of :func:`hale.evaluation.ranking.filtered_ranks` for scores that are
    these counts. No query looks at all entities: those with more answers than the target are found
    by bisection in the sorted counts of the relation, and the known answers are subtracted. Memory
    is 8 bytes for each of the U pairs, or 12 where E x 2R is 2^31 or more, whatever the number of
    entities. Where several processes share the entities, each counts its own, and ranks are sums of
    its counts.

    Args:
        triple_T3: training triples, both directions of which are queries.
        num_entities: E.
        num_relations: 2R; E x 2R is below 2^63.
        shard: the entities of this process, if each has a part of them.
    """

    def __init__(
        self, triple_T3: Tensor, num_entities: int, num_relations: int, shard: Shard | None = None
    ) -> None:
        self.num_entities = num_entities
        self.shard = shard or Shard(num_entities, 0, 1)
        self._pair_type = least(num_entities * num_relations)
        pair_X = torch.cat(
            [
                self._pair(relation_T, answer_T)[self.shard.rows(answer_T) >= 0]
                for _, relation_T, answer_T in both_directions(triple_T3, num_relations // 2)
            ]
        )
        self._pair_U, count_U = torch.unique_consecutive(ascending(pair_X), return_counts=True)
        self._count_U = count_U.to(least(len(pair_X) + 1))
        self._step = int(count_U.max()) + 1 if len(count_U) else 1
        level_U = count_U.add_(self._pair_U // num_entities, alpha=self._step)
        self._level_L, many_L = torch.unique_consecutive(ascending(level_U), return_counts=True)
        self._before_L = F.pad(many_L.cumsum(0), (1, 0))

    def _pair(self, relation: Tensor, entity: Tensor) -> Tensor:
        return (relation * self.num_entities + entity).to(self._pair_type)

    def count(self, relation_P: Tensor, entity_P: Tensor) -> Tensor:
        """How often each entity answers each relation, ``count_P``."""
        pair_P = self._pair(relation_P, entity_P)
        at_P = torch.searchsorted(self._pair_U, pair_P).clamp(max=len(self._pair_U) - 1)
        return torch.where(self._pair_U[at_P] == pair_P, self._count_U[at_P].long(), 0)

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
            self._before_L[torch.searchsorted(self._level_L, level_B)]
            for level_B in (first_B + self._step, first_B + least_B)
        )
        return end_B - start_B


def popularity_metrics(
    triple_T3: Tensor,
    batches: Iterable[QueryBatch],
    num_entities: int,
    num_relations: int,
    shard: Shard | None = None,
) -> dict[str, float]:
    """The metrics of ranking batches by popularity.

    Args:
        triple_T3: training triples, on the device of the batches.
        batches: of a ranking loader.
        num_entities: E.
        num_relations: 2R.
        shard: the entities of this process, if each has a part of them.
    """
    popularity = Popularity(triple_T3, num_entities, num_relations, shard)
    return evaluate_ranks(popularity.ranks, batches, RankingMetrics(num_relations))
