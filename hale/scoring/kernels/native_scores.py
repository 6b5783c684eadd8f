"""Scores of chosen entities in C, and their gradients; docs/kernel.md explains the method."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hale.scoring.kernels.binding import Kernel, arguments_of
from hale.scoring.kernels.reference import EntityTable


def native_chosen_scores(
    kernel: Kernel,
    query_BD: Tensor,
    scale_B: Tensor,
    entity: EntityTable,
    entity_BK: Tensor,
) -> Tensor:
    """:func:`hale.scoring.kernels.operations.chosen_scores` by a kernel, in float32 on the CPU.

    Raises:
        IndexError: an entity id is out of range.
        MemoryError: a thread's scratch memory could not be allocated.
    """
    differentiable = torch.is_grad_enabled()
    return entity.through(
        _NativeChosenScores, query_BD, scale_B, entity_BK.contiguous(), kernel, differentiable
    )


class _NativeChosenScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        entity_ED: Tensor,
        query_BD: Tensor,
        scale_B: Tensor,
        entity_BK: Tensor,
        kernel: Kernel,
        differentiable: bool,
    ) -> tuple[Tensor, Tensor]:
        inputs = (query_BD.contiguous(), scale_B.contiguous(), entity_ED.contiguous())
        score_BK = query_BD.new_empty(entity_BK.shape)
        sweep = arguments_of(kernel, inputs, columns=entity_BK.shape[1])
        sweep.chosen, sweep.score = entity_BK.data_ptr(), score_BK.data_ptr()
        derivatives = None
        if differentiable and any(ctx.needs_input_grad):
            count = kernel.library.hale_derivative_floats(entity_BK.numel())
            derivatives = score_BK.new_empty(count)
            sweep.derivatives = derivatives.data_ptr()
        _check_chosen(kernel.library.hale_chosen(sweep), len(entity_ED))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, entity_BK)
        ctx.kernel, ctx.derivatives = kernel, derivatives
        return score_BK, entity_ED.view_as(entity_ED)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, upstream_BK: Tensor | None, grad_entity_ED: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if upstream_BK is None:
            return grad_entity_ED, None, None, None, None, None
        *inputs, entity_BK = ctx.saved_tensors
        kernel, (query_BD, scale_B, entity_ED) = ctx.kernel, inputs
        upstream_BK = upstream_BK.contiguous()
        grad_query_BD, grad_scale_B = torch.empty_like(query_BD), torch.empty_like(scale_B)
        if grad_entity_ED is None:
            grad_entity_ED = torch.zeros_like(entity_ED)
        grad_entity_ED = grad_entity_ED.contiguous()
        sweep = arguments_of(kernel, (query_BD, scale_B, entity_ED), columns=entity_BK.shape[1])
        sweep.chosen, sweep.derivatives = entity_BK.data_ptr(), ctx.derivatives.data_ptr()
        sweep.upstream = upstream_BK.data_ptr()
        sweep.query_gradient = grad_query_BD.data_ptr()
        sweep.scale_gradient = grad_scale_B.data_ptr()
        sweep.entity_gradient = grad_entity_ED.data_ptr()
        _check_chosen(kernel.library.hale_chosen_backward(sweep), len(entity_ED))
        return grad_entity_ED, grad_query_BD, grad_scale_B, None, None, None


def _check_chosen(status: int, entities: int) -> None:
    if status == 1:
        raise MemoryError("chosen_scores: out of memory in a thread of the native kernel")
    if status == 2:
        raise IndexError(f"entity id out of range: ids are 0 to {entities - 1}")
