"""RotatE (Sun et al., ICLR 2019) with squared Euclidean distance, as in HaLE section 3.3."""

from torch import Tensor

from hale.lookup import rows
from hale.models.base import QueryModel, random_angles, require_even
from hale.models.geometry import circle, complex_multiply


class RotatE(QueryModel):
    """Phi(e, r) = Rot(r) e: one angle for each pair of coordinates (Eq. 12)."""

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: float = True,
        init_std: float | None = None,
    ) -> None:
        require_even(dim, "RotatE")
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.angle = random_angles(num_relations, dim // 2)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Rotate."""
        return complex_multiply(rows(circle(self.angle), relation_B), entity_BD)
