"""LogSumExp of the scores of queries over all entities, without the N x E matrix.

The one operation HaLE spends its time in. :func:`entity_logsumexp` is what callers use.
:func:`reference_sweep` defines the result in plain PyTorch for every comparator and activation, on
every device and dtype.

    N  queries     E  entities     D  dimension     P  known pairs     C  queries of one chunk
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hale.activations import Activation
from hale.comparators import Comparator
from hale.queries import Known

CHUNK_BYTES = 8 << 20
"""Size of the block of scores that the reference holds at once (autograd keeps a few of them)."""


class Sweep(NamedTuple):
    """What one pass over the entities yields; gradients are of ``sum_N weight_N lse_N``."""

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
    """``lse_n = log sum_e exp(-activation(distance(q_n, e)))`` over all entities but known ones.

    Args:
        query_ND: query vectors.
        scale_N: the comparator's positive scale of each query.
        entity_ED: entity vectors.
        comparator: distance from a dot product, the two squared norms and the scale.
        activation: increasing map of the distance.
        known: pairs (row, entity) that are left out of the sums.

    Returns:
        ``lse_N``, differentiable in the first three arguments (once). Value and gradient are
        formed in one sweep, at an upstream gradient that is equal for all rows, as a mean's is;
        any other is exact too, for one more sweep.
    """
    lse_N: Tensor = _EntityLogSumExp.apply(
        query_ND, scale_N, entity_ED, comparator, activation, known
    )
    return lse_N


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
            _, *gradients = reference_sweep(query_ND, scale_N, entity_ED, *ctx.rest, weight_N)
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
    """The definition: chunks of queries against all entities, differentiated as they are formed.

    Holds about ``CHUNK_BYTES`` of scores a few times over, whatever N is (never less than one row).
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
                here_P = (known.row_P >= start) & (known.row_P < start + chunk)
                pair = (known.row_P[here_P] - start, known.entity_P[here_P])
                score_CE = score_CE.index_put(pair, score_CE.new_tensor(-torch.inf))
            lse_C = score_CE.logsumexp(1)
            gradients = torch.autograd.grad(
                (lse_C * weight_N[rows]).sum(), (*leaves, entity), materialize_grads=True
            )
        parts.append((lse_C.detach(), *gradients[:2]))
        grad_entity_ED += gradients[2]
    lse_N, grad_query_ND, grad_scale_N = (torch.cat(part) for part in zip(*parts, strict=True))
    return Sweep(lse_N, grad_query_ND, grad_scale_N, grad_entity_ED)
