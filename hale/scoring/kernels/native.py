"""The operations in C, each one loop; docs/kernel.md explains the method and gives measurements.

LogSumExp: the forward pass computes scores in tiles of entities and stores, for the backward pass,
one bf16 weight per score (fp32 if the processor has no bf16 products). If these would take too much
memory, none is stored: the backward pass recomputes them, for as many queries at a time as fit.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hale.graphs.queries import Known
from hale.scoring.candidates import GROUP, TILE, Candidates
from hale.scoring.kernels.binding import Kernel, Sweep
from hale.scoring.kernels.reference import EntityTable

Inputs = tuple[Tensor, Tensor, Tensor]


def _arguments(kernel: Kernel, inputs: Inputs, rows: slice = slice(None), **fields: int) -> Sweep:
    """The C functions' arguments for some queries; the caller keeps the tensors alive."""
    query_ND, scale_N, entity_ED = inputs
    query_ND, scale_N = query_ND[rows], scale_N[rows]
    tensors = (query_ND, scale_N, entity_ED)
    return Sweep(
        len(query_ND), *entity_ED.shape, torch.get_num_threads(),
        *(tensor.data_ptr() for tensor in tensors), **kernel.parameters, **fields,
    )  # fmt: skip


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
        sweep = _arguments(kernel, inputs, columns=entity_BK.shape[1])
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
        sweep = _arguments(kernel, (query_BD, scale_B, entity_ED), columns=entity_BK.shape[1])
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


def native_entity_logsumexp(
    kernel: Kernel,
    query_ND: Tensor,
    scale_N: Tensor,
    entity_ED: Tensor,
    known: Known | None = None,
    candidates: Candidates | None = None,
) -> Tensor:
    """:func:`hale.scoring.kernels.operations.entity_logsumexp` by a kernel, in float32 on the CPU.

    Raises:
        IndexError: a query's known answers are out of range or not in ascending order.
        MemoryError: the scratch memory could not be allocated: at most 64 MiB, or 24 MiB more than
            ``entity_ED`` has if that is more.
    """
    inputs = (query_ND.contiguous(), scale_N.contiguous(), entity_ED.contiguous())
    if known is not None:
        known = Known(*(part.contiguous() for part in known))
    if candidates is not None:
        candidates = Candidates(*(part.contiguous() for part in candidates))
    differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    lse_N: Tensor = _NativeEntityLogSumExp.apply(  # type: ignore[no-untyped-call]
        *inputs, kernel, Which(known, candidates), differentiable
    )
    return lse_N


