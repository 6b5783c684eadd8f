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
from hale.models.geometry import exp0, givens_reflect, givens_rotate, mobius_add
from hale.scoring.comparators import Comparator, Poincare
from hale.scoring.table import lookup

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

    even_dim: ClassVar[bool] = True

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

    even_dim: ClassVar[bool] = True

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

    even_dim: ClassVar[bool] = True

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
