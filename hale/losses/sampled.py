"""Losses over sampled negatives: SamNeg, AdvNeg and the contrastive loss InfoNCE.

B  queries     K  negatives drawn for each query
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from hale.errors import require, require_whole
from hale.graphs.batches import QueryBatch
from hale.scoring.table import ScoreMatrix


def negative_scores(
    scores: ScoreMatrix, batch: QueryBatch, num_negatives: int, filtered: bool
) -> Tensor:
    """Scores of ``num_negatives`` entities drawn for each query, ``score_BK``.

    With ``filtered``, known training answers among them score -inf, which excludes them.
    """
    entity_BK = batch.negatives(num_negatives)
    score_BK = scores.at(entity_BK)
    if filtered:
        score_BK = score_BK.masked_fill(batch.is_answer(entity_BK), -math.inf)
    return score_BK


@dataclass(frozen=True)
class SamNeg:
    """``L = mean_B -log sigmoid(m + f(x_p)) + mean_BK -log sigmoid(-m - f(x_n))``.

    Scores of distance models are never above 0, so without an offset no positive could be
    classified as true: the margin m is the distance at which true and false are equally likely.
    Sun et al. (ICLR 2019) fix it, as here; Chami et al. (ACL 2020), whom HaLE follows, train entity
    biases instead. Positives and negatives have equal weight whatever K is, as in Sun et al.

    Args:
        num_negatives: K, negatives drawn for each query.
        margin: m, added to every score: a few times the initial distance (about 1); 0 for models
            whose scores have both signs.
        filtered: exclude known training answers from the negatives.
    """

    num_negatives: int = 256
    margin: float = 3.0
    filtered: bool = False
    nonnegative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_whole("num_negatives", self.num_negatives, at_least=1)
        require("margin", self.margin)

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """``loss`` and its halves ``positive`` and ``negative``, each a scalar."""
        positive_B1 = scores.at(batch.target_B[:, None])
        negative_BK = negative_scores(scores, batch, self.num_negatives, self.filtered)
        positive = batch.mean(F.softplus(-self.margin - positive_B1))
        negative = batch.mean(F.softplus(self.margin + negative_BK))
        return {"loss": positive + negative, "positive": positive, "negative": negative}


@dataclass(frozen=True)
class AdvNeg:
    """``L = mean_B [-log sigmoid(m + f(x_p)) - sum_K p_n log sigmoid(-m - f(x_n))]``.

    SamNeg with larger weights for hard negatives (self-adversarial negative sampling, Sun et al.,
    ICLR 2019): p is the softmax of ``adversarial_temperature * f`` over the query's negatives,
    without gradient.

    Args:
        num_negatives: K, negatives drawn for each query.
        margin: m, added to every score, as in SamNeg.
        adversarial_temperature: sharpness of the weights; near 0 they are equal.
        filtered: exclude known training answers from the negatives.
    """

    num_negatives: int = 256
    margin: float = 3.0
    adversarial_temperature: float = 1.0
    filtered: bool = True
    nonnegative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_whole("num_negatives", self.num_negatives, at_least=1)
        require("margin", self.margin)
        require("adversarial_temperature", self.adversarial_temperature, above=0)

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """``loss`` and its halves ``positive`` and ``negative``, each a scalar."""
        positive_B1 = scores.at(batch.target_B[:, None])
        negative_BK = negative_scores(scores, batch, self.num_negatives, self.filtered)
        positive = batch.mean(F.softplus(-self.margin - positive_B1))
        logit_BK = self.adversarial_temperature * negative_BK.detach()
        weight_BK = logit_BK.softmax(1).nan_to_num()  # 0 where all K are excluded
        negative = batch.mean((weight_BK * F.softplus(self.margin + negative_BK)).sum(1))
        return {"loss": positive + negative, "positive": positive, "negative": negative}


@dataclass(frozen=True)
class Contrastive:
    """``L = mean_B -log [exp(f(x_p)/t) / (sum_K exp(f(x_n)/t) + exp(f(x_p)/t))]``.

    Args:
        num_negatives: K, negatives drawn for each query.
        temperature: t, above 0; the lower it is, the more hard negatives count.
        filtered: exclude known training answers from the negatives.
    """

    num_negatives: int = 256
    temperature: float = 0.5
    filtered: bool = True
    nonnegative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_whole("num_negatives", self.num_negatives, at_least=1)
        require("temperature", self.temperature, above=0)

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """``loss``, a scalar."""
        positive_B1 = scores.at(batch.target_B[:, None])
        negative_BK = negative_scores(scores, batch, self.num_negatives, self.filtered)
        logit_BX = torch.cat((positive_B1, negative_BK), 1) / self.temperature
        return {"loss": batch.mean(logit_BX.logsumexp(1) - logit_BX[:, 0])}
