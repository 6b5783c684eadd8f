"""MuRE (Balazevic et al., NeurIPS 2019), MuRP's counterpart in Euclidean space."""

import torch
from torch import Tensor

from hale.lookup import rows
from hale.models.base import QueryModel, random_signs


class MuRE(QueryModel):
    """Phi(e, r) = e * r + r', elementwise: DistMult and TransE at once.

    MuRE translates the candidate, ``d(e * r, e' + r')``; here the query is translated instead, the
    same up to the sign of r'. Its biases of entities are left out, as MuRP's are. r starts near 1
    or -1 at random, as DistMult's does.
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
        self.translation = self.normal(num_relations, dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        """Stretch each coordinate, then translate."""
        factor_BD = rows(self.factor, relation_B)
        translation_BD = rows(self.translation, relation_B)
        return torch.addcmul(translation_BD, entity_BD, factor_BD)
