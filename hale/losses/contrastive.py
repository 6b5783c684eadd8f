"""The contrastive loss InfoNCE over sampled negatives (HaLE Eq. 1)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hale.losses.arguments import require_num_negatives, require_positive
from hale.losses.negatives import negative_scores
from hale.queries import QueryBatch
from hale.scores import ScoreMatrix


@dataclass(frozen=True)
class Contrastive:
    """``L = mean_B -log [exp(f(x_p)/t) / (sum_K exp(f(x_n)/t) + exp(f(x_p)/t))]``.

    Args:
        num_negatives: K, negatives drawn for each query.
        temperature: t; the lower, the more hard negatives count.
        filtered: draw no known training answer as a negative.
    """

    num_negatives: int = 256
    temperature: float = 0.5
    filtered: bool = True
    nonnegative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_num_negatives(self.num_negatives)
        require_positive("temperature", self.temperature)

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """``loss``, a scalar."""
        positive_B1 = scores.at(batch.target_B[:, None])
        negative_BK = negative_scores(scores, batch, self.num_negatives, self.filtered)
        logit_BX = torch.cat((positive_B1, negative_BK), 1) / self.temperature
        return {"loss": (logit_BX.logsumexp(1) - logit_BX[:, 0]).mean()}
