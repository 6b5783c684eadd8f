"""The popularity baseline, which any model must beat: the most frequent answers of a relation.

B  queries     P  known pairs     U  distinct pairs (relation, answer) of train
L  distinct pairs (relation, count) of these
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from hale.evaluation.metrics import RankingMetrics, evaluate_ranks
from hale.evaluation.ranking import Ranks
from hale.graphs.ids import ascending, least
from hale.graphs.kg import both_directions
from hale.graphs.queries import QueryBatch


class Popularity:
    """Ranks entities by how often they answer a query's relation in train.

    Ranks are exact, and those of :func:`hale.evaluation.ranking.filtered_ranks` for scores that are
    these counts. No query looks at all entities: those with more answers than the target are found
    by bisection in the sorted counts of the relation, and the known answers are subtracted. Memory
    is 8 bytes for each of the U pairs, or 12 where E x 2R is 2^31 or more, whatever the number of
    entities.

    Args:
        triple_T3: training triples, both directions of which are queries.
        num_entities: E.
        num_relations: 2R; E x 2R is below 2^63.
    """

    def __init__(self, triple_T3: Tensor, num_entities: int, num_relations: int) -> None:
        self.num_entities = num_entities
        self._pair_type = least(num_entities * num_relations)
        pairs = both_directions(triple_T3, num_relations // 2)
        pair_X = torch.cat([self._pair(relation_T, answer_T) for _, relation_T, answer_T in pairs])
        self._pair_U, count_U = torch.unique_consecutive(ascending(pair_X), return_counts=True)
        self._count_U = count_U.to(least(len(pair_X) + 1))
        self._step = int(count_U.max()) + 1
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
        relation_B, target_B = batch.relation_B, batch.target_B
        count_B = self.count(relation_B, target_B)
        at_least_B = self._answers_from(relation_B, count_B)
        better_B = self._answers_from(relation_B, count_B + 1)
        tied_B = torch.where(count_B > 0, at_least_B, self.num_entities) - better_B - 1
        row_P, entity_P = batch.known(len(batch)).pairs()
        other_P = entity_P != target_B[row_P]
        row_P, entity_P = row_P[other_P], entity_P[other_P]
        known_P = self.count(relation_B[row_P], entity_P)
        better_B -= _rows(row_P[known_P > count_B[row_P]], len(batch))
        tied_B -= _rows(row_P[known_P == count_B[row_P]], len(batch))
        candidates_B = self.num_entities - _rows(row_P, len(batch))
        return Ranks(1 + better_B, 1 + better_B + tied_B, candidates_B)

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
    triple_T3: Tensor, batches: Iterable[QueryBatch], num_entities: int, num_relations: int
) -> dict[str, float]:
    """The metrics of ranking batches by popularity.

    Args:
        triple_T3: training triples, on the device of the batches.
        batches: of a ranking loader.
        num_entities: E.
        num_relations: 2R.
    """
    popularity = Popularity(triple_T3, num_entities, num_relations)
    return evaluate_ranks(popularity.ranks, batches, RankingMetrics(num_relations))


def _rows(row_P: Tensor, num_rows: int) -> Tensor:
    """How often each row occurs."""
    return torch.bincount(row_P, minlength=num_rows)
