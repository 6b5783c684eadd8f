"""Models in the Poincare ball (HaLE appendix A.2): MuRP, RefH, RotH and AttH.

Entities and translations are tangent vectors at the origin. A relation transforms the entity
linearly, in the tangent space or in the ball (isometries that fix the origin act alike in both),
and translates it by Moebius addition in the ball. The comparator is the squared hyperbolic
distance; its scale is the relation's curvature.

The papers add trained biases of the two entities to the score. They are omitted here: the query's
bias changes no rank, and the candidate's is not part of the geometry that is compared.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from hale.models.base import DistanceModel, random_angles, random_signs
from hale.models.euclidean import givens_reflect, givens_rotate
from hale.scoring.comparators import Comparator, Poincare
from hale.scoring.table import lookup

TINY = 1e-15
MIN_CURVATURE = 1e-6
"""Flatter balls are numerically Euclidean, and would divide by values near 0."""


class HyperbolicModel(DistanceModel):
    """Phi(e, r) = point_r(e) (+)_c exp_0(r'); the scale c_r is the curvature, 1 if not trained.

    Near the origin hyperbolic lengths are twice the Euclidean ones, so ``init_std`` is
    1 / sqrt(8 dim) by default.
    """

    comparator: ClassVar[Comparator] = Poincare()
    initial_norm_sq: ClassVar[float] = 0.125

    def build(self) -> None:
        self.translation = self.normal(self.num_relations, self.dim)

    def scale(self, relation_B: Tensor) -> Tensor:
        return super().scale(relation_B).clamp(min=MIN_CURVATURE)

    @abstractmethod
    def point(self, entity_BD: Tensor, relation_B: Tensor, c_B1: Tensor) -> Tensor:
        """The point in the ball to which the relation maps the entity before the translation."""

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        c_B1 = self.scale(relation_B)[:, None]
        point_BD = self.point(entity_BD, relation_B, c_B1)
        shift_BD = exp0(lookup(self.translation, relation_B), c_B1)
        return mobius_add(point_BD, shift_BD, c_B1)


class MuRP(HyperbolicModel):
    """Stretch each coordinate (Balazevic et al., NeurIPS 2019, where the curvature is 1).

    Factors are initialised with random signs, as the authors' are (uniform on [-1, 1]) and as in
    DistMult here.

    MuRP translates the candidate, ``d(exp_0(R e), e' (+) r')``. As every model here is a query
    vector, the query is translated instead. In Euclidean space that is the same up to the sign of
    r'; in the ball it also differs by a rotation, since Moebius addition does not commute.
    """

    def build(self) -> None:
        super().build()
        self.factor = random_signs(self.num_relations, self.dim)

    def point(self, entity_BD: Tensor, relation_B: Tensor, c_B1: Tensor) -> Tensor:
        return exp0(entity_BD * lookup(self.factor, relation_B), c_B1)


class RotH(HyperbolicModel):
    """Translate, then rotate each plane (Chami et al., ACL 2020).

    The paper's formula translates only after the rotation; the authors' code, which produced its
    results, also translates before it. That translation is initialised to 0 here, where the two
    agree.
    """

    dim_multiple: ClassVar[int] = 2

    def build(self) -> None:
        super().build()
        self.angle = random_angles(self.num_relations, self.dim // 2)
        self.first_translation = nn.Parameter(torch.zeros(self.num_relations, self.dim))

    def point(self, entity_BD: Tensor, relation_B: Tensor, c_B1: Tensor) -> Tensor:
        shift_BD = exp0(lookup(self.first_translation, relation_B), c_B1)
        shifted_BD = mobius_add(exp0(entity_BD, c_B1), shift_BD, c_B1)
        return givens_rotate(lookup(self.angle, relation_B), shifted_BD)


class RefH(HyperbolicModel):
    """Reflect each plane (Chami et al., ACL 2020)."""

    dim_multiple: ClassVar[int] = 2

    def build(self) -> None:
        super().build()
        self.angle = random_angles(self.num_relations, self.dim // 2)

    def point(self, entity_BD: Tensor, relation_B: Tensor, c_B1: Tensor) -> Tensor:
        return exp0(givens_reflect(lookup(self.angle, relation_B), entity_BD), c_B1)


class AttH(HyperbolicModel):
    """Average the reflected and the rotated entity with attention (Chami et al., ACL 2020).

    The weights are the softmax of the two vectors' dot products with the relation's context
    vector, divided by sqrt(D).
    """

    dim_multiple: ClassVar[int] = 2

    def build(self) -> None:
        super().build()
        self.reflection = random_angles(self.num_relations, self.dim // 2)
        self.rotation = random_angles(self.num_relations, self.dim // 2)
        self.context = self.normal(self.num_relations, self.dim)

    def point(self, entity_BD: Tensor, relation_B: Tensor, c_B1: Tensor) -> Tensor:
        reflected_BD = givens_reflect(lookup(self.reflection, relation_B), entity_BD)
        rotated_BD = givens_rotate(lookup(self.rotation, relation_B), entity_BD)
        either_B2D = torch.stack((reflected_BD, rotated_BD), 1)
        context_B1D = lookup(self.context, relation_B)[:, None]
        logit_B2 = (either_B2D * context_B1D).sum(2) * self.dim**-0.5
        attended_BD: Tensor = (logit_B2.softmax(1)[:, :, None] * either_B2D).sum(1)
        return exp0(attended_BD, c_B1)


# Functions on points of the Poincare ball of curvature -c, whose radius is 1/sqrt(c); ``c_B1``
# holds one c per row. Points are kept away from the ball's edge by a margin that the dtype can
# resolve, so that every function is finite, with finite gradients, for any input. Sources: Chami
# et al. (ACL 2020); Ganea et al., "Hyperbolic Neural Networks" (NeurIPS 2018).


def project_to_ball(x_BD: Tensor, c_B1: Tensor) -> Tensor:
    """Scale points beyond the margin back to norm ``(1 - margin) / sqrt(c)``; others are unchanged.

    The margin is 4e-3 in float32 and coarser types, 1e-5 in float64.
    """
    margin = 1e-5 if x_BD.dtype == torch.float64 else 4e-3
    limit_B1 = (1 - margin) / c_B1.sqrt()
    norm_B1 = torch.linalg.vector_norm(x_BD, dim=-1, keepdim=True)
    return x_BD * (limit_B1 / torch.maximum(norm_B1, limit_B1))


def exp0(tangent_BD: Tensor, c_B1: Tensor) -> Tensor:
    """Exponential map at the origin, ``tanh(sqrt(c)|v|) v / (sqrt(c)|v|)``, projected."""
    length_B1 = _scaled_norm(tangent_BD, c_B1)
    return project_to_ball(tangent_BD * (length_B1.tanh() / length_B1), c_B1)


def log0(point_BD: Tensor, c_B1: Tensor) -> Tensor:
    """Logarithmic map at the origin, the inverse of :func:`exp0`, of points in the ball."""
    point_BD = project_to_ball(point_BD, c_B1)
    length_B1 = _scaled_norm(point_BD, c_B1)
    return point_BD * (length_B1.atanh() / length_B1)


def mobius_add(x_BD: Tensor, y_BD: Tensor, c_B1: Tensor) -> Tensor:
    """Moebius addition of points in the ball, x (+) y, projected; it does not commute."""
    dot_B1 = (x_BD * y_BD).sum(-1, keepdim=True)
    x_sq_B1, y_sq_B1 = (z.square().sum(-1, keepdim=True) for z in (x_BD, y_BD))
    along_x_B1 = 1 + 2 * c_B1 * dot_B1 + c_B1 * y_sq_B1
    along_y_B1 = 1 - c_B1 * x_sq_B1
    denominator_B1 = 1 + 2 * c_B1 * dot_B1 + c_B1.square() * x_sq_B1 * y_sq_B1
    sum_BD = (along_x_B1 * x_BD + along_y_B1 * y_BD) / denominator_B1.clamp(min=TINY)
    return project_to_ball(sum_BD, c_B1)


def _scaled_norm(x_BD: Tensor, c_B1: Tensor) -> Tensor:
    norm_B1: Tensor = torch.linalg.vector_norm(x_BD, dim=-1, keepdim=True)
    return (c_B1.sqrt() * norm_B1).clamp(min=TINY)
