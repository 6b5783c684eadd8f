"""DistMult (Yang et al., ICLR 2015) with squared Euclidean distance, as in HaLE section 3.3."""

from torch import Tensor

from hale.lookup import rows
from hale.models.base import QueryModel, random_signs


class DistMult(QueryModel):
    """Phi(e, r) = e * r, elementwise (Eq. 11).

    r starts near 1 or -1 in each coordinate, at random: a reflection. Near 1 alone, every entity
    would start as the nearest to its own queries, and would stay so where r^2 = 1, in symmetric
    relations.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: float = True,
        init_std: float | None = None,
    ) -> None:
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.factor = random_signs(num_relations, dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Stretch each coordinate."""
        return entity_BD * rows(self.factor, relation_B)
