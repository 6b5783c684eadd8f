"""The two operations that need every entity or many of them, each on the backend that suits a call.

:func:`entity_logsumexp`, which dominates HaLE's training time, sums over all entities without the
N x E matrix; :func:`chosen_scores` scores positives and sampled negatives. ``reference`` defines
both in plain PyTorch for every comparator and activation, on every device and dtype; ``native``
(CPU) and ``triton`` (CUDA) are faster and support some of them. The environment variable
HALE_KERNEL forces one: ``reference``, ``native`` or ``triton``.

    N, B  queries     E  entities     K  chosen entities of a query     D  dimension
"""

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hale.errors import HaleError
from hale.graphs.ids import as_ids, as_int64
from hale.graphs.queries import Known
from hale.scoring.activations import Activation, Hanon, XExp
from hale.scoring.candidates import Candidates
from hale.scoring.comparators import Comparator, SquaredEuclidean
from hale.scoring.kernels import binding, reference
from hale.scoring.kernels.binding import ACTIVATIONS, COMPARATORS, MAX_LIMIT, Inputs, Kernel, load
from hale.scoring.kernels.native import native_entity_logsumexp
from hale.scoring.kernels.native_scores import native_chosen_scores

log = logging.getLogger(__name__)

DEFAULT = (SquaredEuclidean(), Hanon())
"""Comparator and activation of hale's default run."""
_OF_DEVICE = {"cpu": "native", "cuda": "triton"}


def chosen_scores(
    query_BD: Tensor,
    scale_B: Tensor,
    entity: reference.EntityTable,
    entity_BK: Tensor,
    comparator: Comparator,
    activation: Activation,
) -> Tensor:
    """``-activation(distance(q_b, e))`` of the entities with ids ``entity_BK``.

    Equal, up to rounding, to the scores that :func:`entity_logsumexp` sums over. On CPUs in float32
    the ``native`` backend computes them, elsewhere the reference in PyTorch.

    Args:
        query_BD: query vectors.
        scale_B: the comparator's positive scale of each query.
        entity: entity vectors.
        entity_BK: ids of entities.
        comparator: distance from a dot product, the two squared norms and the scale.
        activation: increasing map of the distance.

    Returns:
        ``score_BK``, differentiable in the first three arguments (natively once).

    Raises:
        IndexError: an entity id is out of range.
        ArgumentError: ids that are not integers, or not a row of them for each query.
        HaleError: HALE_KERNEL forces the native backend, which does not support this call.
    """
    entity_BK = as_int64("entities", entity_BK)
    binding.require_shapes(query_BD, scale_B, entity.tensor, entity_BK)
    arguments = (query_BD, scale_B, entity, entity_BK, comparator, activation)
    inputs = (query_BD, scale_B, entity.tensor)
    backend = choose(
        query_BD.device, {"native": lambda: unavailable(inputs, comparator, activation)}
    )
    if backend == "native":
        kernel = _kernel(comparator, activation)
        return native_chosen_scores(kernel, query_BD, scale_B, entity, entity_BK)
    return reference.reference_scores(*arguments)


def entity_logsumexp(
    query_ND: Tensor,
    scale_N: Tensor,
    entity_ED: Tensor,
    comparator: Comparator,
    activation: Activation,
    known: Known | None = None,
    candidates: Candidates | None = None,
) -> Tensor:
    """``lse_n = log sum_e exp(-activation(distance(q_n, e)))`` over all entities e, filtered.

    Args:
        query_ND: query vectors.
        scale_N: the comparator's positive scale of each query.
        entity_ED: entity vectors.
        comparator: distance from a dot product, the two squared norms and the scale.
        activation: increasing map of the distance.
        known: answers of each query that are excluded from its sum; None excludes nothing.
        candidates: weights of the terms, which may be 0; None is 1 for all.

    Returns:
        ``lse_N``, differentiable in the first three arguments (once).

    Raises:
        ArgumentError: known answers that are not integers, or not a row of them for each query.
        HaleError: HALE_KERNEL names no backend, or one that does not support this call.
    """
    binding.require_shapes(query_ND, scale_N, entity_ED, *(known[:2] if known else ()))
    if not len(query_ND):
        return query_ND.sum(1) * scale_N + entity_ED.sum()  # of no rows, and differentiable
    known = known and Known(*(as_ids("known answers", part) for part in known))
    if candidates:
        candidates.require_fit(len(query_ND), len(entity_ED))
    inputs, rest = (query_ND, scale_N, entity_ED), (comparator, activation, known)
    backend = _backend(inputs, comparator, activation)
    if backend == "native":
        return native_entity_logsumexp(_kernel(comparator, activation), *inputs, known, candidates)
    if backend == "triton":
        return _by_triton(*inputs, *rest, candidates=candidates)
    return reference.reference_logsumexp(*inputs, *rest, candidates)


