"""Negative Sampling (SamNeg), binary cross-entropy over sampled negatives."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from hale.losses.arguments import require_finite, require_num_negatives
from hale.losses.negatives import negative_scores
from hale.queries import QueryBatch
from hale.scores import ScoreMatrix


@dataclass(frozen=True)
class SamNeg:
    """``L = mean_B -log sigmoid(m + f(x_p)) + mean_BK -log sigmoid(-m - f(x_n))``.

    Scores of distance models are never above 0, so that alone no positive could be classified as
    one: the margin m is the distance at which positive and negative are equally likely. Sun et al.
    (ICLR 2019) fix it, as here; Chami et al. (ACL 2020), whom HaLE follows, train entity biases in
    its place. Positives and negatives weigh one half each whatever K is, as in Sun et al.

    Args:
        num_negatives: K, negatives drawn for each query.
        margin: m, added to every score: a few times the distance that training starts from (about
            1); 0 for models whose scores have both signs.
        filtered: draw no known training answer as a negative.
    """

    num_negatives: int = 256
    margin: float = 3.0
    filtered: bool = False
    nonnegative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_num_negatives(self.num_negatives)
        require_finite("margin", self.margin)

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """``loss`` and its halves ``positive`` and ``negative``, each a scalar."""
        positive_B1 = scores.at(batch.target_B[:, None])
        negative_BK = negative_scores(scores, batch, self.num_negatives, self.filtered)
        positive = F.softplus(-self.margin - positive_B1).mean()
        negative = F.softplus(self.margin + negative_BK).mean()
        return {"loss": positive + negative, "positive": positive, "negative": negative}
