"""LogSumExp of the scores of queries over all entities, without the N x E matrix.

This operation dominates HaLE's training time. Callers use :func:`entity_logsumexp`, which chooses a
backend. :func:`reference_sweep` defines the result in plain PyTorch for every comparator and
activation, on every device and dtype; ``native`` (CPU) and ``triton_lse`` (CUDA) are faster and
support some of them. The environment variable HALE_KERNEL forces one: ``reference``, ``native`` or
``triton``.

    N  queries     E  entities     D  dimension     C  queries of one chunk
"""

import importlib.util
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hale.data.queries import Known
from hale.scoring.activations import Activation, Hanon
from hale.scoring.comparators import Comparator, SquaredEuclidean
from hale.scoring.kernels import native
from hale.scoring.kernels.backends import choose
from hale.scoring.kernels.native_lse import native_entity_logsumexp

CHUNK_BYTES = 8 << 20
"""Size of the block of scores that the reference holds at once (autograd keeps a few copies)."""

DEFAULT = (SquaredEuclidean(), Hanon())
"""Comparator and activation of hale's default run."""


class Sweep(NamedTuple):
    """Results of one pass over the entities; gradients are those of ``sum_N weight_N lse_N``."""

    lse_N: Tensor
    grad_query_ND: Tensor
    grad_scale_N: Tensor
    grad_entity_ED: Tensor


def entity_logsumexp(
    query_ND: Tensor,
    scale_N: Tensor,
    entity_ED: Tensor,
    comparator: Comparator,
    activation: Activation,
    known: Known | None = None,
) -> Tensor:
    """``lse_n = log sum_e exp(-activation(distance(q_n, e)))`` over all entities e, filtered.

    Args:
        query_ND: query vectors.
        scale_N: the comparator's positive scale of each query.
        entity_ED: entity vectors.
        comparator: distance from a dot product, the two squared norms and the scale.
        activation: increasing map of the distance.
        known: answers of each query that are excluded from its sum; None excludes nothing.

    Returns:
        ``lse_N``, differentiable in the first three arguments (once).

    Raises:
        HaleError: HALE_KERNEL names no backend, or one that does not support this call.
    """
    arguments = (query_ND, scale_N, entity_ED, comparator, activation, known)
    backend = _backend((query_ND, scale_N, entity_ED), comparator, activation)
    if backend == "native":
        return native_entity_logsumexp(*arguments)
    if backend == "triton":
        from hale.scoring.kernels.triton_lse import triton_entity_logsumexp

        return triton_entity_logsumexp(*arguments)
    lse_N: Tensor = _EntityLogSumExp.apply(*arguments)  # type: ignore[no-untyped-call]
    return lse_N


def kernel_variant(
    device: torch.device,
    comparator: Comparator = DEFAULT[0],
    activation: Activation = DEFAULT[1],
    dim: int = 1,
) -> str:
    """The code that :func:`entity_logsumexp` runs on ``device`` in float32, for a run's record.

    On CPUs scores of chosen entities run the same library; on CUDA they are plain PyTorch.

    Returns:
        The instructions that the native kernel uses (``avx2``, ``avx512``, ``avx512-bf16``,
        ``amx-bf16``, ``sse2``, ``neon``, ``generic``), or ``triton``, or ``reference``.

    Raises:
        HaleError: HALE_KERNEL names no backend, or one that does not support these.
    """
    vector = torch.empty((1, dim), dtype=torch.float32, device=device)
    backend = _backend((vector, vector[:, 0], vector), comparator, activation)
    return native.variant(comparator, activation) if backend == "native" else backend


def _backend(inputs: native.Inputs, comparator: Comparator, activation: Activation) -> str:
    return choose(
        inputs[0].device,
        {
            "native": lambda: native.unavailable(inputs, comparator, activation),
            "triton": lambda: _triton_obstacle(inputs[0], comparator, activation),
        },
    )


def _triton_obstacle(
    query_ND: Tensor, comparator: Comparator, activation: Activation
) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "the Triton kernel needs the package triton"
    from hale.scoring.kernels import triton_lse

    if query_ND.device.type != "cuda":
        return f"the Triton kernel runs on cuda, not on {query_ND.device}"
    if not triton_lse.supported(comparator, activation, query_ND.dtype, query_ND.shape[1]):
        what = f"{activation} of {comparator} in {query_ND.shape[1]} dimensions of {query_ND.dtype}"
        return f"the Triton kernel does not support {what}"
    return None


class _EntityLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_ND: Tensor,
        scale_N: Tensor,
        entity_ED: Tensor,
        comparator: Comparator,
        activation: Activation,
        known: Known | None,
    ) -> Tensor:
        lse_N, *gradients = reference_sweep(
            query_ND, scale_N, entity_ED, comparator, activation, known, torch.ones_like(scale_N)
        )
        ctx.save_for_backward(query_ND, scale_N, entity_ED, *gradients)
        ctx.rest = (comparator, activation, known)
        return lse_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight_N: Tensor) -> tuple[Tensor | None, ...]:
        query_ND, scale_N, entity_ED, *gradients = ctx.saved_tensors
        if (weight_N == weight_N[:1]).all():
            gradients = [gradient * weight_N[0] for gradient in gradients]
        else:
            comparator, activation, known = ctx.rest
            _, *gradients = reference_sweep(
                query_ND, scale_N, entity_ED, comparator, activation, known, weight_N
            )
        return (*gradients, None, None, None)


def reference_sweep(
    query_ND: Tensor,
    scale_N: Tensor,
    entity_ED: Tensor,
    comparator: Comparator,
    activation: Activation,
    known: Known | None,
    weight_N: Tensor,
) -> Sweep:
    """The definition: chunks of queries against all entities, each differentiated at once.

    Holds a few times ``CHUNK_BYTES`` of scores whatever N is, but never less than one row.
    """
    chunk = max(1, CHUNK_BYTES // (len(entity_ED) * entity_ED.element_size()))
    grad_entity_ED = torch.zeros_like(entity_ED)
    parts = []
    for start in range(0, len(query_ND), chunk):
        rows = slice(start, start + chunk)
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_() for t in (query_ND[rows], scale_N[rows])]
            query_CD, scale_C = leaves
            entity = entity_ED.detach().requires_grad_()
            distance_CE = comparator(
                query_CD @ entity.T,
                query_CD.square().sum(1, keepdim=True),
                entity.square().sum(1),
                scale_C[:, None],
            )
            score_CE = -activation(distance_CE)
            if known is not None:
                pairs = known.rows(rows).pairs()
                score_CE = score_CE.index_put(pairs, score_CE.new_tensor(-torch.inf))
            lse_C = score_CE.logsumexp(1)
            gradients = torch.autograd.grad(
                (lse_C * weight_N[rows]).sum(), (*leaves, entity), materialize_grads=True
            )
        parts.append((lse_C.detach(), *gradients[:2]))
        grad_entity_ED += gradients[2]
    lse_N, grad_query_ND, grad_scale_N = (torch.cat(part) for part in zip(*parts, strict=True))
    return Sweep(lse_N, grad_query_ND, grad_scale_N, grad_entity_ED)
