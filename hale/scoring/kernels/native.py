"""The LogSumExp in C; docs/kernel.md explains the method and gives measurements.

The forward pass computes scores in tiles of entities and stores, for the backward pass, one bf16
weight per score. If these would take too much memory, none is stored: the backward pass recomputes
them, for as many queries at a time as fit.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hale.graphs.queries import Known
from hale.scoring.candidates import GROUP, Candidates
from hale.scoring.clusters import TILE
from hale.scoring.kernels.binding import Inputs, Kernel, arguments_of
from hale.scoring.kernels.pages import empty_like


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
        start_N, stop_N, answer_A = (part.contiguous() for part in known)
        known = Known(start_N.long(), stop_N.long(), answer_A)
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


class _Block:
    """The kernel's arguments for some queries, and what is kept between its two passes."""

    def __init__(self, kernel: Kernel, inputs: Inputs, which: Which, start: int, stop: int) -> None:
        known, candidates = which
        self.rows = slice(start, stop)
        self.library = kernel.library
        self.alive: list[object] = [inputs, which]  # C holds their addresses
        tape = self.library.hale_tape_floats(stop - start, inputs[0].shape[1])
        self.tape = inputs[0].new_empty(tape)
        self.weights: Tensor | None = None
        self.sweep = arguments_of(kernel, inputs, self.rows, tape=self.tape.data_ptr())
        if known is not None:
            self.sweep.known_start = known.start_N[start:].data_ptr()
            self.sweep.known_stop = known.stop_N[start:].data_ptr()
            ids = "narrow_known" if known.answer_A.dtype == torch.int32 else "known"
            setattr(self.sweep, ids, known.answer_A.data_ptr())
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
        weights = torch.empty(0, dtype=torch.uint8, device="cpu")
    return weights if len(weights) >= size else weights.new_empty(size)


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
        lse_N = query_ND.new_empty(len(query_ND))
        step = _most_rows(kernel, entity_ED, which.candidates)
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
        query_ND, scale_N, entity_ED = map(empty_like, inputs)
        if ctx.which.candidates is not None:
            entity_ED.zero_()  # what no query meets is not written
        gradients = (query_ND, scale_N, entity_ED)
        upstream_N = upstream_N.contiguous()
        block, ctx.block = ctx.block, None  # its weights can be used once
        if block is not None:
            block.backward(upstream_N, gradients)
        else:
            step = _most_rows(kernel, inputs[2], ctx.which.candidates)
            for block in _blocks(kernel, inputs, ctx.which, step):
                block.forward(torch.empty_like(upstream_N), gradient=True)
                block.backward(upstream_N, gradients)
        return (*gradients, None, None, None)


def _most_rows(kernel: Kernel, entity_ED: Tensor, candidates: Candidates | None) -> int:
    """How many queries can be differentiated at once."""
    tiles = -(-len(entity_ED) // TILE) if candidates is None else candidates.tiles()
    rows: int = kernel.library.hale_most_rows(*entity_ED.shape, tiles)
    return rows


def _blocks(kernel: Kernel, inputs: Inputs, which: Which, step: int) -> Iterator[_Block]:
    rows = len(inputs[0])
    for start in range(0, rows, step):
        yield _Block(kernel, inputs, which, start, min(rows, start + step))
