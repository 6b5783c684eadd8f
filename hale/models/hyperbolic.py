"""Models of the Poincare ball (HaLE appendix A.2): MuRP, RefH, RotH and AttH.

Entities and translations are tangent vectors at the origin. A relation transforms the entity
linearly there, where isometries that fix the origin act as they do in the ball, and translates its
image in the ball by Moebius addition. The comparator is the squared hyperbolic distance, its
scale the relation's curvature.

The papers add trained biases of the two entities to the score. They are left out: the query's
changes no rank, and the candidate's is no part of the geometry that is compared here.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from hale.comparators import Comparator, Poincare
from hale.lookup import rows
from hale.models.base import QueryModel, random_angles, random_signs, require_even
from hale.models.geometry import exp0, givens_reflect, givens_rotate, mobius_add

MIN_CURVATURE = 1e-6
"""Flatter balls are numerically Euclidean, and divide by numbers near 0."""


class HyperbolicModel(QueryModel):
    """Phi(e, r) = exp_0(transform_r(e)) (+)_c exp_0(r').

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, real numbers per entity.
        relation_scale: train the curvature c_r > 0 of each relation; 1 without it.
        init_std: standard deviation of initial tangent vectors; 1 / sqrt(8 dim) if not given, so
            that the squared distance of two entities is about 1 (near the origin lengths count
            double).
    """

    comparator: ClassVar[Comparator] = Poincare()
    initial_norm_sq: ClassVar[float] = 0.125

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: bool = True,
        init_std: float | None = None,
    ) -> None:
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.translation = self.normal(num_relations, dim)

    def scale(self, relation_B: Tensor) -> Tensor:
        """The curvature of each query, ``scale_B``."""
        return super().scale(relation_B).clamp(min=MIN_CURVATURE)

    @abstractmethod
    def transform(self, tangent_BD: Tensor, relation_B: Tensor) -> Tensor:
        """The relation's linear map of tangent vectors at the origin."""

    def query(self, entity_B: Tensor, relation_B: Tensor) -> Tensor:
        """Transform in the tangent space, then translate in the ball."""
        c_B1 = self.scale(relation_B)[:, None]
        point_BD = exp0(self.transform(self.entity_at(entity_B), relation_B), c_B1)
        shift_BD = exp0(rows(self.translation, relation_B), c_B1)
        return mobius_add(point_BD, shift_BD, c_B1)


class MuRP(HyperbolicModel):
    """Stretch each coordinate (Balazevic et al., NeurIPS 2019); the curvature is 1 by default.

    Factors start with random signs, as the authors' do (uniform on [-1, 1]) and DistMult's here.

    MuRP translates the candidate, ``d(exp_0(R e), e' (+) r')``. As every model here is a query
    vector, the query is translated instead; in Euclidean space that is the same up to the sign of
    r', in the ball up to a rotation besides, since Moebius addition does not commute.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: bool = False,
        init_std: float | None = None,
    ) -> None:
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.factor = random_signs(num_relations, dim)

    def transform(self, tangent_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Stretch."""
        return tangent_BD * rows(self.factor, relation_B)


class RotH(HyperbolicModel):
    """Rotate each plane (Chami et al., ACL 2020).

    The authors' code translates once more before it rotates; this is the formula of the paper.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: bool = True,
        init_std: float | None = None,
    ) -> None:
        require_even(dim, "RotH")
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.angle = random_angles(num_relations, dim // 2)

    def transform(self, tangent_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Rotate."""
        return givens_rotate(rows(self.angle, relation_B), tangent_BD)


class RefH(HyperbolicModel):
    """Reflect each plane (Chami et al., ACL 2020)."""

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: bool = True,
        init_std: float | None = None,
    ) -> None:
        require_even(dim, "RefH")
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.angle = random_angles(num_relations, dim // 2)

    def transform(self, tangent_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Reflect."""
        return givens_reflect(rows(self.angle, relation_B), tangent_BD)


class AttH(HyperbolicModel):
    """Weigh the reflected and the rotated entity by attention (Chami et al., ACL 2020).

    The weights are the softmax of the two vectors' dot products with the relation's context
    vector, over sqrt(D).
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: bool = True,
        init_std: float | None = None,
    ) -> None:
        require_even(dim, "AttH")
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.reflection = random_angles(num_relations, dim // 2)
        self.rotation = random_angles(num_relations, dim // 2)
        self.context = self.normal(num_relations, dim)

    def transform(self, tangent_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Mix reflection and rotation."""
        reflected_BD = givens_reflect(rows(self.reflection, relation_B), tangent_BD)
        rotated_BD = givens_rotate(rows(self.rotation, relation_B), tangent_BD)
        either_B2D = torch.stack((reflected_BD, rotated_BD), 1)
        context_B1D = rows(self.context, relation_B)[:, None]
        logit_B2 = (either_B2D * context_B1D).sum(2) * self.dim**-0.5
        attended_BD: Tensor = (logit_B2.softmax(1)[:, :, None] * either_B2D).sum(1)
        return attended_BD
