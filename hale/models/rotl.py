"""RotL (Wang et al., Findings of EMNLP 2021), as in HaLE section 3.3."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hale.lookup import rows
from hale.models.base import SOFTPLUS_ONE, QueryModel, random_angles, require_even
from hale.models.geometry import circle, complex_multiply, flexible_add


class RotL(QueryModel):
    """Phi(e, r) = Rot(r) e (+)_alpha r' with the flexible addition (Eq. 14).

    alpha_r > 0 is trained per relation and starts at 1.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: float = True,
        init_std: float | None = None,
    ) -> None:
        require_even(dim, "RotL")
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.angle = random_angles(num_relations, dim // 2)
        self.translation = self.normal(num_relations, dim)
        self.raw_alpha = nn.Parameter(torch.full((num_relations, 1), SOFTPLUS_ONE))

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Rotate, then add flexibly."""
        rotation_BD = rows(circle(self.angle), relation_B)
        translation_BD = rows(self.translation, relation_B)
        alpha_B1 = rows(F.softplus(self.raw_alpha), relation_B)
        rotated_BD = complex_multiply(rotation_BD, entity_BD)
        return flexible_add(rotated_BD, translation_BD, alpha_B1)
