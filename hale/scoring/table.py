"""Rows of a table by id, with the gradient that is cheapest on the table's device."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def lookup(table_RX: Tensor, index: Tensor) -> Tensor:
    """Rows of ``table_RX`` at an integer ``index`` of any shape, as ``index``'s shape + (X,).

    What ``torch.nn.functional.embedding`` gives. On a CPU its gradient scans all ids once per
    thread; adding row by row is two to four times as fast. On CUDA adding would be atomic and the
    order of sums, so their last bits, would be left to chance.

    Raises:
        IndexError: an id is not a row.
    """
    if table_RX.device.type != "cpu":
        return F.embedding(index, table_RX)
    return table_RX.index_select(0, index.flatten()).view(*index.shape, table_RX.shape[1])


class Table:
    """A large table as one step reads it: rows by id, several times, and then the whole.

    The gradient of each read is dense, as large as the table, and most of it zeros. On a CPU the
    reads therefore form a chain: each passes the table on to the next, and in the backward pass
    adds its rows to the gradient that comes back along the chain, in place. A step of a table of a
    million rows forms one dense gradient for it instead of three. Reads in any order, or left out,
    have the same sums.

    Args:
        tensor: the table, (R, X).
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._next = tensor

    def __len__(self) -> int:
        """R."""
        return len(self.tensor)

    def lookup(self, index: Tensor) -> Tensor:
        """What :func:`lookup` gives."""
        chained = torch.is_grad_enabled() and self._next.requires_grad
        if not chained or self.tensor.device.type != "cpu":
            return lookup(self.tensor, index)
        row_BX = self.through(_Lookup, index.flatten())
        return row_BX.view(*index.shape, self.tensor.shape[1])

    def through(self, function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
        """What an autograd function makes of the table and ``arguments``, as a link of the chain.

        The function takes the table first and returns a tensor of its own and the table. Its
        backward pass adds to the gradient of the table that it returned, in place, or makes one
        where there is none.
        """
        made: Tensor
        made, self._next = function.apply(  # type: ignore[no-untyped-call]  # torch's
            self._next, *arguments
        )
        return made

    def whole(self) -> Tensor:
        """The table, at the end of the chain.

        For functions whose gradient of it is a tensor of their own making, which nobody else holds:
        the rows are added to it in place. Others take :attr:`tensor`.
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
        return table_RX.index_add_(0, index_B, row_BX), None
