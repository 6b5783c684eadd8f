"""LogSumExp of the scores of queries over all entities on CUDA, in three Triton kernels.

The algorithm is that of FlashAttention, with entities as keys and values. The gradient of a row's
LogSumExp with respect to its query is a softmax-weighted sum of entities: the forward pass computes
it together with the value, and the backward pass only scales it by the row's upstream gradient. The
entity gradient takes a second pass, over rows. There is no N x E matrix, no atomic float addition
and no host synchronisation, so results are deterministic and calls can be captured in a CUDA graph.

    forward         a block of rows, a split of the entities: partial maxima, sums, weighted sums
    combine         one row: combines the splits
    grad_entity     a block of entities, all rows

Known pairs take one bit per score (N E / 8 bytes). The elementwise part, with its derivatives, is
in :mod:`hale.scoring.kernels.triton_scores`. Importing this module needs triton.

    N  queries    E  entities    D  dimension    S  splits    W  words of 32 bits
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from hale.graphs.queries import Known
from hale.scoring.activations import Activation
from hale.scoring.candidates import GROUP, Candidates
from hale.scoring.clusters import TILE
from hale.scoring.comparators import Comparator
from hale.scoring.kernels.parameters import parameters
from hale.scoring.kernels.triton_kernels import forward_kernel, grad_entity_kernel
from hale.scoring.kernels.triton_rows import bits_kernel, combine_kernel
from hale.scoring.kernels.triton_scores import ACTIVATIONS, COMPARATORS

MAX_DIM = 512
"""Largest dimension: a tile holds whole vectors."""


@dataclass(frozen=True)
class Tile:
    """The block that one step of a pass processes, and the threads that process it.

    Args:
        rows: queries of a block, a power of two, at least 16.
        entities: entities of a block, a power of two, at least 32.
        depth: coordinates of a partial product, a power of two, at least 16.
        warps: warps of a program.
        stages: depth of software pipelining of the loads.
    """

    rows: int
    entities: int
    depth: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Plan:
    """Launch parameters; they affect speed and rounding only.

    Args:
        forward: tile of the forward pass.
        backward: tile of the entity gradient.
        occupancy: forward programs per multiprocessor.
        precision: ``input_precision`` of the dot products of scores.
        gradient_precision: ``input_precision`` of the dot products of gradients.
    """

    forward: Tile
    backward: Tile
    occupancy: int
    precision: str = "tf32x3"
    gradient_precision: str = "tf32x3"


def plan_for(dim: int, near: bool = False) -> Plan:
    """The default plan for a dimension; ``near``: blocks of one group and within a cluster."""
    warps = 4 if dim <= 64 else 8
    if near:
        return Plan(Tile(16, 32, 32, warps, 2), Tile(16, 32, 32, warps, 2), occupancy=8 // warps)
    return Plan(Tile(64, 32, 32, warps, 2), Tile(32, 64, 32, warps, 2), occupancy=8 // warps)


def supported(comparator: Comparator, activation: Activation, dtype: torch.dtype, dim: int) -> bool:
    """Whether :func:`triton_entity_logsumexp` supports these."""
    return (
        type(comparator) in COMPARATORS
        and type(activation) in ACTIVATIONS
        and (comparator.nonnegative or not activation.nonnegative)
        and dtype == torch.float32
        and 1 <= dim <= MAX_DIM
    )


def triton_entity_logsumexp(
    query_ND: Tensor,
    scale_N: Tensor,
    entity_ED: Tensor,
    comparator: Comparator,
    activation: Activation,
    known: Known | None = None,
    plan: Plan | None = None,
    candidates: Candidates | None = None,
) -> Tensor:
    """:func:`~hale.scoring.kernels.operations.entity_logsumexp` of what is :func:`supported`.

    Args:
        query_ND: as there, in float32.
        scale_N: the same.
        entity_ED: the same; processed in the order of the candidates.
        comparator: as there.
        activation: as there.
        known: as there.
        plan: launch parameters; by default those of :func:`plan_for`.
        candidates: as there.

    Returns:
        ``lse_N``, differentiable in the first three arguments (once).
    """
    log_weight_GC = None
    if candidates is not None:
        entity_ED = entity_ED.index_select(0, candidates.order_E)
        log_weight_GC = candidates.log_weight_GC.contiguous()
        if known is not None:
            known = known._replace(answer_A=candidates.place_E[known.answer_A])
    tensors = (query_ND, scale_N, entity_ED)
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    plan = plan or plan_for(query_ND.shape[1], near=candidates is not None)
    lse_N: Tensor = _EntityLogSumExp.apply(  # type: ignore[no-untyped-call]
        *(t.contiguous() for t in tensors),
        *(comparator, activation, known, log_weight_GC, plan, differentiable),
    )
    return lse_N


class _EntityLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query_ND: Tensor, scale_N: Tensor, entity_ED: Tensor, comparator: Comparator,
        activation: Activation, known: Known | None, log_weight_GC: Tensor | None, plan: Plan,
        differentiable: bool,
    ) -> Tensor:  # fmt: skip
        (num_rows, dim), num_entities = query_ND.shape, len(entity_ED)
        lse_N, peak_N, inverse_N, grad_scale_N = (torch.empty_like(scale_N) for _ in range(4))
        grad_query_ND = torch.empty_like(query_ND) if differentiable else None
        switches = {"MASKED": known is not None, "NEAR": log_weight_GC is not None}
        ctx.rest = _constants(comparator, activation, dim) | switches
        tile = plan.forward
        row_blocks = triton.cdiv(num_rows, tile.rows)
        tiles = triton.cdiv(num_entities, tile.entities)
        wanted = max(1, plan.occupancy * _multiprocessors(query_ND.device) // max(1, row_blocks))
        tiles_of_split = triton.cdiv(tiles, min(tiles, wanted))
        splits = triton.cdiv(tiles, tiles_of_split)
        partial_4SN = query_ND.new_empty((4, splits, num_rows))
        partial_SND = query_ND.new_empty((splits, num_rows, dim)) if differentiable else None
        with torch.cuda.device_of(query_ND):  # type: ignore[no-untyped-call]
            known_WN = None if known is None else _bits(known, num_rows, num_entities)
            if num_rows:
                forward_kernel[row_blocks, splits](
                    query_ND, scale_N, entity_ED, known_WN, log_weight_GC, partial_4SN, partial_SND,
                    num_rows, num_entities, tiles_of_split, **ctx.rest,
                    GRADIENT=differentiable, **_options(plan, tile, dim),
                )  # fmt: skip
                combine_kernel[num_rows,](
                    query_ND, partial_4SN, partial_SND,
                    lse_N, peak_N, inverse_N, grad_scale_N, grad_query_ND, num_rows, splits,
                    D=dim, BLOCK_D=_padded(dim), GRADIENT=differentiable,
                    BLOCK_S=triton.next_power_of_2(splits), CHUNK_S=8192 // _padded(dim),
                )  # fmt: skip
        ctx.plan = plan
        ctx.save_for_backward(
            query_ND, scale_N, entity_ED, known_WN, log_weight_GC, peak_N, inverse_N, grad_query_ND,
            grad_scale_N,
        )  # fmt: skip
        return lse_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, weight_N: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, peak_N, inverse_N, grad_query_ND, grad_scale_N = ctx.saved_tensors
        query_ND, scale_N, entity_ED, known_WN, log_weight_GC = inputs
        num_rows, num_entities = len(query_ND), len(entity_ED)
        grad_entity_ED = torch.empty_like(entity_ED) if ctx.needs_input_grad[2] else None
        if grad_entity_ED is not None:
            tile = ctx.plan.backward
            with torch.cuda.device_of(query_ND):  # type: ignore[no-untyped-call]
                grad_entity_kernel[triton.cdiv(num_entities, tile.entities),](
                    query_ND, scale_N, entity_ED, known_WN, log_weight_GC, peak_N, inverse_N,
                    weight_N, weight_N.stride(0), grad_entity_ED, num_rows, num_entities,
                    **ctx.rest, **_options(ctx.plan, tile, query_ND.shape[1]),
                )  # fmt: skip
        return (
            weight_N[:, None] * grad_query_ND,
            weight_N * grad_scale_N,
            grad_entity_ED,
            *(None,) * 6,
        )


def _constants(comparator: Comparator, activation: Activation, dim: int) -> dict[str, Any]:
    names = {"COMPARATOR": type(comparator).__name__, "ACTIVATION": type(activation).__name__}
    sizes = {"GROUP": GROUP, "TILE": TILE, "D": dim, "BLOCK_D": _padded(dim)}
    return parameters(activation) | names | sizes


def _options(plan: Plan, tile: Tile, dim: int) -> dict[str, Any]:
    return {
        "BLOCK_N": tile.rows,
        "BLOCK_E": tile.entities,
        "BLOCK_K": min(tile.depth, _padded(dim)),
        "PRECISION": plan.precision,
        "GRADIENT_PRECISION": plan.gradient_precision,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def _padded(dim: int) -> int:
    """The width of an operand of a dot product: a power of two, at least 16."""
    width: int = triton.next_power_of_2(dim)
    return max(16, width)


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":  # the interpreter
        return 4
    return torch.cuda.get_device_properties(device).multi_processor_count


def _bits(known: Known, num_rows: int, num_entities: int) -> Tensor:
    """``known_WN``: bit e % 32 of word (e // 32, n) says that the pair (n, e) is known."""
    known_WN = torch.zeros(
        (triton.cdiv(num_entities, 32), num_rows), dtype=torch.int32, device=known.start_N.device
    )
    bits_kernel[num_rows,](
        known.start_N, known.stop_N, known.answer_A, known_WN, num_rows, BLOCK_A=256
    )
    return known_WN
