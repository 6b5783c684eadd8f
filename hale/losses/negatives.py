"""What the losses over sampled negatives share."""

import math

from torch import Tensor

from hale.queries import QueryBatch
from hale.scores import ScoreMatrix


def negative_scores(
    scores: ScoreMatrix, batch: QueryBatch, num_negatives: int, filtered: bool
) -> Tensor:
    """``score_BK`` of K entities per query, drawn uniformly from all entities.

    With ``filtered``, known training answers among them score -inf: they count as no negative.
    """
    entity_BK = batch.negatives(num_negatives)
    score_BK = scores.at(entity_BK)
    if filtered:
        score_BK = score_BK.masked_fill(batch.is_answer(entity_BK), -math.inf)
    return score_BK
