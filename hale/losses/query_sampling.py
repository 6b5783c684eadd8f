"""The Query Sampling loss and its hardness-aware form, HaLE (WWW'22, Eqs. 5 and 9)."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hale.errors import require, require_type
from hale.graphs.batches import QueryBatch
from hale.scoring.table import ScoreMatrix


@dataclass(frozen=True)
class QuerySampling:
    """Alignment of all positives, uniformity of a sampled share of the queries.

    ``L = mean_B h(x_p)^2 + weight * mean_N LSE_E(-h(x_E))`` with ``square`` (Eq. 9); without it
    the first term is ``mean_B h(x_p)`` (Eq. 5). Eq. 9 is printed with ``-f^2``, which would push
    positives apart; the text below it calls for plus. With alpha 1, weight 1 and no square it is
    the cross-entropy over all entities (AllNeg, Eq. 2).

    Args:
        alpha: share of the batch's queries in the uniformity term, whose scores over all entities
            are pushed down: the first N = ceil(alpha B) of the shuffled batch. In (0, 1]. The cost
            of that term is proportional to it.
        weight: lambda, the weight of uniformity relative to alignment; above 0.
        square: square the activated distance of positives ("PosSquare" in table 5).
        mask_known: exclude a query's known training answers from its LSE, as filtered evaluation
            does. Not in the paper.
        candidates: ``all``, or ``near``: the LSE is estimated from the entities near a query and
            a sample of the others (:mod:`hale.scoring.candidates`). Not in the paper.
    """

    alpha: float = 0.1
    weight: float = 1.0
    square: bool = True
    mask_known: bool = False
    candidates: Literal["all", "near"] = "all"

    def __post_init__(self) -> None:
        require("alpha", self.alpha, above=0, at_most=1)
        require("weight", self.weight, above=0)
        require_type("candidates", self.candidates, Literal["all", "near"])

    @property
    def nonnegative(self) -> bool:
        """Squares require activated distances >= 0."""
        return self.square

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """``loss``, ``alignment`` and ``uniformity``, each a scalar."""
        positive_B = scores.at(batch.target_B[:, None]).squeeze(1)
        alignment = batch.mean(positive_B.square() if self.square else -positive_B)
        count = math.ceil(self.alpha * batch.total)
        rows = batch.rows(count)
        known = batch.known(rows) if self.mask_known else None
        uniformity = batch.mean(scores.first(rows).logsumexp(known), count)
        return {
            "loss": alignment + self.weight * uniformity,
            "alignment": alignment,
            "uniformity": uniformity,
        }
