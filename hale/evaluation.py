"""Ranking metrics of anything that scores batches, outside a Trainer."""

from collections.abc import Callable, Iterable

import torch

from hale.metrics import RankingMetrics
from hale.queries import QueryBatch
from hale.ranking import rank_batch
from hale.scores import ScoreMatrix


@torch.inference_mode()
def evaluate(
    score: Callable[[QueryBatch], ScoreMatrix],
    batches: Iterable[QueryBatch],
    metrics: RankingMetrics,
) -> dict[str, float]:
    """Rank every batch by ``score`` into ``metrics`` and return what they compute to."""
    for batch in batches:
        metrics.update(rank_batch(score(batch), batch), batch.relation_B)
    return {name: float(value) for name, value in metrics.compute().items()}
