"""RotE (Chami et al., ACL 2020), as in HaLE section 3.3."""

from torch import Tensor

from hale.lookup import rows
from hale.models.base import QueryModel, random_angles, require_even
from hale.models.geometry import circle, complex_multiply


class RotE(QueryModel):
    """Phi(e, r) = Rot(r) e + r' (Eq. 13)."""

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: float = True,
        init_std: float | None = None,
    ) -> None:
        require_even(dim, "RotE")
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.angle = random_angles(num_relations, dim // 2)
        self.translation = self.normal(num_relations, dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Rotate, then translate."""
        rotation_BD = rows(circle(self.angle), relation_B)
        translation_BD = rows(self.translation, relation_B)
        return complex_multiply(rotation_BD, entity_BD) + translation_BD
