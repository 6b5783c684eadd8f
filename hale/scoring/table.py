"""The entity table as one training step reads it: rows by id, and scores of queries against it."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hale.graphs.ids import as_int64
from hale.graphs.queries import Known, with_own
from hale.scoring.activations import Activation
from hale.scoring.candidates import near
from hale.scoring.clusters import Clusters
from hale.scoring.comparators import Comparator
from hale.scoring.kernels.operations import chosen_scores, entity_logsumexp


def lookup(table_RX: Tensor, index: Tensor) -> Tensor:
    """Rows of ``table_RX`` at an integer ``index`` of any shape, as ``index``'s shape + (X,).

    The same values as ``torch.nn.functional.embedding``. On a CPU the gradient of ``embedding``
    scans all ids once per thread; adding row by row is two to four times as fast. On CUDA adding
    rows would be atomic, and the order of summation, hence the last bits, not deterministic.

    Raises:
        IndexError: an id out of range.
        ArgumentError: ids that are not integers.
    """
    index = as_int64("ids", index)
    if table_RX.device.type != "cpu":
        return F.embedding(index, table_RX)
    return table_RX.index_select(0, index.flatten()).view(*index.shape, table_RX.shape[1])


class Table:
    """A large table during one training step: read by rows several times, then as a whole.

    The gradient of each read is dense, as large as the table and mostly zeros. On a CPU the reads
    therefore form a chain: each passes the table on to the next, and in the backward pass adds its
    rows in place to the gradient that comes back along the chain. A step on a table of a million
    rows allocates one dense gradient instead of three. The sums are the same whatever the order of
    the reads, and whether or not the loss uses all of them.

    Args:
        tensor: the table, (R, X); what a loss of your own should read.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._next = tensor

    def __len__(self) -> int:
        """R."""
        return len(self.tensor)

    def lookup(self, index: Tensor) -> Tensor:
        """The rows at an index, as the function :func:`lookup` returns them."""
        chained = torch.is_grad_enabled() and self._next.requires_grad
        if not chained or self.tensor.device.type != "cpu":
            return lookup(self.tensor, index)
        row_BX = self.through(_Lookup, as_int64("ids", index).flatten())
        return row_BX.view(*index.shape, self.tensor.shape[1])

    def through(self, function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
        """Apply an autograd function to the table and ``arguments`` as a link of the chain.

        The function takes the table first and returns its result and the table. Its backward pass
        adds in place to the gradient of the returned table, or allocates one if there is none.
        """
        result: Tensor
        result, self._next = function.apply(  # type: ignore[no-untyped-call]  # torch's
            self._next, *arguments
        )
        return result

    def scores(
        self,
        query_BD: Tensor,
        scale_B: Tensor,
        comparator: Comparator,
        activation: Activation,
        own_B: Tensor | None = None,
    ) -> "ScoreMatrix":
        """The scores of queries against all rows; the arguments are :class:`ScoreMatrix`'s."""
        return ScoreMatrix(query_BD, scale_B, self, comparator, activation, own_B=own_B)

    def whole(self) -> Tensor:
        """The table at the end of the chain, for the kernels.

        The rows of earlier reads are added in place to its gradient, unless that is not contiguous
        (an expanded one, as ``sum`` returns, is copied first). The gradient must therefore belong
        to nobody else: use :attr:`tensor` unless a function of your own allocates it.
        """
        return self._next


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_RX: Tensor, index_B: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(index_B)
        ctx.shape = table_RX.shape
        ctx.set_materialize_grads(False)
        return table_RX.index_select(0, index_B), table_RX.view_as(table_RX)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, row_BX: Tensor | None, table_RX: Tensor | None
    ) -> tuple[Tensor | None, None]:
        (index_B,) = ctx.saved_tensors
        if row_BX is None:
            return table_RX, None
        if table_RX is None:
            table_RX = row_BX.new_zeros(ctx.shape)
        return table_RX.contiguous().index_add_(0, index_B, row_BX), None


@dataclass(frozen=True)
class ScoreMatrix:
    """f(q_b, e) = -activation(distance(q_b, e)) for B queries and all E entities (Eq. 8).

    A loss may ask for its length B, its first rows, chosen entries, the LogSumExp of each row, and
    the entity vectors. None of these materialises the matrix.

    Args:
        query_BD: query vectors.
        scale_B: the comparator's positive scale of each query.
        entity: entity vectors.
        comparator: distance of a query and an entity.
        activation: hardens it.
        clusters: of the entities, if the LogSumExp is to be estimated from those near a query.
        own_B: each query's own entity where it is excluded, else -1: not in the LogSumExp, never
            predicted, and ranked below all other candidates.
    """

    query_BD: Tensor
    scale_B: Tensor
    entity: Table
    comparator: Comparator
    activation: Activation
    clusters: Clusters | None = None
    own_B: Tensor | None = None

    def __len__(self) -> int:
        """B."""
        return len(self.query_BD)

    @property
    def entity_ED(self) -> Tensor:
        """The vectors that queries are compared with; a loss may use them freely."""
        return self.entity.tensor

    @property
    def columns(self) -> int:
        """How many of them one process has at most."""
        return len(self.entity)

    def here(self) -> "ScoreMatrix":
        """The scores of all queries against the entities of this process."""
        return self

    def place(self, entity_B: Tensor) -> Tensor:
        """The row of an entity of each of all queries in this process; -1 in another."""
        return entity_B

    def total(self, value_X: Tensor) -> Tensor:
        """The sum over processes."""
        return value_X

    def own(self, value_BX: Tensor) -> Tensor:
        """Of the sum over processes the rows for the queries of this one."""
        return value_BX

    def first(self, rows: int) -> "ScoreMatrix":
        """The matrix of the first ``rows`` queries."""
        own_B = None if self.own_B is None else self.own_B[:rows]
        return replace(
            self, query_BD=self.query_BD[:rows], scale_B=self.scale_B[:rows], own_B=own_B
        )

    def at(self, entity_BK: Tensor) -> Tensor:
        """Scores of chosen entities, ``score_BK``; differentiable."""
        return chosen_scores(
            self.query_BD, self.scale_B, self.entity, entity_BK, self.comparator, self.activation
        )

    def logsumexp(self, known: Known | None = None) -> Tensor:
        """LogSumExp of each row without its ``known`` entities, ``lse_B``; differentiable.

        It is 0, a constant, for a row of which all entities are known: nothing is pushed away.
        With ``clusters`` it is an estimate: see :mod:`hale.scoring.candidates`.
        """
        lse_B = self.raw_logsumexp(known)
        return lse_B.masked_fill(lse_B == -math.inf, 0.0)

    def raw_logsumexp(self, known: Known | None = None) -> Tensor:
        """The LogSumExp, and -inf for a row of which all entities are known."""
        if self.own_B is not None:
            known = with_own(known, self.own_B)
        rest = (self.entity.whole(), self.comparator, self.activation)
        if self.clusters is None:
            return entity_logsumexp(self.query_BD, self.scale_B, *rest, known)
        query_BD, scale_B = self.query_BD.detach(), self.scale_B.detach()
        order_B, candidates = near(query_BD, scale_B, self.clusters, *rest[1:])
        known = None if known is None else known.rows(order_B)
        lse_B = entity_logsumexp(
            self.query_BD[order_B], self.scale_B[order_B], *rest, known, candidates
        )
        return torch.empty_like(lse_B).index_copy(0, order_B, lse_B)
