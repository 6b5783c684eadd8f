"""The operations in plain PyTorch: the definition, for every device, dtype and activation.

N  queries     E  entities     D  dimension     C  queries of one chunk     K  chosen entities
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hale.graphs.queries import Known
from hale.scoring.activations import Activation
from hale.scoring.candidates import Candidates
from hale.scoring.comparators import Comparator


class EntityTable(Protocol):
    """The entity table as one step reads it; :class:`hale.scoring.table.Table` is one."""

    tensor: Tensor

    def lookup(self, index: Tensor) -> Tensor:
        """Rows by id, differentiable."""

    def through(self, function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
        """Apply a function that takes the table first and shares its gradient."""


CHUNK_BYTES = 8 << 20
"""Size of the block of scores that the reference holds at once (autograd keeps a few copies)."""


class Sweep(NamedTuple):
    """Results of one pass over the entities; gradients are those of ``sum_N weight_N lse_N``."""

    lse_N: Tensor
    grad_query_ND: Tensor
    grad_scale_N: Tensor
    grad_entity_ED: Tensor


def reference_scores(
    query_BD: Tensor,
    scale_B: Tensor,
    entity: EntityTable,
    entity_BK: Tensor,
    comparator: Comparator,
    activation: Activation,
) -> Tensor:
    """The definition, for every device and dtype; holds the chosen vectors, B x K x D."""
    entity_BKD = entity.lookup(entity_BK)
    distance_BK = comparator(
        torch.bmm(entity_BKD, query_BD[:, :, None]).squeeze(2),
        query_BD.square().sum(1, keepdim=True),
        entity_BKD.square().sum(2),
        scale_B[:, None],
    )
    return -activation(distance_BK)


def reference_logsumexp(
    query_ND: Tensor,
    scale_N: Tensor,
    entity_ED: Tensor,
    comparator: Comparator,
    activation: Activation,
    known: Known | None = None,
    candidates: Candidates | None = None,
) -> Tensor:
    """:func:`hale.scoring.kernels.operations.entity_logsumexp`, chunk by chunk."""
    lse_N: Tensor = _EntityLogSumExp.apply(  # type: ignore[no-untyped-call]
        query_ND, scale_N, entity_ED, comparator, activation, known, candidates
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
        candidates: Candidates | None,
    ) -> Tensor:
        rest = (comparator, activation, known, candidates)
        lse_N, *gradients = reference_sweep(
            query_ND, scale_N, entity_ED, *rest, torch.ones_like(scale_N)
        )
        ctx.save_for_backward(query_ND, scale_N, entity_ED, *gradients)
        ctx.rest = rest
        return lse_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight_N: Tensor) -> tuple[Tensor | None, ...]:
        query_ND, scale_N, entity_ED, *gradients = ctx.saved_tensors
        if (weight_N == weight_N[:1]).all():
            gradients = [gradient * weight_N[0] for gradient in gradients]
        else:
            comparator, activation, known, candidates = ctx.rest
            _, *gradients = reference_sweep(
                query_ND, scale_N, entity_ED, comparator, activation, known, candidates, weight_N
            )
        return (*gradients, None, None, None, None)


def reference_sweep(
    query_ND: Tensor,
    scale_N: Tensor,
    entity_ED: Tensor,
    comparator: Comparator,
    activation: Activation,
    known: Known | None,
    candidates: Candidates | None,
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
            score_CE = _weighted(score_CE, known, candidates, rows)
            lse_C = score_CE.logsumexp(1)
            gradients = torch.autograd.grad(
                (lse_C * weight_N[rows]).sum(), (*leaves, entity), materialize_grads=True
            )
        parts.append((lse_C.detach(), *gradients[:2]))
        grad_entity_ED += gradients[2]
    lse_N, grad_query_ND, grad_scale_N = (torch.cat(part) for part in zip(*parts, strict=True))
    return Sweep(lse_N, grad_query_ND, grad_scale_N, grad_entity_ED)


def _weighted(
    score_CE: Tensor, known: Known | None, candidates: Candidates | None, rows: slice
) -> Tensor:
    """The scores, -inf of known answers, plus the logarithms of their weights."""
    if known is not None:
        pairs = known.rows(rows).pairs()
        score_CE = score_CE.index_put(pairs, score_CE.new_tensor(-torch.inf))
    if candidates is not None:
        score_CE = score_CE + candidates.log_weights(rows, len(score_CE)).to(score_CE)
    return score_CE
