"""The matrix of scores of queries against all entities, which is never held as a whole."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hale.activations import Activation
from hale.comparators import Comparator
from hale.kernels.entity_logsumexp import entity_logsumexp
from hale.lookup import Table
from hale.queries import Known


@dataclass(frozen=True)
class ScoreMatrix:
    """f(q_b, e) = -activation(distance(q_b, e)) for B queries and all E entities (Eq. 8).

    What a loss may ask of it: its length B, its first rows, chosen entries, and the LogSumExp of
    each row. None of these materialises the matrix.
    """

    query_BD: Tensor
    scale_B: Tensor
    entity: Table
    comparator: Comparator
    activation: Activation

    def __len__(self) -> int:
        """B."""
        return len(self.query_BD)

    @property
    def entity_ED(self) -> Tensor:
        """The vectors that queries are compared with."""
        return self.entity.tensor

    def first(self, rows: int) -> "ScoreMatrix":
        """The matrix of the first ``rows`` queries."""
        return ScoreMatrix(
            self.query_BD[:rows], self.scale_B[:rows], self.entity, self.comparator,
            self.activation,
        )  # fmt: skip

    def at(self, entity_BK: Tensor) -> Tensor:
        """Scores of chosen entities, ``score_BK``; differentiable."""
        entity_BKD = self.entity.rows(entity_BK)
        if entity_BK.numel() < len(self.entity_ED):
            dot_BK, query_sq_BK, entity_sq_BK = _Products.apply(  # type: ignore[no-untyped-call]
                self.query_BD[:, None].expand_as(entity_BKD), entity_BKD
            )
        else:  # a batched product, and each entity squared once: no further B x K x D
            dot_BK = torch.bmm(entity_BKD, self.query_BD[:, :, None]).squeeze(2)
            query_sq_BK = self.query_BD.square().sum(1, keepdim=True)
            entity_sq_BK = self.entity_ED.square().sum(1)[entity_BK]
        distance_BK = self.comparator(dot_BK, query_sq_BK, entity_sq_BK, self.scale_B[:, None])
        return -self.activation(distance_BK)

    def logsumexp(self, known: Known | None = None) -> Tensor:
        """LogSumExp of each row over all entities but its known ones, ``lse_B``; differentiable."""
        return entity_logsumexp(
            self.query_BD, self.scale_B, self.entity.whole(), self.comparator, self.activation,
            known,
        )  # fmt: skip


class _Products(torch.autograd.Function):
    """``x.y``, ``|x|^2`` and ``|y|^2`` along the last dimension of tensors of one shape.

    Each operand has one gradient in one buffer, where autograd would form three and add them up.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(x, y)
        return torch.linalg.vecdot(x, y), torch.linalg.vecdot(x, x), torch.linalg.vecdot(y, y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dot: Tensor, x_sq: Tensor, y_sq: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        dot = dot[..., None]
        return (
            (dot * y).addcmul_(x, x_sq[..., None], value=2),
            (dot * x).addcmul_(y, y_sq[..., None], value=2),
        )
