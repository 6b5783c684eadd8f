"""Comparators: the distance between a query and an entity, from one dot product.

Every comparator is an elementwise function of the dot product ``q.e``, the squared norms ``|q|^2``
and ``|e|^2``, and one positive number per query, its ``scale``. The distances of many queries to
all entities are therefore one matrix product and an elementwise function of its result. The
arguments may have any shapes that broadcast.

``nonnegative`` means that no distance is below 0, as some activations require.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Comparator(Protocol):
    """Elementwise distance from a dot product, the two squared norms and a scale."""

    @property
    def nonnegative(self) -> bool:
        """Whether every distance is >= 0."""

    def __call__(self, dot: Tensor, query_sq: Tensor, entity_sq: Tensor, scale: Tensor) -> Tensor:
        """Distance from ``q.e``, ``|q|^2``, ``|e|^2`` and the query's scale (all broadcast)."""


@dataclass(frozen=True)
class SquaredEuclidean:
    """scale * |q - e|^2, the distance of Eq. 8; the scale is the relation's c_r."""

    nonnegative: ClassVar[bool] = True

    def __call__(self, dot: Tensor, query_sq: Tensor, entity_sq: Tensor, scale: Tensor) -> Tensor:
        """Expand the square; values below 0 by rounding are clamped to 0."""
        return scale * (query_sq + entity_sq - 2 * dot).clamp(min=0)


@dataclass(frozen=True)
class NegativeDot:
    """-scale * q.e, for the bilinear models."""

    nonnegative: ClassVar[bool] = False

    def __call__(self, dot: Tensor, query_sq: Tensor, entity_sq: Tensor, scale: Tensor) -> Tensor:
        """Negate the scaled dot product."""
        return -scale * dot


@dataclass(frozen=True)
class Poincare:
    """Squared hyperbolic distance in the Poincare ball of curvature -scale (Eq. 15).

    ``(2/sqrt(c) artanh(sqrt(c) |-q (+)_c exp_0(e)|))^2`` of a query point q in the ball and an
    entity given by its tangent vector e at the origin, with c the query's scale. By the hyperbolic
    law of cosines, with A = 2 artanh(sqrt(c)|q|), B = 2 sqrt(c)|e| and theta the angle between
    them, ``sqrt(c) d = 2 arsinh(sqrt(sinh^2((A-B)/2) + sinh A sinh B (1 - cos theta) / 2))``: the
    only cancellation is in 1 - cos theta. Values and gradients are finite for scales of at least
    1e-6, at the origin, at the edge, for equal points, and for entities of any norm.
    """

    nonnegative: ClassVar[bool] = True
    _tiny: ClassVar[float] = 1e-15  # least square, so that nothing is divided by 0
    _reach: ClassVar[float] = 30.0  # greatest B, so that sinh is finite in float32

    def __call__(self, dot: Tensor, query_sq: Tensor, entity_sq: Tensor, scale: Tensor) -> Tensor:
        """Evaluate by the law of cosines."""
        root = scale.sqrt()
        query_norm = query_sq.clamp(min=self._tiny).sqrt()
        entity_norm = entity_sq.clamp(min=self._tiny).sqrt()
        edge = 1 - 4 * torch.finfo(dot.dtype).eps
        side_a = 2 * torch.atanh((root * query_norm).clamp(max=edge))
        side_b = (2 * root * entity_norm).clamp(max=self._reach)
        cosine = (dot / (query_norm * entity_norm)).clamp(min=-1, max=1)
        half = (
            torch.sinh((side_a - side_b) / 2).square()
            + torch.sinh(side_a) * torch.sinh(side_b) * (1 - cosine) / 2
        )
        return (2 * torch.asinh(half.clamp(min=self._tiny).sqrt())).square() / scale
