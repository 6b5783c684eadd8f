"""Self-Adversarial Negative Sampling (AdvNeg; Sun et al., ICLR 2019)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from hale.losses.arguments import require_finite, require_num_negatives, require_positive
from hale.losses.negatives import negative_scores
from hale.queries import QueryBatch
from hale.scores import ScoreMatrix


@dataclass(frozen=True)
class AdvNeg:
    """``L = mean_B [-log sigmoid(m + f(x_p)) - sum_K p_n log sigmoid(-m - f(x_n))]``.

    SamNeg with hard negatives weighted up: p is the softmax of ``adversarial_temperature * f``
    over the query's negatives, without gradient.

    Args:
        num_negatives: K, negatives drawn for each query.
        margin: m, added to every score, as in SamNeg.
        adversarial_temperature: sharpness of the weights; near 0 they are equal.
        filtered: draw no known training answer as a negative.
    """

    num_negatives: int = 256
    margin: float = 3.0
    adversarial_temperature: float = 1.0
    filtered: bool = True
    nonnegative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_num_negatives(self.num_negatives)
        require_finite("margin", self.margin)
        require_positive("adversarial_temperature", self.adversarial_temperature)

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """``loss`` and its halves ``positive`` and ``negative``, each a scalar."""
        positive_B1 = scores.at(batch.target_B[:, None])
        negative_BK = negative_scores(scores, batch, self.num_negatives, self.filtered)
        positive = F.softplus(-self.margin - positive_B1).mean()
        logit_BK = self.adversarial_temperature * negative_BK.detach()
        weight_BK = logit_BK.softmax(1).nan_to_num()  # all K filtered: no weight
        negative = (weight_BK * F.softplus(self.margin + negative_BK)).sum(1).mean()
        return {"loss": positive + negative, "positive": positive, "negative": negative}