class Which(NamedTuple):
    """The entities that a call sums over."""

    known: Known | None
    candidates: Candidates | None

    def tiles(self, entities: int) -> float:
        """How many tiles an average query meets."""
        if self.candidates is None:
            return -(-entities // TILE)
        return float((self.candidates.log_weight_GC > -math.inf).sum(1).double().mean())


class _Block:
    """The kernel's arguments for some queries, and what is kept between its two passes."""

    def __init__(self, kernel: Kernel, inputs: Inputs, which: Which, start: int, stop: int) -> None:
        known, candidates = which
        self.rows = slice(start, stop)
        self.library = kernel.library
        self.alive: list[object] = [inputs, which]  # C holds their addresses
        self.tape = torch.empty(self.library.hale_tape_floats(stop - start, inputs[0].shape[1]))
        self.weights: Tensor | None = None
        self.sweep = _arguments(kernel, inputs, self.rows, tape=self.tape.data_ptr())
        if known is not None:
            self.sweep.known_start = known.start_N[start:].data_ptr()
            self.sweep.known_stop = known.stop_N[start:].data_ptr()
            self.sweep.known = known.answer_A.data_ptr()
        if candidates is not None:
            log2_GC = candidates.log_weight_GC[start // GROUP :] / math.log(2)
            self.alive.append(log2_GC)
            self.sweep.order = candidates.order_E.data_ptr()
            self.sweep.place = candidates.place_E.data_ptr()
            self.sweep.log_weight = log2_GC.data_ptr()

    def forward(self, lse_N: Tensor, gradient: bool) -> None:
        """Write the block's rows of ``lse_N``; with ``gradient``, prepare :meth:`backward`."""
        sweep = self.sweep
        if gradient:
            size = self.library.hale_weight_bytes(sweep)
            self._check(size < 0)
            self.weights = _take(size)
            sweep.weights = self.weights.data_ptr()
        sweep.lse = lse_N[self.rows].data_ptr()
        self._check(self.library.hale_forward(sweep))

    def backward(self, upstream_N: Tensor, gradients: Inputs) -> None:
        """Write the block's rows of the first two ``gradients``, and add to the third.

        The block that starts at row 0 overwrites the third.
        """
        sweep, (grad_query_ND, grad_scale_N, grad_entity_ED) = self.sweep, gradients
        sweep.upstream = upstream_N[self.rows].data_ptr()
        sweep.query_gradient = grad_query_ND[self.rows].data_ptr()
        sweep.scale_gradient = grad_scale_N[self.rows].data_ptr()
        sweep.entity_gradient = grad_entity_ED.data_ptr()
        sweep.accumulate = self.rows.start > 0
        self._check(self.library.hale_backward(sweep))
        assert self.weights is not None
        _spare[:] = [self.weights]
        self.weights = None

    def _check(self, status: int) -> None:
        if status == 1:
            raise MemoryError("entity_logsumexp: out of memory for the native kernel's scratch")
        if status == 2:
            raise IndexError(
                "known answers out of range or order: a query's ids must ascend and are "
                f"0 to {self.sweep.entities - 1}"
            )


_spare: list[Tensor] = []
"""The last buffer of weights, reused by the next call: fresh pages cost more than filling them."""


def _take(size: int) -> Tensor:
    try:
        weights = _spare.pop()
    except IndexError:
        weights = torch.empty(0, dtype=torch.uint8)
    return weights if len(weights) >= size else torch.empty(size, dtype=torch.uint8)


class _NativeEntityLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_ND: Tensor,
        scale_N: Tensor,
        entity_ED: Tensor,
        kernel: Kernel,
        which: Which,
        differentiable: bool,
    ) -> Tensor:
        inputs = (query_ND, scale_N, entity_ED)
        ctx.save_for_backward(*inputs)
        ctx.kernel, ctx.which, ctx.block = kernel, which, None
        lse_N = torch.empty(len(query_ND))
        step = kernel.library.hale_most_rows(*entity_ED.shape, which.tiles(len(entity_ED)))
        if differentiable and len(query_ND) <= step:
            ctx.block = _Block(kernel, inputs, which, 0, len(query_ND))
            ctx.block.forward(lse_N, gradient=True)
            return lse_N
        step = kernel.library.hale_most_rows(*entity_ED.shape, 0)
        for block in _blocks(kernel, inputs, which, step):
            block.forward(lse_N, gradient=False)
        return lse_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_N: Tensor) -> tuple[Tensor | None, ...]:
        kernel, inputs = ctx.kernel, ctx.saved_tensors
        query_ND, scale_N, entity_ED = map(torch.empty_like, inputs)
        gradients = (query_ND, scale_N, entity_ED)
        upstream_N = upstream_N.contiguous()
        block, ctx.block = ctx.block, None  # its weights can be used once
        if block is not None:
            block.backward(upstream_N, gradients)
        else:
            tiles = ctx.which.tiles(len(inputs[2]))
            step = kernel.library.hale_most_rows(*inputs[2].shape, tiles)
            for block in _blocks(kernel, inputs, ctx.which, step):
                block.forward(torch.empty_like(upstream_N), gradient=True)
                block.backward(upstream_N, gradients)
        return (*gradients, None, None, None)


def _blocks(kernel: Kernel, inputs: Inputs, which: Which, step: int) -> Iterator[_Block]:
    rows = len(inputs[0])
    for start in range(0, rows, step):
        yield _Block(kernel, inputs, which, start, min(rows, start + step))
