"""Losses that learn from trained models, the teachers, as well as from the triples.

B  queries     N  those whose candidates are chosen by the student     K  candidates
X  the answer and K others     M  teachers
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hale.errors import ArgumentError, require, require_whole
from hale.graphs.batches import QueryBatch
from hale.losses.query_sampling import QuerySampling
from hale.scoring.table import ScoreMatrix


class Teacher(Protocol):
    """A trained model, asked by the student's ids."""

    def scores(self, entity_B: Tensor, relation_B: Tensor, candidate_BX: Tensor) -> Tensor:
        """Its scores of chosen entities, ``score_BX``, without a gradient."""


def require_teachers(teachers: Sequence[Teacher]) -> None:
    """Raise ArgumentError unless there is one."""
    if not teachers:
        raise ArgumentError("teachers must be at least one folder of a trained model, got []")


@dataclass(frozen=True, eq=False)
class DistilE:
    """``L = mean_B [p d + (1 - p) hard]`` of the positive, plus the mean of it over negatives.

    ``d`` is the Huber distance of the student's score and the teachers' mean score, ``hard`` the
    logistic loss of SamNeg, and ``p`` how far the teachers agree with the label: the sigmoid of
    ``sharpness (m + f_T)`` for the positive and of ``-sharpness (m + f_T)`` for a negative.

    Source: Zhu et al., "DualDE: Dually Distilling Knowledge Graph Embedding for Faster and Cheaper
    Reasoning" (WSDM 2022), whose preprint calls it DistilE. As in its authors' code the difference
    of angles and lengths of h and t is left out. Here p's two numbers are given, not trained, and
    the teachers stay as they are: its second stage, which trains them too, is left out.

    Args:
        teachers: trained models; in the settings, their folders.
        num_negatives: K, negatives drawn for each query.
        margin: m, added to every score, as in SamNeg.
        sharpness: of p; near 0 the teachers and the labels weigh the same.
    """

    teachers: Sequence[Teacher]
    num_negatives: int = 64
    margin: float = 3.0
    sharpness: float = 1.0
    nonnegative: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_teachers(self.teachers)
        require_whole("num_negatives", self.num_negatives, at_least=1)
        require("margin", self.margin)
        require("sharpness", self.sharpness, above=0)

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """``loss`` and its halves ``positive`` and ``negative``, each a scalar."""
        candidate_BX = torch.cat((batch.target_B[:, None], batch.negatives(self.num_negatives)), 1)
        asked = batch.entity_B, batch.relation_B, candidate_BX
        learned_BX = self.margin + scores.at(candidate_BX)
        taught_BX = self.margin + _ask(self.teachers, *asked).mean(0).to(learned_BX)
        label_X = learned_BX.new_full((candidate_BX.shape[1],), -1.0)
        label_X[0] = 1.0
        trust_BX = torch.sigmoid(self.sharpness * label_X * taught_BX)
        soft_BX = F.huber_loss(learned_BX, taught_BX, reduction="none")
        loss_BX = trust_BX * soft_BX + (1 - trust_BX) * F.softplus(-label_X * learned_BX)
        positive, negative = batch.mean(loss_BX[:, 0]), batch.mean(loss_BX[:, 1:])
        return {"loss": positive + negative, "positive": positive, "negative": negative}


@dataclass(frozen=True, eq=False, kw_only=True)
class MulDE(QuerySampling):
    """``L = hard + soft_weight * mean_N KL(teachers || student)`` over a query's candidates.

    ``hard`` is the Query Sampling loss, HaLE by default. The candidates of its N sampled queries
    are the answer and the ``top - 1`` other entities that the student scores best. The teachers'
    distribution over them is the softmax of their scores' weighted mean, where teachers near the
    student weigh more: a teacher's weight is the softmax of ``-KL(teacher || student)``.

    Source: Wang et al., "MulDE: Multi-teacher Knowledge Distillation for Low-dimensional Knowledge
    Graph Embeddings" (WWW 2021), whose hard loss is a logistic one. Its trained factor of each
    teacher and relation is left out: teachers trained with one activation score on one scale.

    Args:
        alpha: of the hard loss, like all up to ``candidates``.
        teachers: trained models; in the settings, their folders.
        top: K, candidates of a query.
        soft_weight: of the teachers against the hard loss; above 0.
    """

    teachers: Sequence[Teacher]
    top: int = 64
    soft_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_teachers(self.teachers)
        require_whole("top", self.top, at_least=2)
        require("soft_weight", self.soft_weight, above=0)

    def __call__(self, scores: ScoreMatrix, batch: QueryBatch) -> dict[str, Tensor]:
        """``loss``, ``alignment``, ``uniformity`` and ``distillation``, each a scalar."""
        parts = super().__call__(scores, batch)
        count = math.ceil(self.alpha * batch.total)
        rows = batch.rows(count)
        some, entity_N, relation_N, target_N = (
            scores.first(rows), batch.entity_B[:rows], batch.relation_B[:rows],
            batch.target_B[:rows],
        )  # fmt: skip
        candidate_NK = _best(some, target_N, self.top)
        asked = entity_N, relation_N, candidate_NK
        learned_NK = some.at(candidate_NK).log_softmax(1)
        score_MNK = _ask(self.teachers, *asked).to(learned_NK)
        apart_MN = _kl(score_MNK.log_softmax(2), learned_NK.detach())
        weight_MN1 = (-apart_MN).softmax(0)[:, :, None]
        taught_NK = (weight_MN1 * score_MNK).sum(0).log_softmax(1)
        distillation = batch.mean(_kl(taught_NK, learned_NK), count)
        loss = parts["loss"] + self.soft_weight * distillation
        return parts | {"loss": loss, "distillation": distillation}


def _ask(
    teachers: Sequence[Teacher], entity_B: Tensor, relation_B: Tensor, candidate_BX: Tensor
) -> Tensor:
    """The scores of each teacher, ``score_MBX``."""
    return torch.stack([each.scores(entity_B, relation_B, candidate_BX) for each in teachers])


@torch.no_grad()
def _best(scores: ScoreMatrix, target_N: Tensor, count: int) -> Tensor:
    """The target of each query and the entities nearest to it otherwise, ``entity_NK``.

    A query's own entity, where it is excluded, is none of them unless there are too few others.
    """
    entity_ED = scores.entity_ED
    distance_NE = scores.comparator(
        scores.query_BD @ entity_ED.T,
        scores.query_BD.square().sum(1, keepdim=True),
        entity_ED.square().sum(1),
        scores.scale_B[:, None],
    )
    if scores.own_B is not None:
        row_X = (scores.own_B >= 0).nonzero().flatten()
        distance_NE[row_X, scores.own_B[row_X]] = torch.inf
    distance_NE.scatter_(1, target_N[:, None], -torch.inf)
    return distance_NE.topk(min(count, len(entity_ED)), largest=False).indices


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of distributions along the last dimension."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
