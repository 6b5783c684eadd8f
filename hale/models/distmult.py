"""DistMult (Yang et al., ICLR 2015) with squared Euclidean distance, as in HaLE section 3.3."""

import torch
from torch import Tensor, nn

from hale.lookup import rows
from hale.models.base import QueryModel


class DistMult(QueryModel):
    """Phi(e, r) = e * r, elementwise (Eq. 11); r starts near 1."""

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: bool = True,
        init_std: float | None = None,
    ) -> None:
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.factor = nn.Parameter(1 + 0.1 * torch.randn(num_relations, dim))

    def query(self, entity_B: Tensor, relation_B: Tensor) -> Tensor:
        """Stretch each coordinate."""
        return self.entity_at(entity_B) * rows(self.factor, relation_B)
