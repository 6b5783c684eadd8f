"""What a model must beat: the popularity of answers, which looks at the relation alone."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hale.activations import Identity
from hale.comparators import NegativeDot
from hale.lookup import Table
from hale.scores import ScoreMatrix


def popularity_table(
    relation_T: Tensor, answer_T: Tensor, num_entities: int, num_relations: int
) -> Tensor:
    """How often each entity answers each relation in training, ``count_ER`` (R here is 2R).

    Args:
        relation_T: relation of each training query.
        answer_T: its answer.
        num_entities: E.
        num_relations: 2R.
    """
    cell_T = answer_T * num_relations + relation_T
    count = torch.bincount(cell_T, minlength=num_entities * num_relations)
    return count.view(num_entities, num_relations).float()


def popularity_scores(count_ER: Tensor, relation_B: Tensor) -> ScoreMatrix:
    """Scores of all entities for queries of these relations: their counts.

    The query vector indicates its relation, so the dot product with an entity's row of counts
    reads off one of them, exactly.
    """
    query_BR = F.one_hot(relation_B, count_ER.shape[1]).to(count_ER)
    scale_B = torch.ones_like(query_BR[:, 0])
    return ScoreMatrix(query_BR, scale_B, Table(count_ER), NegativeDot(), Identity())
