"""Bilinear models, score e^T M_r e': RESCAL, ComplEx, and DistMult compared by dot product."""

from typing import ClassVar

import torch
from torch import Tensor

from hale.errors import require
from hale.models.base import DotProductModel
from hale.models.euclidean import complex_modulus, complex_multiply
from hale.models.regularizers import f2, n3
from hale.scoring.table import lookup


def multiply_grouped(vector_BD: Tensor, matrix_GDX: Tensor, group_B: Tensor) -> Tensor:
    """``vector_b @ matrix_g`` for the group g of each row, ``product_BX``.

    The rows of a group are multiplied together, so no matrix is copied for each row. On CUDA it
    synchronises with the device to learn the groups' sizes.
    """
    order_B = group_B.argsort()
    present_U, count_U = torch.unique_consecutive(group_B[order_B], return_counts=True)
    parts = torch.split(vector_BD.index_select(0, order_B), count_U.tolist())
    matrices = matrix_GDX.index_select(0, present_U).unbind(0)
    product_BX = torch.cat([part @ matrix for part, matrix in zip(parts, matrices, strict=True)])
    return product_BX.index_select(0, order_B.argsort())


class RESCAL(DotProductModel):
    """Phi(e, r) = e^T M_r with a full matrix for each relation (Nickel et al., ICML 2011).

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, the embedding dimension of entities; a relation is a D x D matrix.
        f2: weight of the squared Frobenius norms of a batch's factors; at least 0.
        init_std: standard deviation of initial values; 1 / sqrt(2 dim) if not given.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        f2: float = 0.0,
        init_std: float | None = None,
    ) -> None:
        require("f2", f2, at_least=0)
        super().__init__(num_entities, num_relations, dim, init_std)
        self.f2 = f2
        self.relation = self.normal(num_relations, dim * dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        matrix_RDD = self.relation.view(-1, self.dim, self.dim)
        return multiply_grouped(entity_BD, matrix_RDD, relation_B)

    def penalty(self, entity_B: Tensor, relation_B: Tensor, target_B: Tensor) -> Tensor | None:
        """Squared Frobenius norms of the factors, times their weight; ``penalty_B``."""
        if not self.f2:
            return None
        norm_R1 = torch.linalg.vector_norm(self.relation, dim=1, keepdim=True)
        relation_B1 = lookup(norm_R1, relation_B)
        entity = self.table()
        head_BD, tail_BD = entity.lookup(entity_B), entity.lookup(target_B)
        return self.f2 * f2(head_BD, relation_B1, tail_BD)


class DistMultDot(DotProductModel):
    """Phi(e, r) = e * r, elementwise, compared by dot product (Yang et al., ICLR 2015).

    Args:
        num_entities: E, rows of the entity table.
        num_relations: 2R, the relations of the graph and their reciprocals.
        dim: D, the embedding dimension, counted in real numbers per entity.
        n3: weight of the nuclear 3-norm of a batch's factors (Lacroix et al., ICML 2018); at
            least 0.
        init_std: standard deviation of initial values; 1 / sqrt(2 dim) if not given.
    """

    def __init__(
        self,
        num_entities: int,
        num_relations: int,
        dim: int,
        n3: float = 0.05,
        init_std: float | None = None,
    ) -> None:
        require("n3", n3, at_least=0)
        super().__init__(num_entities, num_relations, dim, init_std)
        self.n3 = n3
        self.relation = self.normal(num_relations, dim)

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        return entity_BD * lookup(self.relation, relation_B)

    def penalty(self, entity_B: Tensor, relation_B: Tensor, target_B: Tensor) -> Tensor | None:
        """Nuclear 3-norms of the factors' moduli, times their weight; ``penalty_B``."""
        if not self.n3:
            return None
        relation_BD = lookup(self.relation, relation_B)
        entity = self.table()
        factors = (entity.lookup(entity_B), relation_BD, entity.lookup(target_B))
        return self.n3 * n3(*(self.modulus(factor_BD) for factor_BD in factors))

    def modulus(self, factor_BD: Tensor) -> Tensor:
        """The values whose cubed absolute values N3 sums: for complex factors, their moduli."""
        return factor_BD


class ComplEx(DistMultDot):
    """DistMultDot over complex numbers, with score Re <e, r, conj e'>.

    ``dim`` counts real numbers: D = 32 are 16 complex coordinates.

    Source: Trouillon et al. (ICML 2016), with the regularisation of Lacroix et al. (ICML 2018).
    """

    even_dim: ClassVar[bool] = True

    def query(self, entity_BD: Tensor, relation_B: Tensor) -> Tensor:
        return complex_multiply(entity_BD, lookup(self.relation, relation_B))

    def modulus(self, factor_BD: Tensor) -> Tensor:
        return complex_modulus(factor_BD)
