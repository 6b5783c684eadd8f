"""The popularity baseline, which any model must beat: the most frequent answers of a relation.

B  queries     P  known pairs     U  distinct pairs (relation, answer) of train
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from hale.evaluation.metrics import RankingMetrics, evaluate_ranks
from hale.evaluation.ranking import Ranks
from hale.graphs.queries import QueryBatch


class Popularity:
    """Ranks entities by how often they answer a query's relation in train.

    Ranks are exact, and those of :func:`hale.evaluation.ranking.filtered_ranks` for scores that are
    these counts. No query looks at all entities: those with more answers than the target are found
    by bisection in the sorted counts of the relation, and the known answers are subtracted. Memory
    is O(U), whatever the number of entities.

    Args:
        query_T3: training queries (entity, relation) and their answers, reciprocal ones included.
        num_entities: E.
    """

    def __init__(self, query_T3: Tensor, num_entities: int) -> None:
        self.num_entities = num_entities
        _, relation_T, answer_T = query_T3.unbind(1)
        self._pair_U, self._count_U = torch.unique(
            relation_T * num_entities + answer_T, return_counts=True
        )
        relation_U = self._pair_U // num_entities
        self._step = int(self._count_U.max()) + 1
        # sorted by relation, then by count
        self._level_U = (relation_U * self._step + self._count_U).sort().values

    def count(self, relation_P: Tensor, entity_P: Tensor) -> Tensor:
        """How often each entity answers each relation, ``count_P``."""
        pair_P = relation_P * self.num_entities + entity_P
        at_P = torch.searchsorted(self._pair_U, pair_P).clamp(max=len(self._pair_U) - 1)
        return torch.where(self._pair_U[at_P] == pair_P, self._count_U[at_P], 0)

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
            torch.searchsorted(self._level_U, level_B)
            for level_B in (first_B + self._step, first_B + least_B)
        )
        return end_B - start_B


def popularity_metrics(
    query_T3: Tensor, batches: Iterable[QueryBatch], num_entities: int, num_relations: int
) -> dict[str, float]:
    """The metrics of ranking batches by popularity.

    Args:
        query_T3: training queries and their answers, reciprocal ones included.
        batches: of a ranking loader.
        num_entities: E.
        num_relations: 2R.
    """
    popularity = Popularity(query_T3, num_entities)
    return evaluate_ranks(popularity.ranks, batches, RankingMetrics(num_relations))


def _rows(row_P: Tensor, num_rows: int) -> Tensor:
    """How often each row occurs."""
    return torch.bincount(row_P, minlength=num_rows)
