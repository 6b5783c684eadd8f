"""Link-prediction metrics as sums per relation, which do not depend on batches or devices."""

from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from hale.evaluation.ranking import Ranks, rank_batch
from hale.graphs.batches import QueryBatch
from hale.scoring.table import ScoreMatrix

HITS_AT = (1, 3, 10)


class RankingMetrics(Metric):
    """Means of functions of the realistic filtered rank, per relation and direction.

    ==========  ====================================================================================
    name        mean over queries of
    ==========  ====================================================================================
    mrr         1 / rank
    mr          rank
    hits@k      whether rank <= k, for k = 1, 3, 10; half-integer ranks are not rounded, so a target
                tied with one other candidate at the top has rank 1.5 and misses hits@1
    tie_gap     pessimistic - optimistic rank: the number of candidates tied with the target
    ==========  ====================================================================================

    and ``amri`` = 1 - (mr - 1) / (E[mr] - 1), the adjusted mean rank index of Berrendorf et al.
    (2020): 1 is perfect, 0 is a random order, whatever the number of candidates; E[mr] is the mean
    of (candidates + 1) / 2. It is NaN, which stands for what is not defined, if the targets are the
    only candidates.

    The state is one sum per relation and quantity, in float64; it is summed over processes.

    Args:
        num_relations: 2R; relations below R predict tails, their reciprocals from R on heads.

    Raises:
        ValueError: an odd number of relations, or fewer than 2.
    """

    full_state_update: ClassVar[bool] = False  # type: ignore[misc]
    higher_is_better: ClassVar[None] = None  # type: ignore[misc]
    total: Tensor

    def __init__(self, num_relations: int) -> None:
        super().__init__()
        if num_relations < 2 or num_relations % 2:
            raise ValueError(
                f"num_relations must count relations and their reciprocals, got {num_relations}"
            )
        columns = 5 + len(HITS_AT)
        zeros = torch.zeros(num_relations, columns, dtype=torch.float64)
        self.add_state("total", zeros, dist_reduce_fx="sum")

    def update(self, ranks: Ranks, relation_B: Tensor) -> None:
        """Add the ranks of a batch of queries of these relations."""
        rank_B = ranks.realistic_B
        column = [
            torch.ones_like(rank_B),
            1 / rank_B,
            rank_B,
            (ranks.candidates_B + 1) / 2,
            ranks.pessimistic_B - ranks.optimistic_B,
            *(rank_B <= k for k in HITS_AT),
        ]
        self.total.index_add_(0, relation_B, torch.stack([c.double() for c in column], 1))

    def compute(self) -> dict[str, Tensor]:
        """Each metric over all queries (``mrr``) and by direction (``tail/mrr``, ``head/mrr``).

        What is not defined is NaN, as all metrics of a direction without ranked queries.

        Raises:
            ValueError: no rank was added.
        """
        tail, head = self._directions()
        overall = _means((tail + head).sum(0))
        if not overall.pop("count"):
            raise ValueError("no query was ranked: the evaluated split has no triples")
        for direction, total in (("tail", tail), ("head", head)):
            means = _means(total.sum(0))
            del means["count"]
            overall |= {f"{direction}/{name}": mean for name, mean in means.items()}
        return overall

    def per_relation(self) -> list[dict[str, float]]:
        """A row for each relation that occurs: its id, ``count``, and the metrics of compute."""
        with self.sync_context():
            tail, head = self._directions()
            table = {
                **_means(tail + head),
                **{f"tail/{name}": value for name, value in _means(tail).items()},
                **{f"head/{name}": value for name, value in _means(head).items()},
            }
        columns = {name: value.tolist() for name, value in table.items()}
        return [
            {"relation": relation, **{name: column[relation] for name, column in columns.items()}}
            for relation, count in enumerate(columns["count"])
            if count
        ]

    def _directions(self) -> tuple[Tensor, Tensor]:
        tail, head = self.total.chunk(2)
        return tail, head


def _means(total: Tensor) -> dict[str, Tensor]:
    """Metrics from sums; the last axis has the columns of ``RankingMetrics.total``."""
    count, *sums = total.unbind(-1)
    mrr, mr, expected, tie_gap, *hits = (s / count for s in sums)
    return {
        "count": count,
        "mrr": mrr,
        "mr": mr,
        **{f"hits@{k}": hit for k, hit in zip(HITS_AT, hits, strict=True)},
        "amri": 1 - (mr - 1) / (expected - 1),
        "tie_gap": tie_gap,
    }


def evaluate(
    score: Callable[[QueryBatch], ScoreMatrix],
    batches: Iterable[QueryBatch],
    metrics: RankingMetrics,
) -> dict[str, float]:
    """Rank every batch by ``score``, without a Trainer; return the values of ``metrics``."""
    return evaluate_ranks(lambda batch: rank_batch(score(batch), batch), batches, metrics)


@torch.inference_mode()
def evaluate_ranks(
    rank: Callable[[QueryBatch], Ranks], batches: Iterable[QueryBatch], metrics: RankingMetrics
) -> dict[str, float]:
    """Add the ranks of every batch to ``metrics`` and return their values."""
    for batch in batches:
        metrics.update(rank(batch), batch.relation_B)
    return {name: float(value) for name, value in metrics.compute().items()}
