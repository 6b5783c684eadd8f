"""TransE (Bordes et al., NeurIPS 2013) with squared Euclidean distance, as in HaLE section 3.3."""

from torch import Tensor

from hale.lookup import rows
from hale.models.base import QueryModel


class TransE(QueryModel):
    """Phi(e, r) = e + r (Eq. 10)."""

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        relation_scale: float = True,
        init_std: float | None = None,
    ) -> None:
        super().__init__(num_entities, num_relations, dim, relation_scale, init_std)
        self.translation = self.normal(num_relations, dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Translate."""
        return entity_BD + rows(self.translation, relation_B)
