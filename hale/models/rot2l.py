"""Rot2L (Wang et al., Findings of EMNLP 2021): two stacked layers of RotL."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hale.lookup import rows
from hale.models.base import SOFTPLUS_ONE, QueryModel, random_angles, require_even
from hale.models.geometry import circle, complex_multiply, flexible_add, givens_rotate


class Rot2L(QueryModel):
    """Phi(e, r) = Rot(r) e' (+)_alpha r' of e' = tanh(Rot(s) e (+)_alpha' s').

    The first layer (s, s', alpha') is shared by all relations; the second is RotL's, one for each
    relation. The source describes two stacked rotation-translation layers that share a part of
    their parameters across relations, so that there are fewer than RotH has; which part, and the
    function between the layers, are choices made here.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: float = True,
        init_std: float | None = None,
    ) -> None:
        require_even(dim, "Rot2L")
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.shared_angle = random_angles(1, dim // 2)
        self.shared_translation = self.normal(1, dim)
        self.raw_shared_alpha = nn.Parameter(torch.full((1, 1), SOFTPLUS_ONE))
        self.angle = random_angles(num_relations, dim // 2)
        self.translation = self.normal(num_relations, dim)
        self.raw_alpha = nn.Parameter(torch.full((num_relations, 1), SOFTPLUS_ONE))

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Rotate and add flexibly, twice."""
        rotated_BD = givens_rotate(self.shared_angle, entity_BD)
        hidden_BD = flexible_add(
            rotated_BD, self.shared_translation, F.softplus(self.raw_shared_alpha)
        ).tanh()
        rotation_BD = rows(circle(self.angle), relation_B)
        translation_BD = rows(self.translation, relation_B)
        alpha_B1 = rows(F.softplus(self.raw_alpha), relation_B)
        return flexible_add(complex_multiply(rotation_BD, hidden_BD), translation_BD, alpha_B1)
