"""Scores of chosen entities, such as positives and sampled negatives.

Callers use :func:`chosen_scores`; :func:`reference_scores` defines the result.

B  queries     K  chosen entities of a query     E  entities     D  dimension
"""

import torch
from torch import Tensor

from hale.scoring.activations import Activation
from hale.scoring.comparators import Comparator
from hale.scoring.kernels import native
from hale.scoring.kernels.backends import choose
from hale.scoring.kernels.native_chosen import native_chosen_scores
from hale.scoring.table import Table


def chosen_scores(
    query_BD: Tensor,
    scale_B: Tensor,
    entity: Table,
    entity_BK: Tensor,
    comparator: Comparator,
    activation: Activation,
) -> Tensor:
    """``-activation(distance(q_b, e))`` of the entities with ids ``entity_BK``.

    Equal, up to rounding, to the scores that
    :func:`~hale.scoring.kernels.entity_logsumexp.entity_logsumexp` sums over. On CPUs in float32
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
        HaleError: HALE_KERNEL forces the native backend, which does not support this call.
    """
    arguments = (query_BD, scale_B, entity, entity_BK, comparator, activation)
    inputs = (query_BD, scale_B, entity.tensor)
    backend = choose(
        query_BD.device, {"native": lambda: native.unavailable(inputs, comparator, activation)}
    )
    return native_chosen_scores(*arguments) if backend == "native" else reference_scores(*arguments)


def reference_scores(
    query_BD: Tensor,
    scale_B: Tensor,
    entity: Table,
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