def _by_triton(*inputs: Any, candidates: Candidates | None) -> Tensor:
    from hale.scoring.kernels.triton_lse import triton_entity_logsumexp

    compute: Callable[..., Tensor] = triton_entity_logsumexp
    return compute(*inputs, candidates=candidates)


def kernel_variant(
    device: torch.device,
    comparator: Comparator = DEFAULT[0],
    activation: Activation = DEFAULT[1],
    dim: int = 1,
    dtype: torch.dtype = torch.float32,
) -> str:
    """The code that :func:`entity_logsumexp` runs on ``device``, for a run's record.

    On CPUs scores of chosen entities run the same library; on CUDA they are plain PyTorch.

    Returns:
        The instructions that the native kernel uses (``avx2``, ``avx512``, ``avx512-bf16``,
        ``amx-bf16``, ``sse2``, ``neon``, ``generic``), or ``triton``, or ``reference``.

    Raises:
        HaleError: HALE_KERNEL names no backend, or one that does not support these.
    """
    vector = torch.empty((1, dim), dtype=dtype, device=device)
    backend = _backend((vector, vector[:, 0], vector), comparator, activation)
    return variant(comparator, activation) if backend == "native" else backend


def find_kernel(comparator: Comparator, activation: Activation) -> Kernel | str:
    """The kernel, compiled if necessary, or the reason why there is none."""
    supported = type(comparator) in COMPARATORS and type(activation) in ACTIVATIONS
    if not supported or (isinstance(activation, XExp) and activation.limit > MAX_LIMIT):
        return f"the native kernel does not support {activation} of {comparator}"
    frozen: Any = activation  # hashable: one of those in the table
    return load(type(comparator), frozen)


def _kernel(comparator: Comparator, activation: Activation) -> Kernel:
    kernel = find_kernel(comparator, activation)
    if isinstance(kernel, str):
        raise RuntimeError(kernel)
    return kernel


def variant(comparator: Comparator, activation: Activation) -> str:
    """The instructions that a native kernel uses: ``avx2``, ``amx-bf16``; see ``c/variant.c``.

    Raises:
        RuntimeError: there is no such kernel.
    """
    name: bytes = _kernel(comparator, activation).library.hale_variant()
    return name.decode()


def unavailable(inputs: Inputs, comparator: Comparator, activation: Activation) -> str | None:
    """Why the kernels do not support these tensors, in one line; None if they do (and compile)."""
    for tensor in inputs:
        if tensor.device.type != "cpu" or tensor.dtype != torch.float32:
            found = f"{tensor.dtype} on {tensor.device}"
            return f"the native kernel supports float32 on cpu, not {found}"
    kernel = find_kernel(comparator, activation)
    return kernel if isinstance(kernel, str) else None


def _backend(inputs: Inputs, comparator: Comparator, activation: Activation) -> str:
    return choose(
        inputs[0].device,
        {
            "native": lambda: unavailable(inputs, comparator, activation),
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


def choose(device: torch.device, obstacles: Mapping[str, Callable[[], str | None]]) -> str:
    """``native``, ``triton`` or ``reference``.

    Args:
        device: where the tensors are.
        obstacles: for each backend that implements the operation, other than the reference, a
            function that returns in one line why it does not support this call, or None if it
            does.

    Raises:
        HaleError: HALE_KERNEL names no backend, or one that implements the operation but does not
            support this call.
    """
    forced = os.environ.get("HALE_KERNEL", "")
    if forced not in ("", "reference", *_OF_DEVICE.values()):
        raise HaleError(f"HALE_KERNEL must be reference, native or triton, got {forced!r}")
    backend = forced or _OF_DEVICE.get(device.type, "reference")
    if backend not in obstacles:
        return "reference"
    obstacle = obstacles[backend]()
    if obstacle is None:
        return backend
    if forced:
        raise HaleError(f"HALE_KERNEL={forced}: {obstacle}")
    _note(obstacle)
    return "reference"


@cache
def _note(obstacle: str) -> None:
    log.warning("%s; using the slower reference", obstacle)
